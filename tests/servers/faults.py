"""Faults a local server plays on demand, and a toy language of sound that servers can hear exactly."""

from __future__ import annotations

import array
import asyncio
from collections import deque
from collections.abc import Callable
from enum import StrEnum

import numpy as np


class Fault(StrEnum):
    """What goes wrong with one request or connection."""

    NONE = "none"
    UNAUTHORIZED = "401"
    RATE_LIMITED = "429"
    BROKEN = "500"
    HANG = "hang"  # nothing comes
    CUT = "cut"  # the connection is lost in the middle
    GARBAGE = "garbage"  # what comes is not the protocol
    SLOW = "slow"  # it comes, with long pauses


class Faults:
    """The faults to come, one for each request or connection; none when the list is used up."""

    def __init__(self) -> None:
        self._coming: deque[Fault] = deque()

    def plan(self, *faults: Fault) -> None:
        """Play these, in order."""
        self._coming.extend(faults)

    def take(self) -> Fault:
        """The fault of the request that arrives now."""
        return self._coming.popleft() if self._coming else Fault.NONE


# A word is a level that no other word has, held for WORD_MS and followed by silence; resampling keeps it.
_WORDS = "ask not what your country can do for you but tell me the time in London and Paris please then stop"
VOCABULARY = _WORDS.split(" ")
WORD_MS = 120
GAP_MS = 60
_STEP = 1000


def spoken(text: str, rate: int = 16_000) -> bytes:
    """Mono s16le audio of words from VOCABULARY."""
    samples = array.array("h")
    for word in text.split():
        level = (VOCABULARY.index(word) + 1) * _STEP
        samples.extend([level] * (rate * WORD_MS // 1000))
        samples.extend([0] * (rate * GAP_MS // 1000))
    return samples.tobytes()


def each(text: str) -> list[bytes]:
    """The audio of each word of a text, at 16 kHz."""
    return [spoken(word) for word in text.split()]


def heard(pcm: bytes | bytearray, rate: int) -> list[str]:
    """The words in audio made by `spoken`; a word that is cut shorter than half is not heard."""
    levels = np.rint(np.frombuffer(pcm[: len(pcm) // 2 * 2], np.int16) / _STEP).astype(int)
    words: list[str] = []
    start = 0
    for end in [*(np.flatnonzero(np.diff(levels)) + 1).tolist(), len(levels)]:
        if end - start >= rate * WORD_MS // 2000 and 0 < levels[start] <= len(VOCABULARY):
            words.append(VOCABULARY[levels[start] - 1])
        start = end
    return words


async def until(condition: Callable[[], object]) -> None:
    """Wait for what the other side of a connection does."""
    while not condition():  # noqa: ASYNC110 - a condition tells nobody when it becomes true
        await asyncio.sleep(0.01)
