"""The end of speech: audio frames into a playout buffer that a transport reads at its own pace."""

from __future__ import annotations

import asyncio

import numpy as np
import soxr
from pipecat.utils.text.base_text_aggregator import TextType

from ..pipeline import DOWNSTREAM, Processor, Response, SpokenAudioFrame, Stage, handles
from ..pipeline.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EndFrame,
    FrameDirection,
    InterruptionFrame,
    OutputAudioRawFrame,
    SpeechHoldFrame,
    SpeechOnlyInterruptionFrame,
    SpeechReleaseFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from .playout import Playout

Mark = tuple[int, int]  # sample, and character heard once it has been played; see `SpokenAudioFrame`
Marks = tuple[Mark, ...]


class AudioOutput(Processor):
    """Plays the bot's speech and knows what of it was heard.

    The transport calls `playout.read(samples)` at the pace at which it plays. Words are pushed on as
    TTSTextFrames when they have been heard; bot-speaking frames go both ways.

    Args:
        sample_rate: Of the playout, in Hz; audio of other rates is resampled.
    """

    stage = Stage.SPEECH

    def __init__(self, sample_rate: int = 24_000) -> None:
        self.sample_rate = sample_rate
        self.playout = Playout(sample_rate, self._heard, self._stopped)
        self._speaking = False  # between BotStarted- and BotStoppedSpeakingFrame
        self._resampling: _Resampling | None = None

    async def start(self) -> None:
        self.session.voices.append(self.playout)

    @handles(OutputAudioRawFrame)
    def play(self, frame: OutputAudioRawFrame) -> None:
        if frame.audio:  # else it says what was heard of audio before it
            self.playout.mark(self._started, interruptible=frame.interruptible)
        marks = frame.marks if isinstance(frame, SpokenAudioFrame) else ()
        audio = frame.audio
        if frame.num_channels > 1:
            pairs = np.frombuffer(audio, np.int16).reshape(-1, frame.num_channels)
            audio = pairs.mean(axis=1).astype(np.int16).tobytes()
        if frame.sample_rate != self.sample_rate:
            if self._resampling is None or self._resampling.rate != frame.sample_rate:
                self._resampling = _Resampling(frame.sample_rate, self.sample_rate)
            audio, marks = self._resampling.feed(audio, marks)
        self.playout.write(audio, self.response, marks, interruptible=frame.interruptible)
        if isinstance(frame, SpokenAudioFrame) and frame.closes:
            self._write_rest(interruptible=frame.interruptible)

    @handles(TTSStoppedFrame)
    def finish(self, frame: TTSStoppedFrame) -> None:
        response = self.response
        self._write_rest(interruptible=frame.interruptible)
        self.playout.mark(lambda: self._said(response), interruptible=frame.interruptible)
        self.push(frame)

    @handles(SpeechHoldFrame)
    def hold(self, frame: SpeechHoldFrame, direction: FrameDirection) -> None:
        self.playout.hold(frame.gain)
        self.push(frame, direction)

    @handles(SpeechReleaseFrame)
    def release(self, frame: SpeechReleaseFrame, direction: FrameDirection) -> None:
        self.playout.release()
        self.push(frame, direction)

    @handles(InterruptionFrame, SpeechOnlyInterruptionFrame)
    def interrupted(self, frame: InterruptionFrame | SpeechOnlyInterruptionFrame) -> None:
        # The session has cut the playout already; uninterruptible speech goes on.
        self._resampling = None
        if not self.playout.busy:
            self._stopped()

    @handles(EndFrame)
    async def end(self, frame: EndFrame) -> None:
        """What is said is said to its end, then the EndFrame passes."""
        if self.playout.busy:
            played = asyncio.Event()
            self.playout.mark(played.set, interruptible=False)
            await played.wait()
        self.push(frame, DOWNSTREAM)

    def _write_rest(self, *, interruptible: bool) -> None:
        """Write what the resampler keeps back until more comes."""
        if self._resampling is not None:
            audio, marks = self._resampling.feed(b"", last=True)
            self.playout.write(audio, self.response, marks, interruptible=interruptible)
            self._resampling = None

    def _heard(self, response: Response, start: int, end: int) -> None:
        words = TTSTextFrame(response.text[start:end], TextType.WORD, context_id=response.id)
        words.includes_inter_frame_spaces = True
        self.push(words)

    def _started(self) -> None:
        if not self._speaking:
            self._speaking = True
            self.broadcast(BotStartedSpeakingFrame)

    def _said(self, response: Response | None) -> None:
        if response is not None:
            self.session.finish_response(response)
        if not self.playout.busy:
            self._stopped()

    def _stopped(self) -> None:
        if self._speaking:
            self._speaking = False
            self.broadcast(BotStoppedSpeakingFrame)


class _Resampling:
    """A stream of audio on its way to another rate, with the places of its words.

    The resampler keeps the end of what it is fed back until more comes; the marks there wait with it.
    """

    def __init__(self, rate: int, to_rate: int) -> None:
        self.rate = rate  # of what is fed, Hz
        self._to_rate = to_rate
        self._stream = soxr.ResampleStream(rate, to_rate, 1, dtype="int16")
        self._fed = 0  # samples at `rate`
        self._given = 0  # samples at `to_rate`
        self._marks: list[Mark] = []  # that have not been given: (sample at `to_rate`, character)

    def feed(self, audio: bytes, marks: Marks = (), *, last: bool = False) -> tuple[bytes, Marks]:
        """What can be given by now, and its marks, counted from its beginning."""
        samples = np.frombuffer(audio, np.int16)
        self._marks += [((self._fed + s) * self._to_rate // self.rate, c) for s, c in marks]
        self._fed += len(samples)
        out = np.asarray(self._stream.resample_chunk(samples, last=last), np.int16)
        begin, self._given = self._given, self._given + len(out)
        ready = [mark for mark in self._marks if last or mark[0] <= self._given]
        del self._marks[: len(ready)]
        return out.tobytes(), tuple((min(s - begin, len(out)), c) for s, c in ready)
