"""An answer that breaks off goes on: what was said is given back to a model, and what it repeats is left out.

A conversation that ends with the assistant's own words asks for what comes behind them; see `ChatModel`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from .chat import Call, Piece, is_answer
from .writing import MARKS, SPACELESS, is_spaceless

# Ends a request to a model that has to be told to go on. The repeated word shows where the new text begins,
# and completes a word that broke off in its middle.
GO_ON = (
    "(Your answer was cut off there. In its language, write its last word once more, whole, and go straight"
    " on from it to the end of the answer. Write nothing else: no greeting, no apology, no comment.)"
)

# In scripts without spaces each character is a word of its own.
_WORD = re.compile(rf"(?=[\w{MARKS}])[{SPACELESS}]|(?:(?![{SPACELESS}])[\w{MARKS}])+")
_AFTER_WORD = re.compile(rf"[^\w{MARKS}]+$")
_ELLIPSIS = re.compile(r"^\s*(\.{2,}|…)\s*|^\s+")


def beginning(messages: Sequence[Any]) -> tuple[Sequence[Any], str]:
    """The conversation without the assistant's last words, and these; "" if it does not end with any."""
    last = messages[-1] if messages else None
    if isinstance(last, dict) and last["role"] == "assistant" and not last.get("tool_calls"):
        said = last.get("content")
        if isinstance(said, str):
            return messages[:-1], said
    return messages, ""


class Answer:
    """One answer, whatever the number of requests it takes.

    Args:
        messages: The conversation it belongs to.
    """

    def __init__(self, messages: Sequence[Any]) -> None:
        self._before, self._said = beginning(messages)
        self._called = False

    @property
    def messages(self) -> Sequence[Any]:
        """What the next request is about: the conversation with what was said so far."""
        said = {"role": "assistant", "content": self._said}
        return [*self._before, said] if self._said.strip() else self._before

    def can_go_on(self) -> bool:
        """Whether a request may follow one that broke off: a tool call is never asked for twice."""
        return not self._called

    async def follow(self, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
        """The pieces of one request, noted."""
        async with aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, str):
                    self._said += piece
                self._called = self._called or isinstance(piece, Call)
                yield piece


class Join(Protocol):
    """Puts new text behind what was said."""

    def take(self, text: str) -> str:
        """The next piece of the new text; returns what can be said now."""
        ...

    def end(self) -> str:
        """There is no more text: returns what was kept back."""
        ...


class Repeated:
    """Text of a model that was told to go on: it repeats the last word, or more, or nothing.

    Its first words are kept back as long as they may be a repetition.
    """

    def __init__(self, said: str) -> None:
        self._said = said
        self._words = _WORD.findall(_folded(said))
        self._held: str | None = ""  # of the new text; None once it is joined

    def take(self, text: str) -> str:
        if self._held is None:
            return text
        self._held += text
        return "" if self._may_repeat() else self._joined()

    def end(self) -> str:
        held = self._held or ""
        words = _WORD.findall(_folded(held))
        if words:
            ends_alike = self._words[-len(words) :] == words
        else:
            ends_alike = bool(held) and not _AFTER_WORD.search(self._said.rstrip())
        return self._joined() if ends_alike else ""  # a repetition that nothing follows says nothing new

    def _may_repeat(self) -> bool:
        """Whether what is kept back stands somewhere in what was said, as far as it has come."""
        *whole, last = _WORD.findall(_folded(self._held or "")) or [""]  # "" may become any word
        count = len(whole)
        return any(
            self._words[at : at + count] == whole and self._words[at + count].startswith(last)
            for at in range(len(self._words) - count)
        )

    def _joined(self) -> str:
        held, self._held = self._held or "", None
        new = list(_WORD.finditer(held))
        words = [_folded(word[0]) for word in new]
        for count in range(min(len(words), len(self._words)), 0, -1):
            *whole, last = self._words[-count:]
            if words[: count - 1] == whole and words[count - 1].startswith(last):
                return self._without_marks(held[new[count - 1].start() + len(last) :])
        text = _ELLIPSIS.sub("", held)
        return f" {text}" if _wants_space(self._said[-1:], text[:1]) else text

    def _without_marks(self, text: str) -> str:
        """What follows the last word said, without the marks and the space that follow it already."""
        marks = _AFTER_WORD.search(self._said)
        behind = marks[0] if marks else ""
        text = _ELLIPSIS.sub("", text).removeprefix(behind.strip()) if behind.strip() else text
        if behind != behind.rstrip():
            return text.lstrip()
        return f" {text}" if behind and _wants_space(behind[-1], text[:1]) else text


class Filled:
    """Text of a server that goes on with the assistant's last message itself, at the next character."""

    def __init__(self, said: str) -> None:
        self._spaced = said != said.rstrip()  # such servers do badly when they are given the space

    def take(self, text: str) -> str:
        if self._spaced:
            text = text.lstrip()
            self._spaced = not text
        return text

    def end(self) -> str:
        return ""


async def behind(join: Join, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
    """The pieces of a request that goes on with an answer."""
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, str):
                if text := join.take(piece):
                    yield text
                continue
            if is_answer(piece) and (rest := join.end()):
                yield rest
            yield piece
    if rest := join.end():
        yield rest


def _wants_space(last: str, first: str) -> bool:
    """Whether text that ends and text that begins like this have a space between them."""
    if not _WORD.match(first) or is_spaceless(first) or is_spaceless(last):
        return False
    return bool(last) and (bool(_WORD.match(last)) or last in ".,;:!?…।")


def _folded(text: str) -> str:
    """The text in small letters, as many as it has: a capital that would become two stays."""
    return "".join(small if len(small := letter.lower()) == 1 else letter for letter in text)
