"""Words as a service speaks them, found in the text it was asked to speak."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bargein.processors.services.alignment import LOOKAHEAD, Alignment

TEXTS = st.text(alphabet="abAB12 .,!?'-$_\u00e9\u4f60\u597d\n", max_size=60)


def ends(text: str, *words: str) -> list[str | None]:
    alignment = Alignment(text)
    spans = [alignment.find(word) for word in words]
    return [None if span is None else text[: span[1]] for span in spans]


def test_words_as_they_are_written_take_their_punctuation_along() -> None:
    assert ends('He said: "Go!" Now.', "He", "said", "go", "now") == [
        "He",
        "He said:",
        'He said: "Go!"',
        'He said: "Go!" Now.',
    ]


def test_a_word_in_pieces_is_a_word() -> None:
    assert ends("Don't stop well-known", "don't", "stop", "well", "known") == [
        "Don't",
        "Don't stop",
        "Don't stop well",
        "Don't stop well-known",
    ]


def test_numbers_read_out_are_passed_with_the_next_word() -> None:
    assert ends("It is $1,500 today.", "it", "is", "fifteen", "hundred", "dollars", "today.")[2:] == [
        None,
        None,
        None,
        "It is $1,500 today.",
    ]


def test_a_script_without_spaces_goes_character_by_character() -> None:
    text = "\u4f60\u597d\u3002\u518d\u89c1"
    assert ends(text, "\u4f60\u597d", "\u3002", "\u518d") == [text[:2], None, text[:4]]


def test_a_word_far_ahead_is_not_taken() -> None:
    text = "the end is not the end " + "of " * LOOKAHEAD + "it"
    assert ends(text, "it") == [None]
    assert ends(text, "the", "the")[1] == "the end is not the"


@given(TEXTS)
def test_the_texts_own_words_are_all_found_to_their_last_letter(text: str) -> None:
    alignment = Alignment(text)
    for word in text.split():
        span = alignment.find(word)
        if any(c.isalnum() for c in word):
            assert span is not None
            assert any(c.isalnum() for c in text[span[0] : span[1]])
            assert not any(c.isalnum() for c in text[span[1] :].split(" ", 1)[0].split("\n", 1)[0])
    left = alignment.find(text)
    assert left is None


@given(TEXTS, st.lists(st.text(alphabet="abAB12.'\u00e9\u4f60", max_size=6), max_size=20))
def test_whatever_is_said_spans_stay_in_the_text_and_in_order(text: str, words: list[str]) -> None:
    alignment = Alignment(text)
    at = 0
    for word in words:
        span = alignment.find(word)
        if span is not None:
            start, end = span
            assert at <= start < end <= len(text)
            at = end


@given(st.lists(st.integers(0, LOOKAHEAD - 1), max_size=8))
def test_it_finds_its_way_back_after_words_that_are_read_otherwise(skipped: list[int]) -> None:
    """Before each word that is read as it is written, so many are not."""
    written = [f"w{i}" for i in range(sum(skipped) + len(skipped))]
    alignment = Alignment(" ".join(written))
    at = 0
    for count in skipped:
        assert [alignment.find("otherwise") for _ in range(count)] == [None] * count
        at += count + 1
        span = alignment.find(written[at - 1])
        assert span is not None
        assert " ".join(written)[: span[1]] == " ".join(written[:at])
