"""Word times for services that give none: a share of the audio, estimated while it is not all there."""

from __future__ import annotations

from collections import deque

from ..local.spoken_text import words
from ..local.types import WordTime

# Before anything is known of a voice: 150 words a minute, the common figure for reading aloud, at six
# characters with the space.
FIRST_GUESS = 15.0
# How much the latest sentence counts.
_WEIGHT = 0.3


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
    """

    def __init__(self, text: str, pace: Pace) -> None:
        self._pace = pace
        self._characters_per_s = pace.characters_per_s  # others may speak, and change it, meanwhile
        self._characters = len(text)
        self._left = deque(words(text))
        self._told_s = 0.0  # end of the last word told

    def until(self, seconds: float) -> tuple[WordTime, ...]:
        """The words that have probably been spoken after so much audio, without those told before."""
        told: list[WordTime] = []
        while self._left and self._left[0][1] / self._characters_per_s <= seconds:
            told.append(self._tell(self._left[0][1] / self._characters_per_s))
        return tuple(told)

    def complete(self, seconds: float) -> tuple[WordTime, ...]:
        """The words that are left, when the audio is this long and no longer. The pace learns from it."""
        self._pace.learn(self._characters, seconds)
        told: list[WordTime] = []
        while self._left:
            told.append(self._tell(max(self._told_s, seconds * self._left[0][1] / self._characters)))
        return tuple(told)

    def _tell(self, end_s: float) -> WordTime:
        start, end = self._left.popleft()
        start_s, self._told_s = self._told_s, end_s
        return WordTime(start, end, start_s, end_s)
