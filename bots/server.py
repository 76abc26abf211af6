"""The server: the page, WebRTC signalling in the shape that Pipecat's small-webrtc client speaks, and
WebSockets."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from loguru import logger
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from ..pipeline.observing.prometheus import Prometheus
from ..transports.rtvi import rtvi
from ..transports.voice_agent.protocol import VoiceAgentProtocol
from ..transports.webrtc.connection import BadOffer, Candidate, NoNetwork, WebRTCConnection
from ..transports.webrtc.ice import IceServer, for_browser
from ..transports.websocket import (
    BadSignature,
    Calls,
    JsonProtocol,
    PhoneProtocol,
    RTVIProtocol,
    WebSocketConnection,
    WebSocketProtocol,
)
from ..transports.websocket.connection import TRY_LATER
from .bounded_websocket import bounded_websocket

PAGE = Path(__file__).parent.parent / "transports" / "web"
MAX_SESSIONS = 4
MAX_ORIGIN = 200  # characters of one that is told
MAX_SDP = 100_000  # characters; a browser's offer has about 3,000
SHUTDOWN_S = 5.0  # how long sessions may take to end by themselves when the server stops
PING_S = 10.0  # how often a WebSocket client is asked for a sign of life, and how long it may take

# What is spoken on which path.
PROTOCOLS: dict[str, Callable[[], WebSocketProtocol]] = {
    "/ws": JsonProtocol,
    "/ws/rtvi": RTVIProtocol,
    "/ws/phone": PhoneProtocol,
    "/ws/voice": VoiceAgentProtocol,
    "/ws/voice/mp3": partial(VoiceAgentProtocol, "mp3"),
    "/ws/voice/opus": partial(VoiceAgentProtocol, "opus"),
}

READING = ("GET", "HEAD")  # methods that change nothing; other pages cannot read what they give

# Nothing from any other host, no inline script or style.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

RunBot = Callable[[WebRTCConnection], Coroutine[Any, Any, None]]
RunSocketBot = Callable[[WebSocketConnection], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class About:
    """What the page is told of the bot before it connects: `GET /api/bot`.

    Attributes:
        name: What people call it.
        hears, answers, speaks: Whether it does; the page hides what makes no sense.
        page: Whether it can be talked to from the page, by WebRTC; else offers are answered with 404.
    """

    name: str = ""
    hears: bool = True
    answers: bool = True
    speaks: bool = True
    page: bool = True


class Offer(BaseModel):
    """The body of `POST /api/offer`; more keys, such as `request_data`, are ignored."""

    sdp: str = Field(max_length=MAX_SDP)
    type: Literal["offer"]
    pc_id: str | None = None
    restart_pc: bool | None = None


class LateCandidate(BaseModel):
    """An ICE candidate found after the offer."""

    candidate: str = Field(max_length=2_000)
    sdp_mid: str | None = None
    sdp_mline_index: int | None = None


class LateCandidates(BaseModel):
    """The body of `PATCH /api/offer`."""

    pc_id: str
    candidates: list[LateCandidate] = Field(max_length=100)


class Refused(Exception):
    """Raised when a request cannot be served; becomes a JSON error with this status."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Sessions:
    """The sessions of one server, each in a task of its own.

    Attributes:
        connections: Open ones by id; an entry stays until its session has ended and its sockets are closed.
    """

    def __init__(
        self,
        run_bot: RunBot,
        run_socket_bot: RunSocketBot | None,
        max_sessions: int,
        ice_servers: Sequence[IceServer] = (),
    ) -> None:
        self.run_bot = run_bot
        self.run_socket_bot = run_socket_bot
        self.max_sessions = max_sessions
        self.ice_servers = ice_servers
        self.connections: dict[str, WebRTCConnection | WebSocketConnection] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def offer(self, offer: Offer) -> dict[str, str]:
        """Answer an offer: of a new peer, or of one that negotiates anew."""
        known = self._peer(offer.pc_id)
        if known is not None and not offer.restart_pc:
            return _answer(known, await known.answer(offer.sdp))
        if known is not None:
            known.lose("the peer starts again")
        self._check_room(but=known)
        connection = WebRTCConnection(self.ice_servers)
        self.connections[connection.id] = connection
        try:
            answer = await connection.answer(offer.sdp)
        except BaseException:
            await connection.close()
            del self.connections[connection.id]
            raise
        self._start(connection, self.run_bot(connection))
        return _answer(connection, answer)

    async def add_candidates(self, late: LateCandidates) -> None:
        """Pass on candidates found after the offer."""
        connection = self._peer(late.pc_id)
        if connection is None:
            raise Refused(404, "unknown-connection", "There is no connection with this pc_id; send an offer.")
        for found in late.candidates:
            await connection.add_candidate(Candidate(found.candidate, found.sdp_mid, found.sdp_mline_index))

    async def serve_socket(self, websocket: WebSocket, protocol: WebSocketProtocol) -> None:
        """Serve a WebSocket to its end; its session is cleared away afterwards."""
        assert self.run_socket_bot is not None
        await websocket.accept()
        try:
            self._check_room()
        except Refused as error:
            await websocket.close(TRY_LATER, str(error))
            return
        connection = WebSocketConnection(websocket, protocol)
        self.connections[connection.id] = connection
        begun = False
        try:
            begun = await connection.begin()
        finally:
            if not begun:
                del self.connections[connection.id]
        if begun:
            self._start(connection, self.run_socket_bot(connection))
        await connection.serve()

    async def end(self) -> None:
        """End all sessions, and wait until they have."""
        for connection in self.connections.values():
            connection.lose("the server stops")
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=SHUTDOWN_S)
            for task in late:
                logger.warning("{} did not end within {:.0f} s and is cancelled", task.get_name(), SHUTDOWN_S)
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _peer(self, pc_id: str | None) -> WebRTCConnection | None:
        connection = self.connections.get(pc_id or "")
        return connection if isinstance(connection, WebRTCConnection) else None

    def _check_room(self, *, but: WebRTCConnection | None = None) -> None:
        if len(self.connections) - (but is not None) >= self.max_sessions:
            limit = f"{self.max_sessions} conversation{'s' if self.max_sessions > 1 else ''} at a time"
            raise Refused(503, "session-limit", f"This server holds {limit}. Try again when one has ended.")

    def _start(
        self, connection: WebRTCConnection | WebSocketConnection, bot: Coroutine[Any, Any, None]
    ) -> None:
        task = asyncio.create_task(self._run(connection, bot), name=f"session {connection.id[:8]}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(
        self, connection: WebRTCConnection | WebSocketConnection, bot: Coroutine[Any, Any, None]
    ) -> None:
        with logger.contextualize(session=connection.id[:8]):
            logger.info("session {} begins ({} open)", connection.id[:8], len(self.connections))
            try:
                await bot
                connection.lose("the bot has ended it")
            except Exception:
                logger.exception("session {} failed", connection.id[:8])
                text = "The bot failed. The server's log says why."
                connection.send(rtvi("error", {"error": text, "fatal": True}))
            finally:
                await connection.close()
                del self.connections[connection.id]
                logger.info("session {} is over: {}", connection.id[:8], connection.closed.result())


