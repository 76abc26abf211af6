"""The tasks of one session: each is owned, is cancelled at the end, and is waited for then alone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from loguru import logger

from .stats import SessionStats

# Cancelled work that has not ended after this long is logged and counted, s.
GRACE_S = 2.0


class Tasks:
    """All tasks of a session.

    Args:
        stats: Gets the count of the undead.
    """

    def __init__(self, stats: SessionStats) -> None:
        self._stats = stats
        self._running: set[asyncio.Task[None]] = set()  # every task, until it is done
        self._abandoned: set[asyncio.Task[None]] = set()  # cancelled, not yet ended
        self._undead: set[asyncio.Task[None]] = set()  # counted as undead, not yet ended

    def __len__(self) -> int:
        return len(self._running)

    def create(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task that is cancelled, and waited for, when the session ends."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def abandon(self, task: asyncio.Task[None]) -> None:
        """Cancel a task and wait for it no longer."""
        task.cancel()
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)

    def watch_abandoned(self) -> None:
        """Count those abandoned by now that still run when their grace is over."""
        if self._abandoned:
            asyncio.get_running_loop().call_later(GRACE_S, self.count_undead, tuple(self._abandoned))

    def count_undead(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        """Log and count, once each, those of these abandoned tasks that still run."""
        for task in tasks:
            if task in self._abandoned and task not in self._undead:
                self._undead.add(task)
                task.add_done_callback(self._undead.discard)
                self._stats.undead += 1
                logger.warning("{} was cancelled {} s ago and still runs", task.get_name(), GRACE_S)

    async def end(self) -> None:
        """Cancel all and wait for their ends, for `GRACE_S` at most."""
        # Work that swallows one cancellation gets another: the grace is shared by all of it.
        for _ in range(4):
            for task in self._running:
                self.abandon(task)
            if not self._abandoned - self._undead:
                return
            await asyncio.wait(self._abandoned - self._undead, timeout=GRACE_S / 4)
        self.count_undead(tuple(self._abandoned))


async def to_its_end(coroutine: Coroutine[Any, Any, None]) -> None:
    """Await a coroutine to its end even when the caller is cancelled meanwhile; then let that through."""
    task = asyncio.get_running_loop().create_task(coroutine)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
