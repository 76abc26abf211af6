"""Where a part of a bot's pipeline is made: in one session, from what all sessions share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from ..pipeline import Processor
from ..processors.context import Context
from ..processors.stt import Transcriber
from ..processors.tools import Tools
from ..processors.turn import EndOfTurn
from ..processors.vad import SpeechProbability
from .options import Options


@dataclass
class Shared:
    """What the sessions of a bot share in one process.

    Attributes:
        new_vad: Makes the speech detector of one session.
        end_of_turn: Hears whether a turn is complete.
        second: Reads short speech over the bot a second time.
        on_failure: Called when a service has failed that others stand in for.
        opened: What parts with services have opened, by the part.
    """

    new_vad: Callable[[], SpeechProbability]
    end_of_turn: EndOfTurn | None
    second: Transcriber | None = None
    on_failure: Callable[[], None] = lambda: None
    opened: list[tuple[Options, Any]] = field(default_factory=list)

    def of(self, part: Options | None) -> Any:
        """What this part, or one equal to it, has opened."""
        return next(opened for known, opened in self.opened if known == part)


@dataclass
class Place:
    """One session.

    Attributes:
        source, sink: The transport's ends.
        clients: Processors that tell a client what happens.
        stack: Closed when the session's pipeline is no longer needed.
    """

    shared: Shared
    context: Context
    tools: Tools
    source: Processor
    sink: Processor
    clients: tuple[Processor, ...]
    stack: ExitStack
