"""The sentence splitter: where pieces end, how early they come, and what never changes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bargein.processors.text import LIMIT, LOOKAHEAD, SentenceSplitter


def pieces_of(*chunks: str, language: str = "en") -> list[str]:
    splitter = SentenceSplitter(language)
    pieces = [piece for chunk in chunks for piece in splitter.feed(chunk)]
    return pieces + splitter.flush()


def weight(text: str) -> int:
    return sum(3 if ord(character) > 0x2E80 else 1 for character in text)


# A bar is where one piece ends and the next begins.
@pytest.mark.parametrize(
    "marked",
    [
        "Hello there.| How are you?| Fine!",
        "hello there.| how are you",
        "What?!| No way!!",
        # Numbers, versions, times, ordinals.
        "It comes to 3.14 and more.| Good.",
        "It comes to 3.| Then we stop.",
        "Use Python 3.11.7 and v1.2 here.| It works.",
        "It starts at 12.30 or 12:45,| maybe.",
        "1. First|\n2. Second",
        "1. First we go.| 2. Then we stop.",
        "a. Apples are red.",
        "Step 1.| Do this.",
        "No. 5 is alive.| No.| That is wrong.",
        # Abbreviations and initials.
        "Dr. Smith met Mrs. Jones.| They talked.",
        "J. K. Rowling and George R. R. Martin write.| A lot.",
        "Take fruit, e.g. Apples,| i.e. The red ones, vs. The green.",
        "It takes approx. 5 minutes etc. and more.",
        "The U.S. Army came.| It left the U.S.| The end.",
        "Come at 5 p.m. sharp.| Or at 6 p.m.| She said so.",
        "Acme Inc. makes it.| OK.| Paris is next.| Call me.| Paris is nice.",
        # Ellipses.
        "Well... maybe.| Hmm...| Let me see…| Right.",
        # Addresses and files.
        "See example.com/a.b?c=d or mail me@example.org.| Done.",
        "Run setup.py with Node.js.| Then wait.",
        # Quotes and brackets.
        'He said "Stop."| Then he left.',
        'He said "Stop.| Go now." and left.',
        "He said “Really?” and left (at noon.).| Good.",
        "(He came.| Then he left.)| Next.",
        "**Hello there.**| Next.",
        # Lists without punctuation.
        "You need|\n- milk|\n- two eggs|\n\nThat is all",
        "Red|\r\nGreen|\r\nBlue",
        # Other scripts.
        "今日は。|元気ですか？|はい！",
        "彼は「はい。」と言った。|次。",
        "他说：“好。”然后走了。|我们也走。",
        "यह है।| वह है।",
        "كيف حالك؟| بخير.",
        "Great!| 😀 Nice.",
    ],
)
def test_where_pieces_end(marked: str) -> None:
    pieces = marked.split("|")
    assert pieces_of("".join(pieces)) == pieces


@pytest.mark.parametrize(
    ("language", "marked"),
    [
        ("de", "Am 3. Mai kam er, z. B. mit Hr. Meier.| Gut."),
        ("es", "El Sr. Pérez vino.| Adiós."),
        ("fr", "Voilà M. Hugo.| Il est là."),
    ],
)
def test_abbreviations_of_other_languages(language: str, marked: str) -> None:
    pieces = marked.split("|")
    assert pieces_of("".join(pieces), language=language) == pieces


@pytest.mark.parametrize(
    "text",
    ["Hello there.", "Really?", "Yes!", "OK.", "你好。", "The capital of France is Paris,"],
)
def test_a_certain_end_is_not_waited_for(text: str) -> None:
    assert SentenceSplitter().feed(text) == [text]


@pytest.mark.parametrize(
    ("begun", "more", "pieces"),
    [
        ("It comes to 3.", "14", []),
        ("It comes to 3.", " ", []),
        ("It comes to 3.", " Then ", ["It comes to 3."]),
        ("I met Dr.", " Smith ", []),
        ("We left the U.S.", " The ", ["We left the U.S."]),
        ("We joined the U.S.", " Army ", []),
        ("Well..", ". maybe", []),
        ("Well...", " Right", ["Well..."]),
        ('He said "Stop.', '"', []),
        ('He said "Stop.', " Go", ['He said "Stop.']),
        ('He said "Stop."', " Then ", ['He said "Stop."']),
        ('He said "Stop."', " and", []),
        ("See https://example.com/?", "a=b", []),
        ("「はい。", "」", []),
        ("It has a population of 1,", "000", []),
        ("You will find it at https:", "//", []),
    ],
)
def test_an_uncertain_end_waits(begun: str, more: str, pieces: list[str]) -> None:
    splitter = SentenceSplitter()
    assert splitter.feed(begun) == []
    assert splitter.feed(more) == pieces


def test_the_first_piece_may_end_at_a_clause() -> None:
    text = "The capital of France is Paris, which lies on the Seine, in the north. It rains, often, in Paris."
    assert pieces_of(text) == [
        "The capital of France is Paris,",
        " which lies on the Seine, in the north.",
        " It rains, often, in Paris.",
    ]
    assert pieces_of("Well, it is good.") == ["Well, it is good."]
    assert pieces_of("法国的首都是巴黎，它位于塞纳河畔，很美。") == [
        "法国的首都是巴黎，",
        "它位于塞纳河畔，很美。",
    ]


def test_an_open_quote_is_remembered_across_pieces_up_to_the_end_of_its_line() -> None:
    splitter = SentenceSplitter()
    assert splitter.feed('He said "Stop. Go now.') == ['He said "Stop.']
    assert splitter.feed('"') == []
    splitter.clear()
    assert splitter.feed('The table is 5" wide. Or 6.\nHello there.') == [
        'The table is 5" wide.',
        " Or 6.",
        "\nHello there.",
    ]


def test_clear_forgets_the_text_and_flush_begins_anew() -> None:
    splitter = SentenceSplitter()
    splitter.feed('He said "so')
    splitter.clear()
    assert splitter.flush() == []
    assert splitter.feed("The capital of France is Paris,") == ["The capital of France is Paris,"]
    assert splitter.feed(" a city") == []
    assert splitter.flush() == [" a city"]
    assert splitter.feed("The capital of France is Paris,") == ["The capital of France is Paris,"]


def test_text_without_letters_joins_a_neighbour() -> None:
    assert pieces_of("- - -\n***\nHello.") == ["- - -\n***\nHello."]
    assert pieces_of("It is 3.\n---") == ["It is 3.\n---"]
    assert pieces_of("She went at 3. 😀") == ["She went at 3. 😀"]
    assert pieces_of("...") == ["..."]


@pytest.mark.parametrize(
    ("text", "longest", "count"),
    [
        ("word " * 120, LIMIT, 4),
        ("a word, and " * 50, LIMIT, 4),
        ("x" * 600, LIMIT, 3),
        ("我们" * 300, LIMIT // 3, 10),
        ("-" * 900, LIMIT, 5),
        (" " * 900, LIMIT, 5),
        ("e\u0301" * 300, LIMIT, 3),
        ("See 5 p.m." + " " * 900, LIMIT, 6),
    ],
)
def test_text_without_ends_is_cut(text: str, longest: int, count: int) -> None:
    pieces = pieces_of(text)
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= longest
    assert len(pieces) <= count
    assert pieces_of(*text) == pieces


def test_long_text_is_cut_at_a_clause_else_at_a_word() -> None:
    long = "one two three four five six seven eight nine ten " * 3
    assert pieces_of(f"{long}, {long}")[0] == f"{long},"
    words = [piece.split() for piece in pieces_of(long * 3)]
    assert [word for piece in words for word in piece] == (long * 3).split()
    assert len(words) == 3


def test_accents_and_joined_emoji_are_not_parted() -> None:
    for unit in ("e\u0301", "👩\u200d🚀"):
        for piece in pieces_of(unit * 300)[:-1]:
            assert len(piece) % len(unit) == 0


# Properties ------------------------------------------------------------------------------------------

FRAGMENTS = [
    *("Hello", "there", "we", "The", "3", "14", "1,000", "Dr.", "e.g.", "U.S.", "p.m.", "No.", "J.", "OK."),
    *(".", ".", "!", "?", "...", "…", ",", ";", ":", "—", '"', "“", "”", "(", ")", "'", "*", "-", "1."),
    *(" ", " ", " ", " ", "\n", "example.com/?a", "me@x.org", "v1.2.3", "😀", "e\u0301", "x" * 90),
    *("今日", "は", "。", "！", "、", "「", "」", "है", "।", " \t "),
]
texts = st.lists(st.sampled_from(FRAGMENTS), max_size=60).map("".join)
any_text = texts | st.text(max_size=500)
cuts = st.lists(st.integers(min_value=0, max_value=700), max_size=40)
MARKS = frozenset(".!?…,;:—，、；：،。！？｡।॥؟۔։።፧។။\"'”’»)]}*_`」』）】〉》")


def chunks_of(text: str, at: list[int]) -> list[str]:
    places = [0, *sorted(place for place in at if place < len(text)), len(text)]
    return [text[a:b] for a, b in pairwise(places)]


@given(any_text, cuts)
@example("See 5 p.m." + " " * 300 + "x", [290])
def test_the_pieces_are_the_text(text: str, at: list[int]) -> None:
    assert "".join(pieces_of(*chunks_of(text, at))) == text


@given(any_text, cuts)
def test_every_piece_of_feed_can_be_said_and_is_short(text: str, at: list[int]) -> None:
    splitter = SentenceSplitter()
    for chunk in chunks_of(text, at):
        for piece in splitter.feed(chunk):
            assert len(piece) <= LIMIT
            assert any(c.isalnum() for c in piece) or weight(piece) > LIMIT / 3
            assert not piece[-1].isspace() or len(piece) > LIMIT / 3
        assert len(splitter._text) <= LIMIT + LOOKAHEAD


@given(any_text, cuts)
def test_chunks_do_not_matter_unless_one_ends_at_a_mark_that_goes_on(text: str, at: list[int]) -> None:
    chunks = chunks_of(
        text, [a for a in at if not (0 < a < len(text) and text[a - 1] in MARKS and not text[a].isspace())]
    )
    assert pieces_of(*chunks) == pieces_of(text)


@given(texts, cuts)
def test_clear_leaves_nothing_behind(text: str, at: list[int]) -> None:
    splitter = SentenceSplitter()
    for chunk in chunks_of(text, at):
        splitter.feed(chunk)
    splitter.clear()
    assert splitter.feed(text) + splitter.flush() == pieces_of(text)


@given(st.lists(st.sampled_from(["Hello there", "How is it", "We went home"]), min_size=1), st.data())
def test_plain_sentences_come_at_once_and_whole(sentences: list[str], data: st.DataObject) -> None:
    splitter = SentenceSplitter()
    for index, sentence in enumerate(sentences):
        whole = f"{' ' if index else ''}{sentence}{data.draw(st.sampled_from('.!?'))}"
        assert splitter.feed(whole[:-1]) == []
        assert splitter.feed(whole[-1]) == [whole]
    assert splitter.flush() == []


def sized(text: str, least: int, limit: int, step: int = 7) -> list[str]:
    splitter = SentenceSplitter(least=least, limit=limit)
    chunks = [text[at : at + step] for at in range(0, len(text), step)]
    return [piece for chunk in chunks for piece in splitter.feed(chunk)] + splitter.flush()


def test_short_pieces_are_put_together_but_for_the_first_and_the_last() -> None:
    text = "Yes. It is. I think so. It has been so for years. No doubt. Bye."
    assert sized(text, 20, 200) == [
        "Yes.",
        " It is. I think so. It has been so for years.",
        " No doubt. Bye.",
    ]
    assert sized(text, 1, 200)[:3] == ["Yes.", " It is.", " I think so."]


def test_a_limit_of_ones_own() -> None:
    pieces = sized("one two three four five six seven eight nine ten " * 5, 1, 60)
    assert len(pieces) > 4
    assert all(len(piece) <= 60 for piece in pieces)
    with pytest.raises(ValueError, match="at most 40 characters, and at least 50"):
        SentenceSplitter(least=50, limit=40)
    with pytest.raises(ValueError, match="at most 5 characters"):
        SentenceSplitter(limit=5)


@given(
    st.text(alphabet="ab .,!?\n今。", max_size=400),
    st.integers(1, 60),
    st.integers(60, 250),
    st.integers(1, 50),
)
def test_whatever_the_sizes_the_pieces_are_the_text(text: str, least: int, limit: int, step: int) -> None:
    pieces = sized(text, least, limit, step)
    assert "".join(pieces) == text
    for piece in pieces[:-1]:
        assert weight(piece) <= limit + 1
    for piece in pieces[1:-1]:
        assert weight(piece) >= min(least, limit // 4)
