"""Word times for voices that tell none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bargein.pipeline.pace import FIRST_GUESS, Pace, PacedWords


def test_the_pace_is_learned() -> None:
    pace = Pace()
    assert pace.characters_per_s == FIRST_GUESS
    for _ in range(30):
        pace.learn(100, 5.0)
    assert pace.characters_per_s == pytest.approx(20.0, abs=0.01)
    pace.learn(100, 0.0)
    assert pace.characters_per_s == pytest.approx(20.0, abs=0.01)


def test_words_are_told_by_the_pace_and_at_the_end_by_their_share() -> None:
    words = PacedWords("one two three four", Pace())
    assert [w.end_s for w in words.until(0.5)] == pytest.approx([3 / 15, 7 / 15])
    told = words.complete(1.5)
    assert [w.end_s for w in told] == pytest.approx([1.5 * 13 / 18, 1.5])


@given(
    st.text(alphabet="ab .,-", max_size=40),
    st.lists(st.floats(0.01, 2.0), max_size=8),
    st.floats(1.0, 60.0),
)
def test_each_word_is_told_once_in_order_and_never_ahead_of_the_audio(
    text: str, pieces: list[float], pace_before: float
) -> None:
    pace = Pace()
    pace.characters_per_s = pace_before
    words = PacedWords(text, pace)
    seconds, told_s, told = 0.0, 0.0, 0
    for piece in [*pieces, None]:
        seconds += piece or 0.0
        for word in words.until(seconds) if piece is not None else words.complete(seconds):
            assert told <= word.start < word.end <= len(text)
            assert told_s <= word.end_s <= seconds + 1e-6
            told, told_s = word.end, word.end_s
    assert not any(c.isalpha() for c in text[told:])
    assert words.complete(seconds) == ()
