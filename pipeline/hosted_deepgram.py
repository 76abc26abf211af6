"""Deepgram's speech names nothing it belongs to: what comes between a Clear and its Cleared is stale."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from pipecat.services.tts_service import TTSService

from .host_setup import check_pipecat

# Services whose provider is told to clear, and says when it has, on a connection without contexts.
MODULES = ("pipecat.services.deepgram.tts",)


def drop_uncleared(service: TTSService) -> None:
    """Have a service of `MODULES` receive nothing that its provider sent before it had cleared.

    Otherwise audio under way at an interruption would be taken for the beginning of the next answer.
    """
    if not any(kind.__module__ in MODULES for kind in type(service).__mro__):
        return
    check_pipecat(service, "_websocket_connect")
    connect: Any = getattr(service, "_websocket_connect")  # noqa: B009 - not every TTSService has one

    async def connected(*args: Any, **kwargs: Any) -> _Clearing:
        return _Clearing(await connect(*args, **kwargs))

    vars(service)["_websocket_connect"] = connected


class _Clearing:
    """A connection that keeps what is not cleared yet to itself."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._due = 0  # Clear messages sent whose Cleared has not come

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    async def send(self, message: str) -> None:
        if _kind(message) == "Clear":
            self._due += 1
        await self._socket.send(message)

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        async for message in self._socket:
            if self._due and isinstance(message, str) and _kind(message) == "Cleared":
                self._due -= 1
            if not self._due:
                yield message


def _kind(message: str) -> object:
    try:
        told = json.loads(message)
    except ValueError:
        return None
    return told.get("type") if isinstance(told, dict) else None
