"""Cut an answer that is still being written into pieces that can be spoken."""

from __future__ import annotations

import re
from typing import Final
from unicodedata import category, east_asian_width

from sentencex import segment  # type: ignore[import-untyped]

# The length at which text without an end is cut, and the least a first piece that ends at a comma must
# have, in characters; a wide (CJK) character counts as three, being about a syllable or a word.
LIMIT: Final = 200
MIN_LIMIT: Final = 20
FIRST_CLAUSE: Final = 24

# How far behind a possible end the text is looked at, in characters.
LOOKAHEAD: Final = 40

# Ends that need no space behind them: East Asian, Indic, Arabic, Armenian, Ethiopic, Khmer, Burmese.
_FULL_STOPS: Final = "。！？｡।॥؟۔։።፧។။"
_MARK: Final = re.compile(
    rf"(?P<newline>[ \t\r]*\n)|(?P<full>[{_FULL_STOPS}]+)(?P<full_closers>[」』）】〉》”’\"']*)"
    r"|(?P<latin>[.!?…]+)(?P<latin_closers>[\"'”’»)\]}*_`」』）]*)"
    r"|(?P<clause>[,;:—，、；：،][\"'”’»)\]*_]*)"
)
_WIDE_CLAUSE: Final = "—，、；："
_PAIRS: Final = {"“": "”", "„": "”", "«": "»", "「": "」", "『": "』", "（": "）", "(": ")", "[": "]"}
_OPENER: Final = {closer: opener for opener, closer in _PAIRS.items()}
# sentencex never splits inside quotes; the stream must.
_WITHOUT_QUOTES: Final = str.maketrans(dict.fromkeys('"“”„«»‘’()[]{}*_`「」『』（）', " "))

# Where sentencex errs for English: no sentence ends behind the first, one may behind the second.
_NOT_LAST: Final = {"e.g", "i.e", "vs", "cf", "approx"}
_PLAIN_WORDS: Final = {"ok", "me", "may"}


class SentenceSplitter:
    """Cuts a stream of text into sentences, list items and, where there are none, clauses.

    The pieces, in order, are the text, character by character. White space leads the next piece.
    Each piece from `feed` has a letter or a digit, unless it is a run of `limit` other characters.
    The first piece of a text may end at a comma already, so that speech begins early.

    How the text is cut into chunks does not matter, with one exception made for latency: when a chunk
    ends right behind what looks like the end of a sentence or of the first clause ("Hello there."), it
    is taken for one without waiting for more. What may be a decimal, an abbreviation, an initial, an
    ellipsis, an address or inside a quote waits for the next character or word.

    Args:
        language: A language code that sentencex knows, for its abbreviations.
        least: What is shorter waits for what follows, in characters; but not the first piece, nor the last.
        limit: Text without an end is cut here, in characters.

    Raises:
        ValueError: The limit is less than 20 characters, or than `least`.
    """

    def __init__(self, language: str = "en", *, least: int = 1, limit: int = LIMIT) -> None:
        if limit < max(least, MIN_LIMIT):
            raise ValueError(f"pieces of at most {limit} characters, and at least {least}, cannot be cut")
        self._language = language
        self._least = least
        self._limit = limit
        self.clear()

    def clear(self) -> None:
        """Forget the text begun; the next piece is a first one again."""
        self._text = ""  # fed and not yet in a piece
        self._first = True
        self._open: frozenset[str] = frozenset()  # quotes and brackets that pieces left open

    def feed(self, text: str) -> list[str]:
        """Take more text; returns the pieces it completes, often none."""
        return self._take(text, final=False)

    def flush(self) -> list[str]:
        """End the text; returns what is left of it."""
        pieces = self._take("", final=True)
        if self._text and pieces and not _worth_saying(self._text):
            pieces[-1] += self._text
        elif self._text:
            pieces.append(self._text)
        self.clear()
        return pieces

    def _take(self, text: str, *, final: bool) -> list[str]:
        text = self._text + text
        pieces: list[str] = []
        start = 0
        while True:
            window = text[start : start + self._limit + LOOKAHEAD]
            end = self._end(window, final and start + len(window) == len(text))
            if end is None:
                break
            piece = window[:end]
            pieces.append(piece)
            self._first = False
            self._open = _still_open(self._open, piece)
            start += end
        self._text = text[start:]
        return pieces

    def _end(self, text: str, final: bool) -> int | None:
        """Where the first piece of `text` ends; None if that depends on what comes."""
        limit = _limit(text, self._limit)
        for mark in _MARK.finditer(text):
            end = mark.start() if mark["newline"] else mark.end()
            if limit is not None and mark.end() > limit:
                break
            if not _worth_saying(text[:end]) or not (self._first or _weight(text[:end]) >= self._least):
                continue
            ends = self._ends(text[:end], mark, text[end:], final)
            if ends is None:
                return None
            if ends:
                return end
        return None if limit is None else _cut(text, limit)

    def _ends(self, before: str, mark: re.Match[str], after: str, final: bool) -> bool | None:
        """Whether a piece ends at a mark; None if that depends on what comes behind `after`."""
        if mark["newline"]:
            return True
        if not after and _still_open(self._open, before):
            return None
        if mark["clause"]:
            return self._first and _ends_clause(before, mark["clause"], after)
        if mark["full"]:
            # Behind a closing quote the sentence often goes on: 「はい。」と言った。
            return _space_follows(after) if mark["full_closers"] else True
        if after and not after[0].isspace():
            return _width(after[0]) > 1
        stop, closers = mark["latin"], mark["latin_closers"]
        if closers or (len(stop) > 1 and set(stop) <= {".", "…"}) or stop == "…":
            return self._ends_before_word(before, after, final, dotted=stop == ".")
        if stop == ".":
            return self._ends_with_dot(before, after, final)
        return True if after or not _is_address(before) else None

    def _ends_with_dot(self, before: str, after: str, final: bool) -> bool | None:
        word = _last_word(before)
        plain = len(word) > 1 and all(c.isalpha() or c in "'’-" for c in word)
        if plain and (word in _PLAIN_WORDS or (word not in _NOT_LAST and self._splits(before, "Xx"))):
            return True
        return self._ends_before_word(before, after, final, dotted=True)

    def _ends_before_word(self, before: str, after: str, final: bool, *, dotted: bool) -> bool | None:
        """Whether a sentence ends at a mark that only the next word explains."""
        after = after[:LOOKAHEAD]
        following = after.lstrip()
        if not following:
            return True if len(after) == LOOKAHEAD else None
        if following[0].islower():
            return False
        if not dotted:
            return True
        last = _last_word(before)
        if last == "no":  # "No. 5", but "No. That is wrong."
            return not following[0].isdigit()
        if last in _NOT_LAST or _is_enumeration(before):
            return False
        word = following.split(maxsplit=1)[0]
        if len(word) == len(following) and len(after) < LOOKAHEAD and not final:
            return None
        return self._splits(before, word)

    def _splits(self, before: str, following: str) -> bool:
        end = len(before) + 1
        plain = before.translate(_WITHOUT_QUOTES).rstrip().ljust(len(before))
        at = 0
        for sentence in segment(self._language, f"{plain} {following}"):
            at += len(sentence)
            if at >= end:
                return at == end
        return False