def create_app(
    run_bot: RunBot,
    *,
    run_socket_bot: RunSocketBot | None = None,
    max_sessions: int = MAX_SESSIONS,
    allowed_origins: Collection[str] = (),
    about: About = About(),
    metrics: Prometheus | None = None,
    ice_servers: Sequence[IceServer] = (),
    calls: Calls | None = None,
) -> FastAPI:
    """The server as an ASGI application.

    Args:
        run_bot: Runs one session on the connection it is given, and returns when that is over. What it
            raises is logged; other sessions do not notice.
        run_socket_bot: The same for WebSocket clients, at the paths in `PROTOCOLS`, which are not there
            without it.
        max_sessions: How many sessions there may be at a time; one more is answered with 503, a WebSocket
            closed with 1013.
        allowed_origins: Web pages that may talk to the bot, such as "https://bot.example.com", besides
            those that this server serves under `localhost` or an IP address. Browsers let them read the
            answers (CORS). Programs that are no browsers send no origin and may.
        about: What the page is told of the bot.
        metrics: Served at `/metrics`.
        ice_servers: For WebRTC peers that cannot be reached directly. Whoever may talk to the bot is told
            them, with a login, at `POST /api/ice-servers`.
        calls: Lets telephone calls in; one that is forged is answered with 403.
    """
    calls = calls or Calls()
    sessions = Sessions(run_bot, run_socket_bot, max_sessions, ice_servers)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await sessions.end()

    app = FastAPI(title="bargein", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.sessions = sessions

    @app.post("/api/offer")
    async def offer(offer: Offer) -> dict[str, str]:
        if not about.page:
            raise Refused(404, "no-webrtc", f"{about.name} takes no WebRTC connections.")
        return await sessions.offer(offer)

    @app.patch("/api/offer")
    async def add_candidates(late: LateCandidates) -> dict[str, str]:
        await sessions.add_candidates(late)
        return {"status": "success"}

    # POST, because it tells of logins: other pages may not.
    @app.post("/api/ice-servers")
    async def tell_ice_servers() -> dict[str, Any]:
        return {"iceServers": for_browser(ice_servers)}

    def protocol_for(websocket: WebSocket, path: str) -> WebSocketProtocol | None:
        """What is spoken on a WebSocket that asks to be opened; None if it may not be."""
        if not _may_connect(websocket, allowed_origins):
            return None
        if PROTOCOLS[path] is not PhoneProtocol:
            return PROTOCOLS[path]()
        try:
            return calls.admit(str(websocket.url), websocket.headers)
        except BadSignature as error:
            logger.warning("{}", error)
            return None

    def add_socket(path: str) -> None:
        @app.websocket(path)
        async def socket(websocket: WebSocket) -> None:
            protocol = protocol_for(websocket, path)
            if protocol is None:
                await websocket.close()  # before it is accepted: HTTP 403
            else:
                await sessions.serve_socket(websocket, protocol)

    if run_socket_bot is not None:
        for path in PROTOCOLS:
            add_socket(path)

    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        return {"status": "ok", "sessions": len(sessions.connections), "max_sessions": max_sessions}

    if metrics is not None:

        @app.get("/metrics")
        async def scrape() -> Response:
            return Response(metrics.text, media_type=CONTENT_TYPE_LATEST)

    @app.get("/api/bot")
    async def bot() -> About:
        return about

    @app.middleware("http")
    async def check_origin(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.method in READING or _may_connect(request, allowed_origins):
            return await call_next(request)
        origin = request.headers["origin"][:MAX_ORIGIN]
        text = f"Pages of {origin} may not talk to this bot. `bargein run --allow-origin {origin}` lets them."
        return _error(403, "origin-not-allowed", text)

    @app.middleware("http")
    async def add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return _error(error.status, error.code, str(error))

    @app.exception_handler(BadOffer)
    async def bad_offer(request: Request, error: BadOffer) -> JSONResponse:
        return _error(400, "bad-offer", str(error))

    @app.exception_handler(NoNetwork)
    async def no_network(request: Request, error: NoNetwork) -> JSONResponse:
        return _error(500, "no-network", str(error))

    @app.exception_handler(RequestValidationError)
    async def bad_request(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = (f"{'.'.join(map(str, e['loc'][1:])) or 'body'}: {e['msg']}" for e in error.errors())
        return _error(400, "bad-request", "; ".join(problems))

    if allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(allowed_origins),
            allow_methods=["GET", "POST", "PATCH"],
            allow_headers=["content-type"],
        )
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


async def serve(
    app: FastAPI,
    host: str = "127.0.0.1",
    port: int = 7860,
    *,
    started: Callable[[], None] = lambda: None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until a signal to stop, or until `stop` is set; sessions are then ended.

    `started` is called once the server listens.
    """
    server = _Server(config(app, host, port), started)
    if stop is None:
        await server.serve()
        return
    stopping = asyncio.create_task(server.stop_with(stop))
    try:
        await server.serve()
    finally:
        stopping.cancel()


class _Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._call_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._call_started()

    async def stop_with(self, stop: asyncio.Event) -> None:
        """Stop when this is set."""
        await stop.wait()
        self.should_exit = True


def config(app: FastAPI, host: str, port: int) -> uvicorn.Config:
    """How uvicorn is to serve the app."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        ws=bounded_websocket({path: make().max_message_bytes for path, make in PROTOCOLS.items()}),
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        ws_per_message_deflate=False,  # speech does not shrink, and each client would cost a window
    )


def _may_connect(connection: HTTPConnection, allowed_origins: Collection[str]) -> bool:
    """Whether the page that opens a WebSocket, or sends more than a GET, is ours.

    Browsers let any page do both to any server. That origin and host agree is not enough: a page whose name
    was made to point to this machine has both. It cannot have an IP address for a name.
    """
    origin, host = connection.headers.get("origin"), connection.headers.get("host", "")
    if origin is None or origin in allowed_origins:
        return True
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name != "localhost":
            ipaddress.ip_address(name)
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


def _answer(connection: WebRTCConnection, sdp: str) -> dict[str, str]:
    return {"sdp": sdp, "type": "answer", "pc_id": connection.id}


def _error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": code, "message": message}, status)
