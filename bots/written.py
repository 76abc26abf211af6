"""Bots without ears and voice: for typing, where there is nothing to hear and to speak with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..pipeline import BargeinError
from .bot import Bot
from .parts import (
    BargeInPart,
    InputPart,
    OutputPart,
    OwnPart,
    ParallelPart,
    Part,
    SentencesPart,
    STTPart,
    TTSPart,
    TurnPart,
    UserContextPart,
    VADPart,
    every,
)

SPOKEN = (VADPart, TurnPart, STTPart, BargeInPart, SentencesPart, TTSPart, InputPart, OutputPart)


class NothingToWriteTo(BargeinError, TypeError):
    """Raised when a bot keeps no conversation that one could write into."""


def written(bot: Bot) -> Bot:
    """The same bot for typing alone: an answer is over when its text is complete.

    Raises:
        NothingToWriteTo: It has no `UserContext`: it only listens.
    """
    parts = tuple(_unspoken(bot.declaration.parts))
    if not any(isinstance(part, UserContextPart) for part in every(parts)):
        raise NothingToWriteTo(f"{bot.name} has no language model to write to")
    spoken = {"stt": None, "tts": None, "pipeline": parts}
    return Bot.from_declaration(bot.declaration.model_copy(update=spoken))


def _unspoken(parts: Iterable[Part]) -> Iterator[Part]:
    for part in parts:
        if isinstance(part, ParallelPart):
            branches = [branch for branch in map(tuple, map(_unspoken, part.branches)) if branch]
            if branches:
                yield part.model_copy(update={"branches": tuple(branches)})
        elif not isinstance(part, SPOKEN) and not (isinstance(part, OwnPart) and part.speaks):
            yield part
