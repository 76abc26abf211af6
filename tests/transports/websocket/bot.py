"""A bot without models: it hears beeps, and speaks each word as a steady sample value."""

from __future__ import annotations

import asyncio

import numpy as np
from pipecat.frames.frames import InputDTMFFrame, LLMMessagesAppendFrame

from bargein import Pipeline, Processor, Reason, Session, SpokenAudioFrame, Stage, handles
from bargein.pipeline.frames import (
    Frame,
    InputAudioRawFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSStoppedFrame,
)
from bargein.transports.ends import ends_of
from bargein.transports.websocket import WebSocketConnection

WORDS = ("One", " two", " three", " four", " five.")
ANSWER = "".join(WORDS)
RATE = 24_000  # Hz
WORD_S = 0.25
LOUD = 3_000
BEEP_BLOCKS = 5  # of 20 ms, that make a beep; as many silent ones end it


def level(response_id: str) -> int:
    """The sample value that the words of a response are made of."""
    return 1_000 * int(response_id[1:])


class Ear(Processor):
    """Takes a beep for a turn of the user, and one over the bot's voice for an interruption.

    Attributes:
        heard: All audio so far, mono s16le at 16 kHz.
        keys: Pressed on the telephone.
    """

    def __init__(self) -> None:
        self.heard = bytearray()
        self.keys: list[Frame] = []
        self._loud = 0
        self._silent = 0

    @handles(InputAudioRawFrame)
    def hear(self, frame: InputAudioRawFrame) -> None:
        assert (frame.sample_rate, frame.num_channels, len(frame.audio)) == (16_000, 1, 640)
        self.heard += frame.audio
        if np.abs(np.frombuffer(frame.audio, np.int16).astype(int)).max() > LOUD:
            self._loud, self._silent = self._loud + 1, 0
            if self._loud == BEEP_BLOCKS and self.session.responding:
                self.session.interrupt(Reason.USER_SPEAKING)
        else:
            self._silent += 1
        if self._silent == BEEP_BLOCKS:
            if self._loud >= BEEP_BLOCKS:
                self.session.send_text("beep")
            self._loud = 0

    @handles(InputDTMFFrame)
    def press(self, frame: InputDTMFFrame) -> None:
        self.keys.append(frame)


class Model(Processor):
    """Answers with five words, one each 10 ms."""

    @handles(LLMMessagesAppendFrame)
    async def answer(self, frame: LLMMessagesAppendFrame) -> None:
        text = str(frame.messages[0]["content"])  # type: ignore[index]
        if text == "fail":
            raise RuntimeError("a secret detail")
        critical = text == "critical"
        with self.session.respond(interruptible=not critical):
            parts: list[Frame] = [
                LLMFullResponseStartFrame(),
                *map(LLMTextFrame, WORDS),
                LLMFullResponseEndFrame(),
            ]
            for part in parts:
                part.interruptible = not critical
                self.push(part)
                await asyncio.sleep(0.01)


class Voice(Processor):
    """Speaks each word for `WORD_S`."""

    stage = Stage.SPEECH

    @handles(LLMTextFrame)
    def speak(self, frame: LLMTextFrame) -> None:
        self.push(frame)
        response = self.response
        assert response is not None
        response.text += frame.text
        samples = round(RATE * WORD_S)
        pcm = np.full(samples, level(response.id), "<i2").tobytes()
        audio = SpokenAudioFrame(pcm, RATE, 1, response.id, ((samples, len(response.text)),))
        audio.interruptible = response.interruptible
        self.push(audio)

    @handles(LLMFullResponseEndFrame)
    def end(self, frame: LLMFullResponseEndFrame) -> None:
        assert self.response is not None
        stopped = TTSStoppedFrame(context_id=self.response.id)
        stopped.interruptible = self.response.interruptible
        self.push(stopped)
        self.push(frame)


class Bots:
    """Runs a bot for each connection.

    Attributes:
        sessions: Each connection's, in order.
    """

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.connections: list[WebSocketConnection] = []
        self.ears: list[Ear] = []
        self.begun = asyncio.Event()

    async def run(self, connection: WebSocketConnection) -> None:
        ends, ear = ends_of(connection), Ear()
        session = Session(Pipeline([ends.source, ear, Model(), *ends.clients, Voice(), ends.sink]))
        self.sessions.append(session)
        self.connections.append(connection)
        self.ears.append(ear)
        async with session:
            self.begun.set()
            await session.finished()
