"""`bargein run`: the default bot behind the web page."""

from __future__ import annotations

import errno
import socket

from ..pipeline import BargeinError, Session
from ..transports.rtvi import RTVI
from ..transports.webrtc.connection import WebRTCConnection
from ..transports.webrtc.processors import WebRTCInput, WebRTCOutput
from .default import assistant
from .local import LocalModels, new_context
from .server import create_app, serve


class PortInUse(BargeinError, OSError):
    """Raised when another program listens at the port the server is to use."""


async def run(host: str, port: int, max_sessions: int) -> None:
    """Load the local models and serve until stopped.

    Raises:
        PortInUse: Before anything is loaded.
    """
    _check_port(host, port)

    async with LocalModels(lambda line: print(line, flush=True), slots=max_sessions) as models:

        async def run_bot(connection: WebRTCConnection) -> None:
            output = WebRTCOutput(connection)
            client = RTVI(connection, output.playout)
            with assistant(models, new_context(), WebRTCInput(connection), output, client) as pipeline:
                await Session(pipeline).run()

        print(f"\nTalk to the bot at http://{host}:{port}\n(stop with Ctrl-C)", flush=True)
        await serve(create_app(run_bot, max_sessions=max_sessions), host, port)


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(f"port {port} is in use; choose another with --port") from error
            raise
