"""An answer begun before the turn is over: kept back until it is, or thrown away without a trace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai.types.chat.chat_completion_chunk import ChoiceDelta


class Speculation:
    """One completion asked for ahead.

    Attributes:
        messages: What it answers.
        task: Generates it; set by the LLM.
        tokens: Pieces generated so far.
    """

    def __init__(self, messages: list[Any]) -> None:
        self.messages = messages
        self.task: asyncio.Task[None] | None = None
        self.tokens = 0
        self._deltas: asyncio.Queue[ChoiceDelta | Exception | None] = asyncio.Queue()

    def put(self, delta: ChoiceDelta | Exception | None) -> None:
        """Keep a piece; None says that it was the last one, an error that there will be no more."""
        self.tokens += delta is not None
        self._deltas.put_nowait(delta)

    async def take(self) -> AsyncGenerator[ChoiceDelta, None]:
        """All pieces, those to come too; closing the generator ends the completion."""
        try:
            while (delta := await self._deltas.get()) is not None:
                if isinstance(delta, Exception):
                    raise delta
                yield delta
        finally:
            self.cancel()

    def cancel(self) -> None:
        """End the completion."""
        if self.task is not None:
            self.task.cancel()
