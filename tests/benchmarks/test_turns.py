"""The figures of the turn-taking benchmark, on made-up recordings and outcomes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from pipecat.utils.text.base_text_aggregator import TextType

from bargein.pipeline import SpeechInterruptedFrame
from bargein.pipeline.frames import Frame, Level, TTSTextFrame
from bargein.transports.file import BLOCK, RATE, Samples
from bargein.transports.playout import Playout
from benchmarks import turn_tables, turns
from benchmarks.noises import HUMS, NOISES, hum, in_room
from benchmarks.overlaps import Outcome, Pause, figures, replay
from benchmarks.stimuli import Half, Kind, Stimulus, Voice, active_level, at_level, trimmed

TEXT = "one two three four"
BLOCKS = 60


def answer() -> Samples:
    """1.2 s and a bit, no sample of which is zero."""
    tone = 8000 * np.sin(np.arange(BLOCKS * BLOCK + 100) / 7)
    return np.where(tone.astype(np.int16) == 0, 1, tone).astype(np.int16)


def played(*, hold: int = 0, release: int = 0, cut: int = 0, blocks: int = 120, lead: int = 3) -> Samples:
    """The bot's channel: silence, then the answer from a real playout; numbers are its blocks."""
    playout = Playout(RATE)
    channel = [np.zeros(lead * BLOCK, np.int16)]
    playout.write(answer().tobytes())
    for block in range(blocks - lead):
        if hold and block == hold:
            playout.hold()
        if release and block == release:
            playout.release()
        if cut and block == cut:
            playout.cut()
        channel.append(np.frombuffer(playout.read(BLOCK), np.int16))
    return np.concatenate(channel)


def outcome(kind: Kind, **changed: object) -> Outcome:
    values: dict[str, object] = {
        "half": Half.TUNE,
        "stimulus": "cough",
        "level_db": -26.0,
        "overlap_s": 1.0,
        "last_sound_s": 4.0,
    }
    return Outcome(kind=kind, **(values | changed))  # type: ignore[arg-type]


def test_an_answer_played_to_its_end_is_intact() -> None:
    found = replay(played(), answer())
    assert found is not None
    assert (found.start, found.end) == (3 * BLOCK, 3 * BLOCK + len(answer()))
    assert found.played == len(answer())
    assert found.gaps == ()
    assert found.intact


def test_a_hold_is_a_gap_and_takes_nothing_from_the_answer() -> None:
    found = replay(played(hold=10, release=25), answer())
    assert found is not None
    ((start, end),) = found.gaps
    assert 13 * BLOCK < start < 14 * BLOCK  # the fade
    assert end == 28 * BLOCK
    assert found.played == len(answer())
    assert found.intact


def test_a_hold_released_at_once_takes_nothing_either() -> None:
    channel = played(hold=10, release=10)
    found = replay(channel, answer())
    assert found is not None
    assert found.played == len(answer())
    assert found.intact


def test_an_interruption_ends_an_answer_with_its_fade() -> None:
    found = replay(played(cut=20), answer())
    assert found is not None
    assert 23 * BLOCK < found.end < 24 * BLOCK
    assert found.played == 20 * BLOCK
    assert found.intact


def test_a_doubled_or_lost_block_is_noticed() -> None:
    whole = played()
    doubled = np.concatenate([whole[: 20 * BLOCK], whole[19 * BLOCK :]])
    lost = np.concatenate([whole[: 20 * BLOCK], whole[21 * BLOCK :]])
    for damaged in (doubled, lost):
        found = replay(damaged, answer())
        assert found is not None
        assert not found.intact


def test_silence_holds_no_answer() -> None:
    assert replay(np.zeros(10 * BLOCK, np.int16), answer()) is None


def begun(kind: Kind, events: list[tuple[int, Frame]]) -> turns.Begun:
    stimulus = Stimulus(kind, "wait", "", np.ones(20 * BLOCK, np.int16))
    overlap = turns.Overlap(stimulus, stimulus.samples, -26, TEXT, 0.1)
    return turns.Begun(overlap, 1000, events)


