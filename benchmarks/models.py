"""Local models for conversations in virtual time.

A model works while the clock stands still, and its answer comes as much later as it computed on one core.
So other load changes no result, and a conversation takes no longer than its computing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Sequence
from functools import cache
from multiprocessing.queues import SimpleQueue

import numpy as np
import soxr

from bargein.processors.local import MoonshineSTT, PiperTTS, SpeechChunk, WordTime
from bargein.processors.local.packages import package_file
from bargein.processors.local.worker import ModelWorker
from bargein.processors.local.worker_main import Handler, Header, moonshine
from bargein.processors.text import SentenceSplitter
from bargein.transports.file import RATE, Samples


def recogniser() -> MoonshineSTT:
    """A recogniser for one conversation, which has it to itself."""
    stt = MoonshineSTT()
    stt.worker = _Inline(_moonshine())
    return stt


def stay_on_one_core(cores: SimpleQueue[int]) -> None:
    """Take a core from the queue and keep to it: only then is computing time the same as waiting time.

    Where that cannot be done, a model that computes in several threads looks faster than it is.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores.get()})


# From the request to the child process and back, s: measured, some 2 ms each way.
HAND_OVER_S = 0.004


@cache
def _moonshine() -> Handler:
    weights = package_file("moonshine_voice", "assets/tiny-en/encoder_model.ort")
    return moonshine(str(weights.parent))


class _Inline(ModelWorker):
    """A model's worker without a process: it computes here, while the clock stands still."""

    def __init__(self, handler: Handler) -> None:
        super().__init__("moonshine")
        self._handler = handler

    async def call(self, header: Header, body: bytes = b"") -> tuple[Header, bytes]:
        began = time.process_time()
        reply = self._handler(header, body)
        await asyncio.sleep(time.process_time() - began + HAND_OVER_S)
        return reply


class PreparedVoice:
    """Speaks texts that were spoken before, and the ends of them, at once and at 16 kHz.

    No sample is zero, so that silence in a recording is no part of them.
    """

    def __init__(self, spoken: dict[str, SpeechChunk]) -> None:
        self._spoken = spoken

    def samples(self, text: str) -> Samples:
        """What a whole text sounds like."""
        return np.frombuffer(b"".join(self._spoken[piece].pcm for piece in pieces(text)), np.int16)

    async def synthesize(self, text: str) -> AsyncGenerator[SpeechChunk, None]:
        """Speak a piece.

        Raises:
            KeyError: It was not prepared.
        """
        whole = next((piece for piece in self._spoken if piece.endswith(text)), None)
        if whole is None:
            raise KeyError(f"not prepared: {text}")
        yield _from(self._spoken[whole], len(whole) - len(text))


async def prepare(texts: Sequence[str]) -> PreparedVoice:
    """Have the bot's voice speak some texts."""
    piper = PiperTTS()
    await piper.start()
    try:
        return PreparedVoice({piece: await _speak(piper, piece) for text in texts for piece in pieces(text)})
    finally:
        await piper.close()


def pieces(text: str) -> list[str]:
    """A text as `Sentences` cuts it."""
    splitter = SentenceSplitter()
    return [*splitter.feed(text), *splitter.flush()]


async def _speak(piper: PiperTTS, piece: str) -> SpeechChunk:
    chunks = [chunk async for chunk in piper.synthesize(piece)]
    pcm = np.frombuffer(b"".join(chunk.pcm for chunk in chunks), np.int16)
    samples = np.asarray(soxr.resample(pcm, piper.sample_rate, RATE), np.int16)
    samples = np.where(samples == 0, np.int16(1), samples)
    return SpeechChunk(samples.tobytes(), RATE, tuple(word for chunk in chunks for word in chunk.words))


def _from(chunk: SpeechChunk, character: int) -> SpeechChunk:
    """The rest of a piece, from a word on."""
    start_s = max((word.end_s for word in chunk.words if word.end <= character), default=0.0)
    words = tuple(
        WordTime(word.start - character, word.end - character, word.start_s - start_s, word.end_s - start_s)
        for word in chunk.words
        if word.end > character
    )
    return SpeechChunk(chunk.pcm[2 * int(start_s * RATE) :], RATE, words)
