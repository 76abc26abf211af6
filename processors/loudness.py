"""How loud speech is beside the user's usual speech."""

from __future__ import annotations

import math

import numpy as np

# Over how much of it loudness is measured, s: about a syllable.
SYLLABLE_S = 0.1

# How much the last utterance says about the user's usual loudness.
LEARNING = 0.3


class Loudness:
    """The loudest syllable of each stretch of speech, and what is usual. Free of I/O and of time."""

    def __init__(self) -> None:
        self._power = 0.0  # smoothed, of samples from -1 to 1
        self._loudest = 0.0  # of this stretch
        self._usual_db: float | None = None

    def hear(self, audio: bytes, sample_rate: int) -> None:
        """Take mono s16le audio."""
        samples = np.frombuffer(audio, np.int16).astype(np.float32) / 32_768
        if len(samples):
            keep = math.exp(-len(samples) / sample_rate / SYLLABLE_S)
            self._power = keep * self._power + (1 - keep) * float(np.mean(samples * samples))
            self._loudest = max(self._loudest, self._power)

    def begin(self) -> None:
        """A stretch of speech begins."""
        self._loudest = self._power

    def learn(self) -> None:
        """This stretch was the user's own."""
        level = _db(self._loudest)
        self._usual_db = (
            level if self._usual_db is None else self._usual_db + LEARNING * (level - self._usual_db)
        )

    @property
    def beside_usual_db(self) -> float | None:
        """How much louder this stretch is than usual; None until one was learnt."""
        return None if self._usual_db is None else _db(self._loudest) - self._usual_db


def _db(power: float) -> float:
    return 10 * math.log10(power + 1e-10)
