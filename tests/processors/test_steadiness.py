"""How much a sound changes: on synthesised hums, and on sounds of several parts."""

from __future__ import annotations

import numpy as np
import pytest

from bargein.processors.policies import Hum
from bargein.processors.steadiness import RATE, Steadiness
from bargein.transports.file import Samples, load_recording
from benchmarks.noises import HUMS, hum
from benchmarks.stimuli import DATA, at_level, trimmed

BLOCK = RATE // 50


def heard(samples: Samples, *, begun_s: float = 0.0, asked_each_block: bool = False) -> float | None:
    """Its change, when its stretch is noticed after so long."""
    steadiness = Steadiness()
    for start in range(0, len(samples), BLOCK):
        if start <= begun_s * RATE < start + BLOCK:
            steadiness.begin()
        steadiness.hear(samples[start : start + BLOCK].tobytes())
        if asked_each_block:
            assert steadiness.change is None or steadiness.change >= 0
    return steadiness.change


@pytest.mark.parametrize("name", HUMS)
@pytest.mark.parametrize("level_db", [-20, -32])
def test_a_hum_hardly_changes(name: str, level_db: float) -> None:
    for seed in range(5):
        sound = at_level(trimmed(hum(np.random.default_rng(seed), HUMS[name])), level_db)
        change = heard(sound)
        assert change is not None
        assert change < Hum().below - 0.04


@pytest.mark.parametrize("start_s", [0.2, 1.0, 5.3, 8.1])
def test_words_change(start_s: float) -> None:
    speech = load_recording(DATA / "jfk.flac")[int(start_s * RATE) :][: int(0.7 * RATE)]
    change = heard(speech)
    assert change is not None
    assert change > Hum().below + 0.05


def test_silence_around_a_sound_makes_no_difference() -> None:
    sound = trimmed(hum(np.random.default_rng(1), HUMS["mm-hmm"]))
    silence = np.zeros(RATE // 2, np.int16)
    around = heard(np.concatenate([silence, sound, silence]), begun_s=0.56)
    assert around == pytest.approx(heard(sound), abs=0.03)


def test_it_does_not_matter_when_it_is_asked() -> None:
    sound = trimmed(hum(np.random.default_rng(2), HUMS["mhm"]))
    assert heard(sound, asked_each_block=True) == pytest.approx(heard(sound))


def test_a_stretch_has_nothing_of_the_one_before() -> None:
    speech = load_recording(DATA / "jfk.flac")[: 2 * RATE]
    steadiness = Steadiness()
    steadiness.begin()
    steadiness.hear(speech.tobytes())
    words = steadiness.change
    steadiness.hear(np.zeros(RATE, np.int16).tobytes())
    steadiness.begin()
    nothing = steadiness.change
    steadiness.hear(trimmed(hum(np.random.default_rng(3), HUMS["mm"])).tobytes())
    hummed = steadiness.change
    assert words is not None
    assert nothing is None
    assert hummed is not None
    assert hummed < Hum().below < words


def test_too_little_says_nothing() -> None:
    assert heard(np.ones(RATE // 10, np.int16)) is None
    assert heard(np.zeros(RATE, np.int16)) is None
