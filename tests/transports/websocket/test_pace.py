"""When audio leaves, and what of it was played, by itself."""

from __future__ import annotations

import pytest

from bargein.pipeline import Response
from bargein.transports.playout import Playout
from bargein.transports.websocket.pace import LEAD_S, MAX_BEHIND_S, Pace

RATE = 16_000


def speaking(seconds: float = 60.0, block_ms: int = 20) -> tuple[Playout, Pace]:
    playout = Playout(RATE)
    playout.write(b"\1\1" * round(seconds * RATE))
    return playout, Pace(playout, block_ms)


def run(pace: Pace, start: float, seconds: float) -> tuple[int, list[int]]:
    """Take what is due each 10 ms; how many blocks, and the marks."""
    blocks, marks = 0, []
    for tick in range(round(seconds * 100)):
        while (due := pace.take(start + tick / 100)) is not None:
            blocks += 1
            marks += [due[1]] if due[1] is not None else []
    return blocks, marks


def test_nothing_is_due_of_nothing() -> None:
    pace = Pace(Playout(RATE), 20)
    assert pace.take(5.0) is None
    assert pace.sent == 0


@pytest.mark.parametrize("block_ms", [20, 200])
def test_blocks_are_due_at_the_pace_of_speech(block_ms: int) -> None:
    _, pace = speaking(block_ms=block_ms)
    blocks, marks = run(pace, 100.0, 3.0)
    ahead = blocks * block_ms / 1000 - 3.0
    assert 0 < ahead <= max(LEAD_S, 2 * block_ms / 1000)
    assert marks == list(range(1, len(marks) + 1))
    assert len(marks) == blocks * block_ms // max(100, block_ms)


def test_after_a_late_tick_the_client_begins_anew() -> None:
    _, pace = speaking()
    run(pace, 0.0, 1.0)
    before = pace.sent
    blocks = 0
    while pace.take(10.0) is not None:
        blocks += 1
    assert blocks == LEAD_S / 0.02, "it plays what it gets; nothing is made up for"
    assert pace.sent == before + blocks * 320


def test_a_client_that_does_not_acknowledge_is_ahead_by_what_it_holds() -> None:
    playout, pace = speaking()
    run(pace, 0.0, 1.0)
    assert LEAD_S * 1000 - 20 <= playout.delay_ms <= LEAD_S * 1000 + 1e-6


def test_a_client_that_acknowledges_has_played_what_it_says() -> None:
    playout, pace = speaking()
    run(pace, 0.0, 1.0)
    pace.acknowledge(4, 1.0)  # 0.4 s
    run(pace, 1.0, 0.2)
    assert playout.delay_ms == pytest.approx(1000 * (pace.sent / RATE - 0.4))
    pace.acknowledge(10**6, 1.2)  # never sent
    run(pace, 1.2, 0.2)
    assert playout.delay_ms == pytest.approx(1000 * (pace.sent / RATE - 0.4))
    run(pace, 1.4, 5.0)
    assert playout.delay_ms == 1000 * MAX_BEHIND_S


def test_what_is_acknowledged_is_heard_at_once() -> None:
    playout = Playout(RATE)
    response = Response("r1", text="none of this is spoken")
    playout.write(b"\1\1" * RATE, response, ((RATE // 5, 4), (RATE, 22)))
    pace = Pace(playout, 20)
    run(pace, 0.0, 0.1)
    pace.acknowledge(1, 0.1)
    run(pace, 0.1, 0.3)
    assert response.heard_to == 0
    pace.acknowledge(3, 0.4)
    assert response.heard_to == 4


def test_marks_of_what_was_dropped_are_not_played() -> None:
    playout, pace = speaking()
    _, marks = run(pace, 0.0, 1.0)
    pace.acknowledge(4, 1.0)
    playout.cut()
    assert pace.clear(1.0)
    for mark in marks:
        pace.acknowledge(mark, 1.0)
    playout.write(b"\1\1" * RATE)
    run(pace, 1.0, 0.01)
    assert playout.delay_ms == pytest.approx(LEAD_S * 1000)


def test_protected_speech_is_not_cleared_while_it_is_played() -> None:
    playout = Playout(RATE)
    playout.write(b"\1\1" * RATE, interruptible=False)
    playout.write(b"\1\1" * RATE)
    pace = Pace(playout, 20)
    run(pace, 0.0, 0.5)
    assert not pace.clear(0.5)
    run(pace, 0.5, 1.0)
    assert pace.clear(1.5)
