"""From the words a service says it spoke to characters of the text it was asked to speak."""

from __future__ import annotations

import re
from unicodedata import normalize

# A run of letters and digits; in scripts without spaces each character by itself.
_SPACELESS = r"\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff"
_PIECE = re.compile(rf"(?=\w)[{_SPACELESS}]|[^\W{_SPACELESS}]+")
# Punctuation up to the next space: it is spoken with the word it touches.
_TOUCHING = re.compile(r"[^\w\s]*(?=\s|$)")
# How many pieces of the text a spoken word may skip: "$1,500.25" is read as words that are not in the text.
LOOKAHEAD = 5


class Alignment:
    """Follows the words of one text as they are spoken.

    Services give words as they read them: split, without punctuation, numbers spelled out. A word that is
    not found near where the last one ended stands for something that was written otherwise, and moves
    nothing: what was heard is then known one word later.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._pieces = [(_folded(found[0]), found.start(), found.end()) for found in _PIECE.finditer(text)]
        self._next = 0  # index of the first piece that was not spoken yet

    def find(self, word: str) -> tuple[int, int] | None:
        """The span of a word that was spoken, with the punctuation that touches its end; None if unknown.

        Spans never overlap and come in the order of the text.
        """
        first: int | None = None
        for found in _PIECE.finditer(word):
            at = self._index(_folded(found[0]))
            if at is not None:
                first = at if first is None else first
                self._next = at + 1
        if first is None:
            return None
        end = self._pieces[self._next - 1][2]
        touching = _TOUCHING.match(self._text, end)
        return self._pieces[first][1], touching.end() if touching else end

    def _index(self, piece: str) -> int | None:
        for at in range(self._next, min(self._next + LOOKAHEAD, len(self._pieces))):
            if self._pieces[at][0] == piece:
                return at
        return None


def _folded(piece: str) -> str:
    return normalize("NFKC", piece).casefold()
