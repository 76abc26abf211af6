"""The playout buffer: what sounds, what counts as heard, holds without loss, cuts without clicks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bargein.pipeline import Response
from bargein.transports.playout import FADE_MS, Playout

RATE = 16_000
BLOCK = 320


def tone(samples: int, start: int = 0) -> bytes:
    """Samples that are never zero and all differ from their neighbours: 1, 2, 3, ..."""
    return (np.arange(start, start + samples) % 30_000 + 1).astype(np.int16).tobytes()


def read(playout: Playout, samples: int = BLOCK) -> list[int]:
    return [int(sample) for sample in np.frombuffer(playout.read(samples), np.int16)]


def test_plays_what_was_written_then_silence() -> None:
    playout = Playout(RATE)
    playout.write(tone(500))
    assert read(playout) == list(range(1, 321))
    assert read(playout) == [*range(321, 501), *[0] * 140]
    assert not playout.busy


def test_words_count_as_heard_once_they_have_been_played() -> None:
    heard: list[tuple[int, int]] = []
    response = Response("r1", text="one two")
    playout = Playout(RATE, lambda r, start, end: heard.append((start, end)))
    playout.write(tone(700), response, ((300, 3), (640, 7)))
    read(playout)
    assert response.heard == "one"
    read(playout)
    assert response.heard == "one two"
    assert heard == [(0, 3), (3, 7)]


def test_what_the_client_has_not_played_is_unheard() -> None:
    """openai-agents #2009: truncation went by the wall clock instead of by the audio played."""
    response = Response("r1", text="one two")
    playout = Playout(RATE)
    playout.delay_ms = 60
    playout.write(tone(640), response, ((320, 3), (640, 7)))
    for _ in range(3):
        read(playout)
    assert response.heard_to == 0
    read(playout)
    assert response.heard == "one"
    playout.cut()
    for _ in range(10):
        read(playout)
    assert response.heard == "one"


def test_a_mark_is_reached_when_everything_before_it_was_heard() -> None:
    reached: list[str] = []
    playout = Playout(RATE)
    playout.delay_ms = 20
    playout.mark(lambda: reached.append("start"))
    playout.write(tone(320))
    playout.mark(lambda: reached.append("end"))
    read(playout)
    assert reached == ["start"]
    read(playout)
    assert reached == ["start", "end"]
    assert not playout.busy


def test_a_mark_at_the_start_of_an_empty_piece_counts() -> None:
    response = Response("r1", text="one.")
    playout = Playout(RATE)
    playout.write(tone(320), response, ((300, 3),))
    playout.write(b"", response, ((0, 4),))
    read(playout)
    assert response.heard == "one."


def test_a_cut_fades_out_within_15_ms_and_keeps_uninterruptible_audio() -> None:
    playout = Playout(RATE)
    playout.write(np.full(3200, 10_000, np.int16).tobytes())
    playout.write(tone(320), interruptible=False)
    read(playout)
    playout.cut()
    after = read(playout, 640)
    fade = RATE * FADE_MS // 1000
    assert np.all(np.diff(after[:fade]) <= 0)
    assert np.max(np.abs(np.diff([10_000, *after[:fade], 0]))) < 200  # no step that clicks
    assert after[fade : fade + 320] == list(range(1, 321))
    assert not playout.busy


def test_a_cut_before_the_first_sound_is_silent() -> None:
    playout = Playout(RATE)
    read(playout)
    playout.write(tone(3200))
    playout.cut()
    assert read(playout) == [0] * BLOCK


def test_a_hold_before_the_first_sound_loses_nothing() -> None:
    """livekit #5038: a reply paused before its first frame vanished."""
    playout = Playout(RATE)
    playout.hold()
    playout.write(tone(640))
    assert read(playout) == [0] * BLOCK
    playout.release()
    fade = RATE * FADE_MS // 1000
    assert read(playout)[fade:] == list(range(fade + 1, 321))


def test_a_hold_in_silence_leaves_the_next_sound_as_it_is() -> None:
    playout = Playout(RATE)
    playout.write(tone(BLOCK))
    read(playout)
    playout.hold()
    read(playout)
    playout.release()
    playout.write(tone(BLOCK))
    assert read(playout) == np.frombuffer(tone(BLOCK), np.int16).tolist()


