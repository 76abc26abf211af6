"""`bargein run`: a bot behind the web page, WebSockets and telephone streams."""

from __future__ import annotations

import errno
import socket

from ..pipeline import BargeinError, Session
from ..transports.ends import ends_of
from ..transports.voice_agent import VoiceAgentProtocol
from ..transports.webrtc import WebRTCConnection
from ..transports.websocket import PhoneProtocol, WebSocketConnection
from .bot import Bot, RunningBot
from .schema import Transport
from .server import create_app, serve


class PortInUse(BargeinError, OSError):
    """Raised when another program listens at the port the server is to use."""


async def run(bot: Bot, host: str, port: int, max_sessions: int | None = None) -> None:
    """Load what the bot needs and serve it until stopped.

    Args:
        bot: What to serve.
        host, port: Where to listen.
        max_sessions: In place of the bot's own limit.

    Raises:
        PortInUse: Before anything is loaded.
        ServiceMissing: The bot has nothing to hear, think or speak with.
    """
    _check_port(host, port)
    transports = bot.declaration.transport
    max_sessions = max_sessions or bot.declaration.limits.max_sessions

    async with bot.open(lambda line: print(line, flush=True), max_sessions=max_sessions) as running:

        async def run_bot(connection: WebRTCConnection | WebSocketConnection) -> None:
            await run_session(running, connection)

        print(f"\nTalk to {bot.name} at http://{host}:{port}\n(stop with Ctrl-C)", flush=True)
        takes_sockets = {"websocket", "phone", "voice-agent"} & set(transports)
        app = create_app(
            run_bot, run_socket_bot=run_bot if takes_sockets else None, max_sessions=max_sessions
        )
        await serve(app, host, port)


async def run_session(running: RunningBot, connection: WebRTCConnection | WebSocketConnection) -> None:
    """One conversation on a connection, to its end; one that the bot's transports exclude ends at once."""
    kind = _transport_of(connection)
    if kind not in running.bot.declaration.transport:
        connection.lose(f"{running.bot.name} takes no {kind} connections")
        return
    ends = ends_of(connection)
    with running.pipeline(ends.source, ends.sink, *ends.clients) as pipeline:
        await Session(pipeline).run()


def _transport_of(connection: WebRTCConnection | WebSocketConnection) -> Transport:
    if isinstance(connection, WebRTCConnection):
        return "webrtc"
    if isinstance(connection.protocol, VoiceAgentProtocol):
        return "voice-agent"
    return "phone" if isinstance(connection.protocol, PhoneProtocol) else "websocket"


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(f"port {port} is in use; choose another with --port") from error
            raise
