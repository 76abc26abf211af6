"""`bargein run`: a bot behind the web page, WebSockets and telephone streams."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Callable, Collection
from contextlib import suppress

from ..pipeline import BargeinError, Session
from ..transports.ends import ends_of
from ..transports.rtvi import RTVI
from ..transports.voice_agent import VoiceAgentProtocol
from ..transports.webrtc import WebRTCConnection
from ..transports.websocket import PhoneProtocol, WebSocketConnection
from .bot import Bot, RunningBot
from .live_policies import offer_policies
from .parts import OutputPart, OwnPart, STTPart, UserContextPart, every
from .server import About, create_app, serve
from .watching import Watch

# Where a bot is reached by transports that are no pages; the path of the default encoding stands for all.
SOCKETS = {"websocket": ("/ws", "/ws/rtvi"), "phone": ("/ws/phone",), "voice-agent": ("/ws/voice",)}


class PortInUse(BargeinError, OSError):
    """Raised when another program listens at the port the server is to use."""


class CannotListen(BargeinError, OSError):
    """Raised when the server cannot listen at an address."""


async def serve_bot(
    running: RunningBot,
    host: str,
    port: int,
    *,
    max_sessions: int | None = None,
    allowed_origins: Collection[str] = (),
    watch: Watch | None = None,
    ready: Callable[[str], None] = lambda url: None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve a bot until a signal to stop.

    Args:
        running: What to serve.
        host, port: Where to listen.
        max_sessions: In place of the bot's own limit.
        allowed_origins: Web pages that may talk to it besides its own, see `create_app`.
        watch: Observes the sessions; its metrics are served.
        ready: Called with the page's address once it is served.
        stop: Stops it too, when it is set.
    """
    watch = watch or Watch()

    async def run_bot(connection: WebRTCConnection | WebSocketConnection) -> None:
        await run_session(running, connection, watch)

    declaration = running.bot.declaration
    takes_sockets = {"websocket", "phone", "voice-agent"} & set(declaration.takes)
    app = create_app(
        run_bot,
        run_socket_bot=run_bot if takes_sockets else None,
        max_sessions=max_sessions or declaration.limits.max_sessions,
        allowed_origins=allowed_origins,
        about=_about(running.bot),
        metrics=watch.metrics,
        ice_servers=declaration.ice_servers,
        calls=declaration.calls,
    )
    await serve(app, host, port, started=lambda: ready(page_url(host, port)), stop=stop)


async def run_session(
    running: RunningBot, connection: WebRTCConnection | WebSocketConnection, watch: Watch | None = None
) -> None:
    """One conversation on a connection, to its end; one that the bot's transports exclude ends at once."""
    kind = _transport_of(connection)
    if kind not in running.bot.declaration.takes:
        connection.lose(f"{running.bot.name} takes no {kind} connections")
        return
    ends = ends_of(connection, running.bot.declaration.report_calls)
    with running.pipeline(ends.source, ends.sink, *ends.clients) as pipeline:
        for client in ends.clients:
            if isinstance(client, RTVI):
                offer_policies(pipeline, client)
        session = Session(pipeline)
        with (watch or Watch()).session(session, connection.id[:8], ends.clients):
            await session.run()


def _about(bot: Bot) -> About:
    kinds = {type(part) for part in every(bot.declaration.parts)}
    return About(
        bot.name,
        hears=bool(kinds & {STTPart, OwnPart}),  # what a part of one's own does is not known
        answers=bool(kinds & {UserContextPart, OwnPart}),
        speaks=OutputPart in kinds,
        page="webrtc" in bot.declaration.takes,
    )


def _transport_of(connection: WebRTCConnection | WebSocketConnection) -> str:
    if isinstance(connection, WebRTCConnection):
        return "webrtc"
    if isinstance(connection.protocol, VoiceAgentProtocol):
        return "voice-agent"
    return "phone" if isinstance(connection.protocol, PhoneProtocol) else "websocket"


def page_url(host: str, port: int) -> str:
    """Where a browser on this machine finds the page. It gives no microphone to pages at 0.0.0.0 or ::."""
    with suppress(ValueError):  # a name
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
        host = f"[{address}]" if address.version == 6 else str(address)
    return f"http://{host}:{port}"


def reached_at(bot: Bot, url: str) -> str:
    """How people reach a bot whose page is served at this address: a line, or two."""
    takes = bot.declaration.takes
    sockets = [url.replace("http", "ws", 1) + path for kind in takes for path in SOCKETS.get(kind, ())]
    by_socket = f"by WebSocket at {', '.join(sockets)}"
    if "webrtc" not in takes:
        return f"{bot.name} can be reached {by_socket}"
    page = f"Talk to {bot.name} at {url}"
    return f"{page}\nor {by_socket}" if sockets else page


def check_port(host: str, port: int) -> None:
    """See whether a server could listen there.

    Raises:
        PortInUse: Another program does.
        CannotListen: The address is none of this machine's, or not allowed.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(f"port {port} is in use; choose another with --port") from error
        raise CannotListen(f"cannot listen at {host}, port {port}: {error.strerror or error}") from error