def test_a_ducked_voice_plays_on_quietly_and_comes_back_without_a_click() -> None:
    playout = Playout(RATE)
    response = Response("r1", text="one two")
    playout.write(np.full(3200, 10_000, np.int16).tobytes(), response, ((1000, 3), (3200, 7)))
    assert set(read(playout)) == {10_000}
    playout.hold(0.2)
    ducked = read(playout)
    assert ducked[-1] == 2_000
    assert read(playout) == [2_000] * BLOCK
    assert response.heard == ""
    playout.release()
    back = read(playout)
    assert back[-1] == 10_000
    steps = np.abs(np.diff([10_000, *ducked, 2_000, *back, 10_000]))
    assert steps.max() < 50
    read(playout)
    assert response.heard == "one"


def test_a_cut_while_ducked_fades_from_there() -> None:
    playout = Playout(RATE)
    playout.write(np.full(3200, 10_000, np.int16).tobytes())
    read(playout)
    playout.hold(0.2)
    read(playout)
    playout.cut()
    after = read(playout)
    assert max(after) <= 2_000
    assert after[-1] == 0
    playout.write(np.full(320, 10_000, np.int16).tobytes())
    assert set(read(playout)) == {10_000}


@given(
    pieces=st.lists(st.integers(0, 900), min_size=1, max_size=6),
    actions=st.lists(st.sampled_from(["read", "hold", "release"]), max_size=30),
    block=st.sampled_from([160, 320, 441]),
)
def test_holds_neither_lose_nor_repeat_a_sample(pieces: list[int], actions: list[str], block: int) -> None:
    """Whatever is held and released when: all audio is read once and in order, but for the fades."""
    total = sum(pieces)
    response = Response("r1", text="x" * total)
    playout = Playout(RATE)
    position = 0
    for piece in pieces:
        playout.write(tone(piece, position), response, tuple((i + 1, position + i + 1) for i in range(piece)))
        position += piece
    heard = 0
    for action in actions:
        if action == "read":
            playout.read(block)
            assert response.heard_to >= heard
            heard = response.heard_to
        else:
            getattr(playout, action)()
    playout.release()
    for _ in range(total // block + 2):
        playout.read(block)
    assert response.heard_to == total
    assert not playout.busy


@given(
    length=st.integers(1, 3000),
    reads=st.integers(0, 12),
    delay=st.floats(0, 200),
    block=st.integers(100, 500),
)
def test_heard_is_what_was_read_less_what_is_on_the_way(
    length: int, reads: int, delay: float, block: int
) -> None:
    response = Response("r1", text="x" * length)
    playout = Playout(RATE)
    playout.delay_ms = delay
    playout.write(tone(length), response, tuple((i + 1, i + 1) for i in range(length)))
    for _ in range(reads):
        playout.read(block)
    playout.cut()
    assert response.heard_to == max(0, min(length, reads * block - int(delay * RATE / 1000)))


@given(
    pieces=st.lists(st.integers(1, 700), min_size=1, max_size=5),
    word=st.integers(0, 2000),
    blocks_before=st.integers(0, 8),
)
def test_a_mark_that_comes_late_counts_as_one_in_time(
    pieces: list[int], word: int, blocks_before: int
) -> None:
    """A service that times its words after their audio: what it says of audio still unread is exact."""
    total = sum(pieces)
    word = min(word, total)
    timely, late = Response("r1", text="one two"), Response("r2", text="one two")
    playouts = Playout(RATE), Playout(RATE)
    for playout, response in zip(playouts, (timely, late), strict=True):
        at = 0
        for samples in pieces:
            mine = response is timely and at <= word <= at + samples
            playout.write(tone(samples, at), response, ((word - at, 3),) if mine else ())
            at += samples
    for _ in range(blocks_before):
        playouts[0].read(BLOCK)
        playouts[1].read(BLOCK)
    playouts[1].write(b"", late, ((word - total, 3),))
    while playouts[0].busy or playouts[1].busy:
        playouts[0].read(BLOCK)
        playouts[1].read(BLOCK)
        if blocks_before * BLOCK < word:
            assert late.heard_to == timely.heard_to
    assert late.heard_to == timely.heard_to == 3
