"""One answer of the bot, from its first word generated to its last word heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from loguru import logger


@dataclass(slots=True, eq=False)
class Response:
    """What is known of one answer; each field has one writer.

    Attributes:
        id: Unique within the session, "r1", "r2", ...
        interruptible: Whether an interruption ends it. Set when it begins.
        text: What the bot was given to say so far. Written by the TTS as text reaches it.
        heard_to: How many characters of `text` the user has heard. Written by the output.
        silenced: A speech-only interruption hit it: the rest is text only. Written by the session.
        complete: The model has finished its text. Written by the session.
        finished: Nothing more of it will be said. Written by the session.
        error: What went wrong while it was made. Written by the session.
        on_finished: Called with it, each once, when it is finished. What one raises is logged.
    """

    id: str
    interruptible: bool = True
    text: str = ""
    heard_to: int = 0
    silenced: bool = False
    complete: bool = False
    finished: bool = False
    error: Exception | None = None
    on_finished: list[Callable[[Response], None]] = field(default_factory=list)

    async def wait(self) -> None:
        """Wait until it is finished: said to its end, cut off, or over with the session."""
        if not self.finished:
            finished = asyncio.Event()
            self.on_finished.append(lambda response: finished.set())
            await finished.wait()

    def finish(self) -> None:
        """For the session: nothing more of it will be said."""
        self.finished = True
        calls, self.on_finished = self.on_finished, []
        for call in calls:
            try:
                call(self)
            except Exception as error:
                logger.opt(exception=error).error("{}: a callback of on_finished failed", self.id)

    @property
    def heard(self) -> str:
        """The part of `text` the user has heard."""
        return self.text[: self.heard_to]

    @property
    def unheard(self) -> str:
        """The part of `text` the user has not heard."""
        return self.text[self.heard_to :]


class Voice(Protocol):
    """The part of an output that an interruption must reach without an await."""

    def cut(self) -> None:
        """Drop all interruptible audio; each response's `heard_to` is up to date.

        What it raises is logged.
        """