def user(onset_block: int, blocks: int = 120) -> Samples:
    channel = np.zeros(blocks * BLOCK, np.int16)
    channel[onset_block * BLOCK : (onset_block + 20) * BLOCK] = 1
    return channel


def heard(*words: str) -> list[tuple[int, Frame]]:
    return [(2000, TTSTextFrame(f"{word} ", TextType.WORD)) for word in words]


def test_a_held_and_interrupted_answer_yields_where_it_was_held() -> None:
    report = SpeechInterruptedFrame(Level.FULL, "user_speaking", "r1", heard="one two")
    events = [*heard("one", "two"), (1000 + 23 * BLOCK, report)]
    found = turns.measure(begun(Kind.INTERRUPTION, events), user(8), played(hold=10, cut=20), answer())
    assert found.yielded
    assert found.last_sound_s == pytest.approx((13 - 8) * 0.02 + 0.015, abs=0.001)
    assert found.interrupted_s == pytest.approx((23 - 8) * 0.02)
    assert found.pauses == ()
    assert found.intact


def test_a_held_and_released_answer_is_kept() -> None:
    events = heard(*TEXT.split())
    found = turns.measure(begun(Kind.BACKCHANNEL, events), user(8), played(hold=10, release=25), answer())
    assert found.kept
    assert not found.tau_right
    (pause,) = found.pauses
    assert pause.after_s == pytest.approx(0.115, abs=0.001)
    assert pause.seconds == pytest.approx(0.285, abs=0.001)


def test_words_lost_or_doubled_are_counted() -> None:
    events = heard("one", "two", "two", "four")
    found = turns.measure(begun(Kind.NOISE, events), user(8), played(), answer())
    assert (found.lost, found.doubled) == (1, 1)
    assert not found.kept


def test_a_report_that_claims_more_than_the_answer_is_damage() -> None:
    report = SpeechInterruptedFrame(Level.FULL, "user_speaking", "r1", heard="one three")
    events: list[tuple[int, Frame]] = [(1000 + 23 * BLOCK, report)]
    found = turns.measure(begun(Kind.INTERRUPTION, events), user(8), played(cut=20), answer())
    assert not found.intact


def test_what_counts_as_yielding_and_as_keeping() -> None:
    yields = outcome(Kind.INTERRUPTION, last_sound_s=0.2, interrupted_s=0.5)
    late = outcome(Kind.INTERRUPTION, last_sound_s=2.1, interrupted_s=2.1)
    back = outcome(Kind.INTERRUPTION, last_sound_s=0.2, interrupted_s=0.5, spoke_again=True)
    assert [o.right for o in (yields, late, back, outcome(Kind.INTERRUPTION))] == [True, False, False, False]
    paused = outcome(Kind.NOISE, pauses=(Pause(0.1, 0.3),))
    briefly = outcome(Kind.NOISE, pauses=(Pause(0.1, 0.1),))
    afterwards = outcome(Kind.NOISE, pauses=(Pause(1.1, 0.3),))
    assert [o.tau_right for o in (paused, briefly, afterwards)] == [False, True, True]
    assert all(o.kept for o in (paused, briefly, afterwards))
    assert not outcome(Kind.NOISE, interrupted_s=3.0).kept
    assert [o.tau_right for o in (yields, late, back, outcome(Kind.INTERRUPTION))] == [
        True,
        False,
        True,
        False,
    ]
    assert outcome(Kind.INTERRUPTION, pauses=(Pause(0.1, 0.5),)).tau_right
    assert not outcome(Kind.NOISE, last_sound_s=0.9, interrupted_s=1.0).tau_right


