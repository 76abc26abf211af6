"""A WebSocket that we opened, in the shape of one that a client opened to us."""

from __future__ import annotations

from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed


class OutgoingSocket:
    """What `WebSocketConnection` needs of Starlette's WebSocket."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def receive(self) -> dict[str, Any]:
        """One message, or that there are no more."""
        try:
            data = await self._connection.recv()
        except ConnectionClosed as error:
            code = error.rcvd.code if error.rcvd is not None else 1006
            return {"type": "websocket.disconnect", "code": code}
        return {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}

    async def send_text(self, data: str) -> None:
        await self._send(data)

    async def send_bytes(self, data: bytes) -> None:
        await self._send(data)

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code, reason)

    async def _send(self, data: str | bytes) -> None:
        try:
            await self._connection.send(data)
        except ConnectionClosed as error:
            raise RuntimeError("the peer is gone") from error
