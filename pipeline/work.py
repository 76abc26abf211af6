"""Which interruption epoch running code belongs to.

Every piece of interruptible work runs with a `Work` in a context variable. Tasks, `asyncio.to_thread`
and callbacks copy the context, so whatever the work spawns belongs to it too. An interruption replaces
the session's epoch; from then on the old work is stale and what it pushes is dropped.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .response import Response
    from .session import Session


@dataclass(frozen=True, slots=True, eq=False)
class Epoch:
    """The number of full and of speech-only interruptions a session has seen; compared by identity."""

    session: Session
    response: int
    speech: int


class Work:
    """What interruptible code is working for.

    The engine writes `epoch` once; `response` is set by whoever begins a response.
    """

    __slots__ = ("epoch", "response")

    def __init__(self, epoch: Epoch | None, response: Response | None = None) -> None:
        self.epoch = epoch
        self.response = response


# Code outside any interruptible work: transports, timers, system-frame handlers, uninterruptible frames.
# What it pushes is always current.
ROOT = Work(None)

current_work: ContextVar[Work] = ContextVar("bargein_work", default=ROOT)
