"""When words are spoken where a service does not tell: a share of the audio, estimated while it comes."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

# Before anything is known of a voice: 150 words a minute, the common figure for reading aloud, at six
# characters with the space.
FIRST_GUESS = 15.0
# How much the latest text counts.
_WEIGHT = 0.3
_WORD = re.compile(r"\S*\w\S*")


@dataclass(frozen=True, slots=True)
class WordTime:
    """When one word is spoken.

    `start` and `end` are the word's character span in the text that was given, with the punctuation that
    touches it, so `text[:word.end]` is what had been said when the word ended. `start_s` and `end_s` are
    seconds from the start of the request's audio.
    """

    start: int
    end: int
    start_s: float
    end_s: float


def words(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """The spans of the words in `text[start:end]`, each with the punctuation that touches it."""
    return [found.span() for found in _WORD.finditer(text, start, len(text) if end is None else end)]


class Pace:
    """How fast a voice speaks, in characters a second; better known with each text it has spoken."""

    def __init__(self) -> None:
        self.characters_per_s = FIRST_GUESS

    def learn(self, characters: int, seconds: float) -> None:
        """Take into account how long a text took."""
        if characters and seconds > 0:
            self.characters_per_s += _WEIGHT * (characters / seconds - self.characters_per_s)


class PacedWords:
    """The words of one text, told as its audio comes.

    Each word has its share of the audio. That is known when the audio is complete; a word that may be heard
    before then is told at the pace the voice had before.

    Attributes:
        text: What has been given so far.
    """

    def __init__(self, text: str, pace: Pace) -> None:
        self.text = text
        self._pace = pace
        self._characters_per_s = pace.characters_per_s  # others may speak, and change it, meanwhile
        self._left = deque(words(text))
        self._told = 0  # end of the last word told, in characters
        self._told_s = 0.0  # and in seconds

    def add(self, text: str) -> None:
        """The text goes on."""
        if text:
            self.text += text
            self._left = deque(words(self.text, self._told))

    def until(self, seconds: float) -> tuple[WordTime, ...]:
        """The words that have probably been spoken after so much audio, without those told before."""
        told: list[WordTime] = []
        while self._left and self._left[0][1] / self._characters_per_s <= seconds:
            told.append(self._tell(max(self._told_s, self._left[0][1] / self._characters_per_s)))
        return tuple(told)

    def complete(self, seconds: float) -> tuple[WordTime, ...]:
        """The words that are left, when the audio is this long and no longer. The pace learns from it."""
        self._pace.learn(len(self.text), seconds)
        told: list[WordTime] = []
        while self._left:
            told.append(self._tell(max(self._told_s, seconds * self._left[0][1] / len(self.text))))
        return tuple(told)

    def _tell(self, end_s: float) -> WordTime:
        start, self._told = self._left.popleft()
        start_s, self._told_s = self._told_s, end_s
        return WordTime(start, self._told, start_s, end_s)


__all__ = ["FIRST_GUESS", "Pace", "PacedWords", "WordTime", "words"]
