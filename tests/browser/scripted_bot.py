"""A bot without models: it answers each typed message with a fixed text, and speaks each word as a tone."""

from __future__ import annotations

import asyncio

import numpy as np
from pipecat.frames.frames import LLMMessagesAppendFrame

from bargein import Pipeline, Processor, Session, SpokenAudioFrame, Stage, handles
from bargein.pipeline.frames import (
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSStoppedFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from bargein.transports.rtvi import RTVI
from bargein.transports.webrtc import WebRTCConnection, WebRTCInput, WebRTCOutput

RATE = 24_000  # Hz
WORD_S = 0.25
ANSWER = " ".join(f"{word} number {number}." for number in range(1, 9) for word in ("Sentence",))


class Model(Processor):
    """Answers with a fixed text, a word each 20 ms."""

    def __init__(self, text: str) -> None:
        self._words = text.split()

    @handles(LLMMessagesAppendFrame)
    async def answer(self, frame: LLMMessagesAppendFrame) -> None:
        if "fail" in str(frame.messages):
            raise RuntimeError("asked to fail")
        with self.session.respond():
            self.push(LLMFullResponseStartFrame())
            for index, word in enumerate(self._words):
                self.push(LLMTextFrame(" " * (index > 0) + word))
                await asyncio.sleep(0.02)
            self.push(LLMFullResponseEndFrame())


class Tones(Processor):
    """Speaks each word as a tone of `WORD_S`."""

    stage = Stage.SPEECH

    @handles(LLMTextFrame)
    def speak(self, frame: LLMTextFrame) -> None:
        self.push(frame)
        response = self.response
        assert response is not None
        response.text += frame.text
        samples = round(RATE * WORD_S)
        wave = 8000 * np.sin(2 * np.pi * 440 * np.arange(samples) / RATE)
        marks = ((samples, len(response.text)),)
        self.push(SpokenAudioFrame(wave.astype("<i2").tobytes(), RATE, 1, response.id, marks))

    @handles(LLMFullResponseEndFrame)
    def end(self, frame: LLMFullResponseEndFrame) -> None:
        assert self.response is not None
        self.push(TTSStoppedFrame(context_id=self.response.id))
        self.push(frame)


class Ear(Processor):
    """Transcribes the first loud sound: an interim text at once, the final one 0.4 s of audio later."""

    def __init__(self) -> None:
        self.blocks = 0
        self.loud_since: int | None = None

    @handles(InputAudioRawFrame)
    def hear(self, frame: InputAudioRawFrame) -> None:
        self.blocks += 1
        if self.loud_since is None and np.abs(np.frombuffer(frame.audio, "<i2")).max() > 1000:
            self.loud_since = self.blocks
            self.push(UserStartedSpeakingFrame())
            self.push(InterimTranscriptionFrame("a loud", "user", "2026-01-01T00:00:00Z"))
        elif self.loud_since is not None and self.blocks == self.loud_since + 20:
            self.push(TranscriptionFrame("A loud sound.", "user", "2026-01-01T00:00:00Z"))
            self.push(UserStoppedSpeakingFrame())
        self.push(frame)


async def run(connection: WebRTCConnection, text: str = ANSWER, *more: Processor) -> None:
    """One session of it, with more processors behind the ear."""
    output = WebRTCOutput(connection, RATE)
    parts = [
        WebRTCInput(connection),
        Ear(),
        *more,
        Model(text),
        RTVI(connection, output.playout),
        Tones(),
        output,
    ]
    await Session(Pipeline(parts)).run()
