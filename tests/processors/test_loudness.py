"""Loudness beside the user's usual."""

from __future__ import annotations

import numpy as np
import pytest

from bargein.processors.loudness import Loudness


def tone(db: float, seconds: float = 0.5) -> bytes:
    wave = np.sin(np.arange(int(16_000 * seconds)) * 2 * np.pi * 200 / 16_000)
    return (wave * 32_767 * 10 ** (db / 20)).astype(np.int16).tobytes()


def hear(loudness: Loudness, audio: bytes) -> None:
    for at in range(0, len(audio), 640):
        loudness.hear(audio[at : at + 640], 16_000)


def test_nothing_is_usual_before_something_was_learnt() -> None:
    loudness = Loudness()
    hear(loudness, tone(-20))
    assert loudness.beside_usual_db is None


@pytest.mark.parametrize("db", [-40, -32, -20, -10])
def test_loudness_is_told_beside_the_usual(db: float) -> None:
    loudness = Loudness()
    hear(loudness, tone(-20))
    loudness.learn()
    hear(loudness, tone(-90, 2))
    loudness.begin()
    hear(loudness, tone(db))
    assert loudness.beside_usual_db == pytest.approx(db + 20, abs=0.5)


def test_what_is_usual_follows_slowly() -> None:
    loudness = Loudness()
    for db in (-20, -30, -30, -30):
        hear(loudness, tone(-90, 2))
        loudness.begin()
        hear(loudness, tone(db))
        loudness.learn()
    assert loudness.beside_usual_db == pytest.approx(-10 * 0.7**3, abs=0.3)


def test_no_audio_and_silence_are_no_trouble() -> None:
    loudness = Loudness()
    loudness.hear(b"", 16_000)
    loudness.hear(bytes(640), 16_000)
    loudness.learn()
    assert loudness.beside_usual_db == 0
