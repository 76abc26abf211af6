"""What can be wrong with a bot's declaration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..pipeline import BargeinError


@dataclass(frozen=True)
class Problem:
    """One mistake.

    Attributes:
        field: Where in the declaration, such as "llm.model" or "pipeline[2].VAD.start_ms"; "" for all of it.
        text: What is wrong and what would be right.
        file, line, column: Where in a file, counted from 1; None for a bot declared in Python.
    """

    field: str
    text: str
    file: str | None = None
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        place = [str(part) for part in (self.file, self.line, self.column) if part is not None]
        return ": ".join(part for part in (":".join(place), self.field, self.text) if part)


class BadBot(BargeinError, ValueError):
    """Raised when a declaration of a bot is wrong; tells of all mistakes, one a line.

    Attributes:
        problems: All of them, in the file's order.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


class NoSuchBot(BargeinError, LookupError):
    """Raised when neither a file nor a shipped bot has this name."""
