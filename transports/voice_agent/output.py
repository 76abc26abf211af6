"""The bot's voice as whole chunks, each a file, and what of them the client has played by now."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections import deque
from dataclasses import dataclass
from itertools import count
from unicodedata import category

import numpy as np

from ...pipeline import BargeinError, Response, SpokenAudioFrame, handles
from ...pipeline.frames import (
    FrameDirection,
    InterruptionFrame,
    OutputAudioRawFrame,
    RecordingFrame,
    SpeechHoldFrame,
    SpeechOnlyInterruptionFrame,
    SpeechReleaseFrame,
    TTSStoppedFrame,
)
from ..output import AudioOutput
from ..websocket import WebSocketConnection
from .encoding import Format, encode
from .protocol import VoiceAgentProtocol

MAX_CHUNK_S = 10.0  # a sentence that takes longer is sent in pieces
# How much of the voice a client is given before it is due. An interruption throws it away, and a client
# on a slow line hears of the interruption behind what is on its way.
AHEAD_S = 10.0
TICK_S = 0.02  # the grain of what is known as played
MAX_BEHIND_S = 2.0  # a client that plays later than this is not waited for


class NoTranscriber(BargeinError, RuntimeError):
    """Raised when a client sends a recording to a bot that has nothing to transcribe it."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of the voice: mono s16le at `rate` Hz, which the client has at positions begin to end."""

    response: Response | None
    pcm: bytes
    rate: int
    text: str
    begin: int
    end: int
    interruptible: bool


