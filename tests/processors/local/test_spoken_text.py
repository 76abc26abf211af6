from hypothesis import given
from hypothesis import strategies as st

from bargein.pipeline.pace import words
from bargein.processors.local.spoken_text import pieces, speakable, word_times


def cut(text: str) -> list[str]:
    return [text[start:end].strip() for start, end in pieces(text)]


def test_first_piece_ends_at_an_early_clause() -> None:
    text = "Yes, of course, I can help you with that, but first I need to know where you live."
    assert cut(text) == [
        "Yes, of course,",
        "I can help you with that, but first I need to know where you live.",
    ]


def test_sentences_are_pieces() -> None:
    assert cut("Hello there. How are you? \nFine!") == ["Hello there.", "How are you?", "Fine!"]


def test_numbers_times_and_abbreviations_stay_whole() -> None:
    text = speakable("Dr. Smith paid 1,234.50 at 10:30 a.m. on Monday, vs. nothing, to St. Mary.")
    assert cut(text)[0].startswith("Dr  Smith paid 1,234.50 at 10:30 a.m. on Monday,")


def test_text_without_words_gives_no_piece() -> None:
    assert [cut(text) for text in ("", "...", " \n ", "— !?")] == [[], [], [], []]


def test_words_keep_the_punctuation_that_touches_them() -> None:
    text = 'He said: "No — never!"'
    assert [text[start:end] for start, end in words(text)] == ["He", "said:", '"No', 'never!"']


def test_groups_that_match_give_the_times() -> None:
    times = word_times([(0, 2), (3, 5)], [(2, 100, 200), (2, 300, 400)], [0, 0], 500, 100, 1.0)
    assert [(time.start_s, time.end_s) for time in times] == [(2.0, 3.0), (4.0, 5.0)]


def test_a_number_takes_all_its_groups() -> None:
    # "pay 1,234 now": three words, seven groups of phonemes.
    groups = [(2, 0, 10), (3, 10, 20), (6, 20, 30), (2, 30, 40), (7, 40, 50), (3, 50, 60), (2, 70, 80)]
    times = word_times([(0, 3), (4, 9), (10, 13)], groups, [2, 22, 2], 90, 10, 0.0)
    assert [(time.start_s, time.end_s) for time in times] == [(0.0, 1.0), (1.0, 6.0), (7.0, 8.0)]


def test_words_run_together_share_their_group() -> None:
    times = word_times([(0, 2), (3, 6), (7, 11)], [(4, 0, 40), (4, 50, 90)], [2, 2, 4], 90, 10, 0.0)
    assert [(time.start_s, time.end_s) for time in times] == [(0.0, 2.0), (2.0, 4.0), (5.0, 9.0)]


def test_without_phonemes_the_characters_count() -> None:
    times = word_times([(0, 4), (5, 9)], [], [0, 0], 80, 10, 0.0)
    assert [(time.start_s, time.end_s) for time in times] == [(0.0, 4.0), (4.0, 8.0)]


@given(st.text(alphabet="ab1 ,.;:-!?\n'\"$—[]", max_size=80))
def test_pieces_hold_every_word_once(text: str) -> None:
    spoken = speakable(text)
    assert len(spoken) == len(text)
    in_pieces = [word for start, end in pieces(spoken) for word in words(spoken, start, end)]
    assert in_pieces == words(spoken)


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(0, 12)), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 50), st.integers(0, 20)), max_size=12),
)
def test_times_are_in_order_and_inside_the_audio(
    lengths: list[tuple[int, int]], runs: list[tuple[int, int, int]]
) -> None:
    spans, at = [], 0
    for length, _ in lengths:
        spans.append((at, at + length))
        at += length + 1
    groups, sample = [], 0
    for count, duration, pause in runs:
        groups.append((count, sample, sample + duration))
        sample += duration + pause
    samples = sample or 100
    times = word_times(spans, groups, [letters for _, letters in lengths], samples, 10, 0.0)
    flat = [moment for time in times for moment in (time.start_s, time.end_s)]
    assert flat == sorted(flat)
    assert flat[0] >= 0
    assert flat[-1] <= samples / 10 + 1e-9
