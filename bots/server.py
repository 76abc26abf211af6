"""The HTTP server: the page, and signalling in the shape that Pipecat's small-webrtc client speaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from loguru import logger
from pydantic import BaseModel, Field

from ..transports.rtvi import rtvi
from ..transports.webrtc.connection import BadOffer, Candidate, NoNetwork, WebRTCConnection

PAGE = Path(__file__).parent.parent / "transports" / "web"
MAX_SESSIONS = 4
MAX_SDP = 100_000  # characters; a browser's offer has about 3,000
SHUTDOWN_S = 5.0  # how long sessions may take to end by themselves when the server stops

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

RunBot = Callable[[WebRTCConnection], Awaitable[None]]


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

    def __init__(self, run_bot: RunBot, max_sessions: int) -> None:
        self.run_bot = run_bot
        self.max_sessions = max_sessions
        self.connections: dict[str, WebRTCConnection] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def offer(self, offer: Offer) -> dict[str, str]:
        """Answer an offer: of a new peer, or of one that negotiates anew."""
        known = self.connections.get(offer.pc_id or "")
        if known is not None and not offer.restart_pc:
            return _answer(known, await known.answer(offer.sdp))
        if known is not None:
            known.lose("the peer starts again")
        if len(self.connections) - (known is not None) >= self.max_sessions:
            limit = f"{self.max_sessions} conversation{'s' if self.max_sessions > 1 else ''} at a time"
            raise Refused(503, "session-limit", f"This server holds {limit}. Try again when one has ended.")
        connection = WebRTCConnection()
        self.connections[connection.id] = connection
        try:
            answer = await connection.answer(offer.sdp)
        except BaseException:
            await connection.close()
            del self.connections[connection.id]
            raise
        task = asyncio.create_task(self._run(connection), name=f"session {connection.id[:8]}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return _answer(connection, answer)

    async def add_candidates(self, late: LateCandidates) -> None:
        """Pass on candidates found after the offer."""
        connection = self.connections.get(late.pc_id)
        if connection is None:
            raise Refused(404, "unknown-connection", "There is no connection with this pc_id; send an offer.")
        for found in late.candidates:
            await connection.add_candidate(Candidate(found.candidate, found.sdp_mid, found.sdp_mline_index))

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

    async def _run(self, connection: WebRTCConnection) -> None:
        with logger.contextualize(session=connection.id[:8]):
            logger.info("session {} begins ({} open)", connection.id[:8], len(self.connections))
            try:
                await self.run_bot(connection)
                connection.lose("the bot has ended it")
            except Exception:
                logger.exception("session {} failed", connection.id[:8])
                text = "The bot failed. The server's log says why."
                connection.send(rtvi("error", {"error": text, "fatal": True}))
            finally:
                await connection.close()
                del self.connections[connection.id]
                logger.info("session {} is over: {}", connection.id[:8], connection.closed.result())


def create_app(run_bot: RunBot, *, max_sessions: int = MAX_SESSIONS) -> FastAPI:
    """The server as an ASGI application.

    Args:
        run_bot: Runs one session on the connection it is given, and returns when that is over. What it
            raises is logged; other sessions do not notice.
        max_sessions: How many sessions there may be at a time; one more is answered with 503.
    """
    sessions = Sessions(run_bot, max_sessions)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await sessions.end()

    app = FastAPI(title="bargein", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.sessions = sessions

    @app.post("/api/offer")
    async def offer(offer: Offer) -> dict[str, str]:
        return await sessions.offer(offer)

    @app.patch("/api/offer")
    async def add_candidates(late: LateCandidates) -> dict[str, str]:
        await sessions.add_candidates(late)
        return {"status": "success"}

    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        return {"status": "ok", "sessions": len(sessions.connections), "max_sessions": max_sessions}

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

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


async def serve(app: FastAPI, host: str = "127.0.0.1", port: int = 7860) -> None:
    """Serve until a signal to stop; sessions are then ended."""
    await uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning", ws="none")).serve()


def _answer(connection: WebRTCConnection, sdp: str) -> dict[str, str]:
    return {"sdp": sdp, "type": "answer", "pc_id": connection.id}


def _error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": code, "message": message}, status)
