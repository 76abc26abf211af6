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
        self._resampler: tuple[int, soxr.ResampleStream] | None = None  # and the rate it takes, Hz

    async def start(self) -> None:
        self.session.voices.append(self.playout)

    @handles(OutputAudioRawFrame)
    def play(self, frame: OutputAudioRawFrame) -> None:
        if not self.playout.busy:
            self.playout.mark(self._started, interruptible=frame.interruptible)
        marks = frame.marks if isinstance(frame, SpokenAudioFrame) else ()
        audio = frame.audio
        if frame.num_channels > 1:
            pairs = np.frombuffer(audio, np.int16).reshape(-1, frame.num_channels)
            audio = pairs.mean(axis=1).astype(np.int16).tobytes()
        if frame.sample_rate != self.sample_rate:
            audio = self._resample(audio, frame.sample_rate)
            marks = tuple((s * self.sample_rate // frame.sample_rate, c) for s, c in marks)
        self.playout.write(audio, self.response, marks, interruptible=frame.interruptible)

    @handles(TTSStoppedFrame)
    def finish(self, frame: TTSStoppedFrame) -> None:
        if self._resampler is not None:
            rate = self._resampler[0]
            self.playout.write(self._resample(b"", rate, last=True), interruptible=frame.interruptible)
        response = self.response
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
        self._resampler = None
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

    def _resample(self, audio: bytes, rate: int, last: bool = False) -> bytes:
        if self._resampler is None or self._resampler[0] != rate:
            stream = soxr.ResampleStream(rate, self.sample_rate, 1, dtype="int16")
            self._resampler = (rate, stream)
        out = self._resampler[1].resample_chunk(np.frombuffer(audio, np.int16), last=last)
        if last:
            self._resampler = None
        return bytes(np.asarray(out, np.int16).tobytes())

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
