"""What local servers of language models have in common: scripted answers, and what became of each request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .provider import Provider

# Text, or whatever else the server sends as it is on its wire.
Token = str | dict[str, Any]


@dataclass
class ModelRequest:
    """One request as the server saw it.

    Attributes:
        body: The JSON that was sent.
        model: Which one it asks.
        sent: How many tokens went out.
        outcome: Done with "finished", "refused", or "closed" when the connection ended first.
    """

    body: dict[str, Any]
    model: str
    sent: int = 0
    outcome: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ScriptedModel(Provider):
    """Gives the answers of a script.

    Attributes:
        token_s: Pause before each token, s.
        requests: All that came, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.token_s = 0.0
        self.requests: list[ModelRequest] = []
        self._script: list[list[Token]] = []

    def script(self, *answers: list[Token]) -> None:
        """Give these answers, one after the other."""
        self._script = list(answers)

    @contextmanager
    def answering(self, taken: ModelRequest) -> Iterator[list[Token]]:
        """The next answer, sent in the block; notes what became of it."""
        try:
            yield self._script.pop(0)
            taken.outcome.set_result("finished")
        except ConnectionError:
            pass
        finally:
            if not taken.outcome.done():
                taken.outcome.set_result("closed")
            self.note()
