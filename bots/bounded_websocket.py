"""uvicorn's WebSockets, for clients that may stop reading."""

from __future__ import annotations

import asyncio
import socket
from asyncio.transports import BaseTransport
from typing import cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

# Bytes that wait for a client in this process and, doubled, in the system: some seconds of speech. What
# waits there counts as sent.
BUFFER_BYTES = 32_768
LINGER_S = 5.0  # how long a client may take over the last of them


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that buffers little, and is gone for good when the application is done with it."""

    def connection_made(self, transport: BaseTransport) -> None:
        """Bound what is buffered."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=BUFFER_BYTES)
        connected = cast(socket.socket, transport.get_extra_info("socket"))
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Do not wait for ever until a client that does not read has read all."""
        super().on_task_complete(task)
        self.loop.call_later(LINGER_S, self.transport.abort)