def _ends_clause(before: str, clause: str, after: str) -> bool | None:
    if _weight(before) < FIRST_CLAUSE:
        return False
    if clause[0] in _WIDE_CLAUSE:
        return True
    if after:
        return after[0].isspace()
    # "1," may become "1,000", and "https:" an address.
    return True if clause[0] != ":" and not before[-len(clause) - 1].isdigit() else None


def _last_word(before: str) -> str:
    """The word before a dot, in lower case, without what encloses it."""
    return before.rsplit(maxsplit=1)[-1].strip("\"'“”‘’«»()[]{}*_`-—").removesuffix(".").lower()


def _space_follows(after: str) -> bool | None:
    return after[0].isspace() if after else None


def _is_address(before: str) -> bool:
    """Whether the last word may be a URL, an e-mail address or a file name that goes on."""
    word = before.rsplit(maxsplit=1)[-1]
    return any(mark in word for mark in "@/\\") or "." in word.rstrip(".!?…")


def _is_enumeration(before: str) -> bool:
    """Whether all there is is a list number or letter: "1." or "a."."""
    return re.fullmatch(r"[\W_]*(\d+|\w)\.[\W_]*", before) is not None


def _still_open(already: frozenset[str], text: str) -> frozenset[str]:
    """The quotes and brackets that are open behind `text`; a new line closes all."""
    marks = set(already)
    for character in text:
        if character == "\n":
            marks.clear()
        elif character == '"':
            marks ^= {'"'}
        elif character in _PAIRS:
            marks.add(character)
        elif character in _OPENER:
            marks.discard(_OPENER[character])
    return frozenset(marks)


def _worth_saying(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _width(character: str) -> int:
    return 3 if east_asian_width(character) in "WF" else 1


def _weight(text: str) -> int:
    return len(text) if text.isascii() else sum(map(_width, text))


def _limit(text: str, most: int) -> int | None:
    """How many characters of `text` fit into a piece of so much weight; None if all do."""
    if len(text) * (1 if text.isascii() else 3) <= most:
        return None
    weight = 0
    for index, character in enumerate(text):
        weight += _width(character)
        if weight > most:
            return index
    return None


def _cut(text: str, limit: int) -> int:
    """Where to end a piece that has become too long: behind a clause, else a word, else anywhere."""
    clauses = [
        mark.end()
        for mark in _MARK.finditer(text, 0, limit)
        if mark["clause"] and (mark["clause"][0] in _WIDE_CLAUSE or text[mark.end()].isspace())
    ]
    if clauses and clauses[-1] > limit // 4:
        return clauses[-1]
    words = [space.start() for space in re.finditer(r"(?<=\S)\s", text[: limit + 1])]
    if words and _worth_saying(text[: words[-1]]):
        return words[-1]
    # Do not part a letter from its accent, or the parts of an emoji.
    end = limit
    while end > limit // 2 and (category(text[end])[0] == "M" or "\u200d" in text[end - 1 : end + 1]):
        end -= 1
    return end


__all__ = ["FIRST_CLAUSE", "LIMIT", "LOOKAHEAD", "SentenceSplitter"]
