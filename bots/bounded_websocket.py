"""uvicorn's WebSockets, for clients that may stop reading, or send too much."""

from __future__ import annotations

import asyncio
import socket
from asyncio.transports import BaseTransport
from collections.abc import Mapping
from typing import ClassVar, cast
from urllib.parse import unquote, urlsplit

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

# Bytes that wait for a client in this process and, doubled, in the system: some seconds of speech. What
# waits there counts as sent.
BUFFER_BYTES = 32_768
LINGER_S = 5.0  # how long a client may take over the last of them


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that buffers little, and is gone for good when the application is done with it.

    Attributes:
        max_message_bytes: Of a client's message, by path; a larger one closes the connection with 1009.
    """

    max_message_bytes: ClassVar[Mapping[str, int]]

    def connection_made(self, transport: BaseTransport) -> None:
        """Bound what is buffered."""
        super().connection_made(transport)
        # Until it is known which path is asked for: a client may send on at once.
        self.conn.max_message_size = min(self.max_message_bytes.values())
        self.transport.set_write_buffer_limits(high=BUFFER_BYTES)
        connected = cast(socket.socket, transport.get_extra_info("socket"))
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        # asyncio leaves this out where it was given the listening socket: a message could wait 40 ms.
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def handle_connect(self, event: Request) -> None:
        """Take messages as large as the path does."""
        path = unquote(urlsplit(event.path).path)
        if path in self.max_message_bytes:
            self.conn.max_message_size = self.max_message_bytes[path]
        super().handle_connect(event)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Do not wait for ever until a client that does not read has read all."""
        super().on_task_complete(task)
        self.loop.call_later(LINGER_S, self.transport.abort)


def bounded_websocket(max_message_bytes: Mapping[str, int]) -> type[BoundedWebSocket]:
    """A BoundedWebSocket for a server with these limits."""
    return type("BoundedWebSocket", (BoundedWebSocket,), {"max_message_bytes": max_message_bytes})
