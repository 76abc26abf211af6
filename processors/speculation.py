"""An answer begun before the turn is over: kept back until it is, or thrown away without a trace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from .services.chat import Piece


class Speculation:
    """One completion asked for ahead.

    Attributes:
        messages: What it answers.
        task: Generates it; set by the LLM.
        tokens: Pieces of text generated so far.
    """

    def __init__(self, messages: list[Any]) -> None:
        self.messages = messages
        self.task: asyncio.Task[None] | None = None
        self.tokens = 0
        self._pieces: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()

    def put(self, piece: Piece | Exception | None) -> None:
        """Keep a piece; None says that it was the last one, an error that there will be no more."""
        self.tokens += isinstance(piece, str)
        self._pieces.put_nowait(piece)

    async def take(self) -> AsyncGenerator[Piece, None]:
        """All pieces, those to come too; closing the generator ends the completion."""
        try:
            while (piece := await self._pieces.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.cancel()

    def cancel(self) -> None:
        """End the completion."""
        if self.task is not None:
            self.task.cancel()