def test_figures_sum_up() -> None:
    found = figures(
        [
            outcome(Kind.INTERRUPTION, last_sound_s=0.1, interrupted_s=0.5),
            outcome(Kind.INTERRUPTION, last_sound_s=-0.2, interrupted_s=0.5),
            outcome(Kind.INTERRUPTION, last_sound_s=0.3, interrupted_s=0.5),
            outcome(Kind.INTERRUPTION),
        ]
    )
    assert (found.count, found.right, found.tau_right) == (4, 0.75, 0.75)
    assert found.yields_s == pytest.approx((0.1, 0.26, 0.28))
    assert found.tau_yield_s == pytest.approx(0.4 / 3)
    assert found.releases_s is None
    kept = figures([outcome(Kind.NOISE, pauses=(Pause(0.1, 0.3),)), outcome(Kind.NOISE)])
    assert (kept.right, kept.tau_right, kept.releases_s) == (1, 0.5, (0.3, 0.3, 0.3))
    assert figures([]).right is None


def test_the_tables_have_a_row_for_each_kind_and_policy() -> None:
    outcomes = [
        outcome(Kind.INTERRUPTION, last_sound_s=0.1, interrupted_s=0.5),
        outcome(Kind.BACKCHANNEL, half=Half.TEST, lost=1),
    ]
    lines = turn_tables.table(outcomes).splitlines()
    assert [line.split()[0] for line in lines if line.startswith(tuple(Kind))] == [
        kind.split()[0] for kind in Kind
    ]
    assert "1.00" in lines[2]
    rows = turn_tables.summary({"default": outcomes, "VAD start": []}).splitlines()
    assert rows[1].split() == ["default", "1.00", "100", "0.00", "0", "1", "1"]
    assert rows[2].split() == ["by", "tau-bench's", "rule", "1.00", "100", "1.00"]
    assert rows[3].split() == ["VAD", "start", "0", "0", "0"]
    assert rows[5].split() == ["best", "published", "410", "0.68"]
    assert "1 words lost" in turn_tables.failure(outcomes[1])


def test_each_stimulus_is_played_at_each_loudness_in_three_rounds() -> None:
    sound = np.tile(np.array([9000, -9000], np.int16), RATE // 4)
    stimuli = [
        Stimulus(kind, f"{kind} {number}", "" if kind is Kind.NOISE else "ann", sound)
        for kind in Kind
        for number in range(4)
    ]
    askers = [Voice("ann", sound), Voice("bob", sound)]
    answers = {TEXT: np.ones(8 * RATE, np.int16)}
    talks = turns.conversations(stimuli, askers, answers, seed=1, rounds=3)
    overlaps = [overlap for talk in talks for overlap in talk.overlaps]
    assert max(len(talk.overlaps) for talk in talks) <= turns.OVERLAPS_AT_MOST
    times = Counter((o.stimulus.name, o.level_db) for o in overlaps)
    assert len(overlaps) == len(times) == 3 * len(stimuli)
    for overlap in overlaps:
        background = overlap.stimulus.kind is Kind.BACKGROUND
        assert overlap.level_db in (turns.BACKGROUND_LEVELS if background else turns.LEVELS)
        assert 1 <= overlap.at_s <= 3
        if not background:
            assert active_level(overlap.samples) == pytest.approx(overlap.level_db, abs=0.1)


def test_a_level_is_that_of_the_sound_and_not_of_the_silence_in_it() -> None:
    tone = np.tile(np.array([8192, -8192], np.int16), RATE // 4)
    with_silence = np.concatenate([tone, np.zeros(RATE, np.int16), tone])
    assert active_level(with_silence) == pytest.approx(20 * np.log10(0.25), abs=0.01)
    assert active_level(at_level(with_silence, -26)) == pytest.approx(-26, abs=0.1)
    assert np.abs(at_level(tone, 6).astype(int)).max() <= 32_767


@pytest.mark.parametrize("seed", range(1, 7))
def test_sounds_are_made_that_can_be_played(seed: int) -> None:
    random = np.random.default_rng(seed)
    for sound in [
        *(make(random) for make in NOISES),
        *(hum(random, syllables) for syllables in HUMS.values()),
        in_room(hum(random, HUMS["mm"], nasal=False), random),
    ]:
        samples = trimmed(sound)
        assert 0.1 * RATE < len(samples) < 4 * RATE
        assert np.isfinite(sound).all()
        assert np.abs(samples).max() > 10_000
        assert samples[: RATE // 100].any()