class VoiceAgentOutput(AudioOutput):
    """Sends the bot's speech a sentence at a time, and follows the client's playing.

    A client plays chunk after chunk as it gets them, so when they were sent says what it plays; one that
    acknowledges them with `audio_played` makes that exact. Speech that no interruption cuts is sent again
    after one, without what was played: the client drops all it has.
    """

    def __init__(self, connection: WebSocketConnection, protocol: VoiceAgentProtocol) -> None:
        super().__init__(protocol.output_rate)
        self._connection = connection
        self._protocol = protocol
        self._gathered: list[OutputAudioRawFrame] = []  # of the chunk that is being made
        self._numbers = count()
        self._voiced: Response | None = None  # `speech_stream_start` was sent of it, its end was not
        self._told_to = 0  # how far the text of `_voiced` has left with chunks, in characters
        self._playing = asyncio.Event()  # set when there is something new to play
        self._position = 0  # samples that a client which plays at once has played; without pauses
        self._unplayed: deque[tuple[int, Chunk]] = deque()  # with their numbers; a few played ones too
        self._again: asyncio.Task[None] | None = None  # sends what an interruption must not cut

    async def start(self) -> None:
        await super().start()
        self.spawn(self._play(), f"{self.name}.play")

    @handles(OutputAudioRawFrame)
    async def gather(self, frame: OutputAudioRawFrame) -> None:
        self._gathered.append(frame)
        if self._ends_chunk(frame):
            await self._send_gathered()

    @handles(TTSStoppedFrame)
    async def end_speech(self, frame: TTSStoppedFrame) -> None:
        await self._send_gathered()
        if self._voiced is not None and self._voiced is self.response:
            self._connection.send({"type": "speech_stream_end", "responseId": self._voiced.id})
            self._voiced = None
        self.finish(frame)
        self._playing.set()

    @handles(InterruptionFrame, SpeechOnlyInterruptionFrame)
    def interrupted(self, frame: InterruptionFrame | SpeechOnlyInterruptionFrame) -> None:
        self._gathered = [kept for kept in self._gathered if not kept.interruptible]
        if self._voiced is not None and self._voiced.interruptible:
            self._voiced = None
        self._protocol.chunks.clear()
        protected = [c for _, c in self._unplayed if not c.interruptible and c.end > self._position]
        self._unplayed.clear()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if protected:
            self._again = self.spawn(self._send_again(protected), f"{self.name}.again")
        super().interrupted(frame)

    @handles(SpeechHoldFrame)
    def hold(self, frame: SpeechHoldFrame, direction: FrameDirection) -> None:
        """Nothing: nobody can hold what the client has already."""
        self.push(frame, direction)

    @handles(SpeechReleaseFrame)
    def release(self, frame: SpeechReleaseFrame, direction: FrameDirection) -> None:
        self.push(frame, direction)

    @handles(RecordingFrame)
    def nobody_transcribed(self, frame: RecordingFrame) -> None:
        problem = "this bot transcribes no recordings; give it an `stt`, or send `transcript` messages"
        if not frame.transcript.done():
            frame.transcript.set_exception(NoTranscriber(problem))

    def acknowledge(self, number: int) -> None:
        """The client has played this chunk to its end."""
        chunk = dict(self._unplayed).get(number)
        if chunk is None:
            return
        self._read(chunk.end - self._position)  # it may be ahead of a late event loop
        behind_s = (self._position - chunk.end) / self.sample_rate
        self.playout.delay_ms = 1000 * min(behind_s, MAX_BEHIND_S)
        self.playout.note_heard()

    def _ends_chunk(self, frame: OutputAudioRawFrame) -> bool:
        seconds = sum(len(f.audio) / 2 / f.num_channels / f.sample_rate for f in self._gathered)
        if seconds >= MAX_CHUNK_S:
            return True
        if self.response is None or not (isinstance(frame, SpokenAudioFrame) and frame.closes):
            return False
        spoken = self.response.text[: frame.marks[-1][1]]
        return spoken == self.response.text or _ends_in_pause(spoken)

    async def _send_gathered(self) -> None:
        """Send the chunk and let its playing begin. An interruption before that cancels it."""
        frames, self._gathered = self._gathered, []
        sounding = [frame for frame in frames if frame.audio]
        if not sounding:
            for frame in frames:
                self.play(frame)
            return
        await asyncio.sleep(max(0.0, self.playout.queued_ms / 1000 - AHEAD_S))
        pcm, rate = b"".join(map(_mono, sounding)), sounding[0].sample_rate
        data = await self._encode(pcm, rate)
        # From here on there is no await: what was sent is known as sent.
        if self._voiced is None or self._voiced is not self.response:
            self._voiced, self._told_to = self.response, 0
            self._connection.send({"type": "speech_stream_start", **_about(self.response)})
        text = self._take_text(frames)
        begin = self._position + self._queued
        for frame in frames:
            self.play(frame)
        interruptible = all(frame.interruptible for frame in frames)
        end = self._position + self._queued
        self._send(Chunk(self.response, pcm, rate, text, begin, end, interruptible), data)
        self._playing.set()

    async def _send_again(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            played = max(0, self._position - chunk.begin) / (chunk.end - chunk.begin)
            left = chunk.pcm[2 * int(played * len(chunk.pcm) / 2) :]
            self._send(chunk, await self._encode(left, chunk.rate))

    def _send(self, chunk: Chunk, data: str) -> None:
        number = next(self._numbers)
        played = self._position - int(MAX_BEHIND_S * self.sample_rate)
        while self._unplayed and self._unplayed[0][1].end < played:
            self._unplayed.popleft()
        self._protocol.chunks[number] = {"data": data}
        self._unplayed.append((number, chunk))
        about = {"format": self._protocol.audio_format, "text": chunk.text, **_about(chunk.response)}
        self._connection.send({"type": "audio_chunk", "chunkId": number, "data": "", **about})

    async def _encode(self, pcm: bytes, rate: int) -> str:
        return await asyncio.to_thread(_encoded, pcm, rate, self._protocol.audio_format)

    def _take_text(self, frames: list[OutputAudioRawFrame]) -> str:
        """The words of the chunk, as far as they are known."""
        marks = [mark for f in frames if isinstance(f, SpokenAudioFrame) for mark in f.marks]
        if self.response is None or not marks:
            return ""
        begin, self._told_to = self._told_to, marks[-1][1]
        return self.response.text[begin : self._told_to].strip()

    @property
    def _queued(self) -> int:
        return round(self.playout.queued_ms * self.sample_rate / 1000)

    async def _play(self) -> None:
        """Read the playout as the client plays: at the pace of speech, from when a chunk was sent."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._playing.wait()
            self._playing.clear()
            began, begun_at = clock(), self._position
            while self.playout.busy or self._speaking:
                await asyncio.sleep(TICK_S)
                self._read(begun_at + int((clock() - began) * self.sample_rate) - self._position)

    def _read(self, samples: int) -> None:
        if samples > 0:
            self._position += samples
            self.playout.read(samples)


def _about(response: Response | None) -> dict[str, str]:
    return {} if response is None else {"responseId": response.id}


def _ends_in_pause(text: str) -> bool:
    """Whether a small pause belongs behind this: after a punctuation mark, or at the end of a line."""
    words = text.rstrip()
    closing = (c for c in reversed(words) if category(c) not in ("Pe", "Pf") and c not in "\"'")
    return "\n" in text[len(words) :] or category(next(closing, " ")) == "Po"


def _mono(frame: OutputAudioRawFrame) -> bytes:
    if frame.num_channels == 1:
        return frame.audio
    samples = np.frombuffer(frame.audio, np.int16).reshape(-1, frame.num_channels)
    mono: bytes = samples.mean(axis=1).astype(np.int16).tobytes()
    return mono


def _encoded(pcm: bytes, rate: int, audio_format: Format) -> str:
    return b64encode(encode(pcm, rate, audio_format)).decode()
