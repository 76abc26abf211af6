"""A local server that speaks Cartesia's WebSocket protocols: speech in contexts, and transcription."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from .faults import Fault, Faults, heard

KEY = "sk_car_of_tests"
SPEECH_RATE = 24_000
CHARACTER_MS = 20
LATE_CHUNKS = 5
_STATUS = {Fault.UNAUTHORIZED: 401, Fault.RATE_LIMITED: 429, Fault.BROKEN: 500}

# A word as the server names it, its start and its end, s.
Timed = tuple[str, float, float]


def as_written(text: str) -> list[list[Timed]]:
    """The words of a text, one message for each, CHARACTER_MS a character."""
    messages: list[list[Timed]] = []
    at = 0
    for word in text.split(" "):
        end = min(at + len(word) + 1, len(text))
        messages.append([(word, at * CHARACTER_MS / 1000, end * CHARACTER_MS / 1000)])
        at = end
    return messages


@dataclass
class Context:
    """One context: what was asked for it, how much was sent, and what became of it.

    Attributes:
        cancelled: The client cancelled it.
        outcome: Done with "finished", "cancelled", "failed" or "closed", with its connection.
    """

    request: dict[str, Any]
    connection: int  # its number
    sent: int = 0  # bytes
    cancelled: bool = False
    outcome: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def text(self) -> str:
        """What is to be spoken."""
        return str(self.request["transcript"])


@dataclass
class Listening:
    """A connection for transcription: what came and how it ended."""

    query: dict[str, str]
    commands: list[str] = field(default_factory=list)
    received: int = 0  # bytes in all
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    transcripts: list[str] = field(default_factory=list)  # one for each "finalize"
    buffer: bytearray = field(default_factory=bytearray)
    final: int = 0  # words of the buffer that were told as final


class CartesiaServer:
    """Serves /tts/websocket and /stt/websocket on loopback.

    Attributes:
        connection_faults: What goes wrong when a speech connection is made: only statuses.
        speech_faults: What goes wrong with each context.
        stt_faults: What goes wrong with each connection for transcription.
        late: Some audio still comes after a context was cancelled.
        words_last: The times of words come after all audio.
        timed: How the words of a text are told.
        word_s: Pause before each word of speech, s.
        transcription_s: How long a transcript takes after "finalize", s.
        cut_after: With Fault.CUT, a transcription is lost after so many words.
        final_after: How many words a transcript chunk that is final has.
    """

    def __init__(self) -> None:
        self.connection_faults, self.speech_faults, self.stt_faults = Faults(), Faults(), Faults()
        self.late = self.words_last = False
        self.timed: Callable[[str], list[list[Timed]]] = as_written
        self.word_s = 0.0
        self.transcription_s = 0.0
        self.cut_after = 1
        self.final_after = 2
        self.contexts: list[Context] = []
        self.connections: list[web.WebSocketResponse] = []  # for speech
        self.listening: list[Listening] = []
        self.refused: list[int] = []  # status codes
        self.late_sent = 0  # chunks
        self.arrived = asyncio.Event()  # set at each new context
        self.base_url = ""
        self.websocket_url = ""
        self._sockets: list[web.WebSocketResponse] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[CartesiaServer]:
        """Serve on loopback until the block is left."""
        app = web.Application()
        app.router.add_get("/tts/websocket", self._speech)
        app.router.add_get("/stt/websocket", self._transcription)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.websocket_url = self.base_url.replace("http", "ws")
        try:
            yield self
        finally:
            self.drop_connections()
            await runner.cleanup()

    def drop_connections(self) -> None:
        """Lose every connection at once, without a close frame."""
        for socket in self._sockets:
            _abort(socket)

    async def close_idle(self) -> None:
        """Close every connection as Cartesia does with idle ones."""
        for socket in self._sockets:
            await socket.close(code=1000, message=b"connection idle timeout")

    async def _accept(self, request: web.Request, fault: Fault) -> web.WebSocketResponse | web.Response:
        status = _STATUS.get(fault)
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            status = 401
        if status is not None:
            self.refused.append(status)
            return web.json_response({"title": "refused", "message": f"no to {KEY}"}, status=status)
        assert request.headers["Cartesia-Version"]
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.append(socket)
        return socket

    async def _speech(self, request: web.Request) -> web.StreamResponse:
        socket = await self._accept(request, self.connection_faults.take())
        if isinstance(socket, web.Response):
            return socket
        self.connections.append(socket)
        number = len(self.connections) - 1
        speaking: dict[str, tuple[Context, asyncio.Task[None]]] = {}
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    continue
                event = json.loads(message.data)
                if event.get("cancel"):
                    assert set(event) == {"context_id", "cancel"}, event
                    if event["context_id"] in speaking:
                        speaking[event["context_id"]][0].cancelled = True
                    continue
                _check(event)
                context = Context(event, number)
                self.contexts.append(context)
                task = asyncio.create_task(self._speak(socket, context, self.speech_faults.take()))
                speaking[event["context_id"]] = (context, task)
                self.arrived.set()
        finally:
            for context, task in speaking.values():
                task.cancel()
                with suppress(asyncio.CancelledError, ConnectionError):
                    await task
                if not context.outcome.done():
                    context.outcome.set_result("cancelled" if context.cancelled else "closed")
        return socket

    async def _speak(self, socket: web.WebSocketResponse, context: Context, fault: Fault) -> None:
        name = context.request["context_id"]
        if fault in _STATUS:
            error = {"title": "failed", "message": f"no to {KEY}", "status_code": _STATUS[fault]}
            await _tell(socket, "error", context_id=name, done=True, **error)
            context.outcome.set_result("failed")
            return
        if fault is Fault.HANG:
            return
        late = 0
        for index, words in enumerate(self.timed(context.text)):
            await asyncio.sleep(0.3 if fault is Fault.SLOW else self.word_s)
            if context.cancelled:
                late += 1
                if not self.late or late > LATE_CHUNKS:
                    context.outcome.set_result("cancelled")
                    return
                self.late_sent += 1
            if fault is Fault.GARBAGE and index:
                await socket.send_str("<html>")
            if fault is Fault.CUT and index:
                _abort(socket)
                return
            if not self.words_last:
                await _times(socket, name, words)
            await self._say(socket, context, words, index)
        if self.words_last:
            for words in self.timed(context.text):
                await _times(socket, name, words)
        await _tell(socket, "done", context_id=name, done=True, status_code=200)
        context.outcome.set_result("finished")

    async def _say(
        self, socket: web.WebSocketResponse, context: Context, words: list[Timed], index: int
    ) -> None:
        common = {"context_id": context.request["context_id"], "done": False, "status_code": 206}
        samples = round((words[-1][2] - words[0][1]) * SPEECH_RATE)
        pcm = (1000 + 100 * index).to_bytes(2, "little", signed=True) * samples
        for at in range(0, len(pcm), 4801):  # samples are cut in half
            data = base64.b64encode(pcm[at : at + 4801]).decode()
            await _tell(socket, "chunk", data=data, step_time=1.0, **common)
            context.sent += len(pcm[at : at + 4801])

    async def _transcription(self, request: web.Request) -> web.StreamResponse:
        fault = self.stt_faults.take()
        socket = await self._accept(request, fault)
        if isinstance(socket, web.Response):
            return socket
        query = dict(request.query)
        assert (query["encoding"], query["sample_rate"]) == ("pcm_s16le", "16000"), query
        assert query["model"]
        listening = Listening(query)
        self.listening.append(listening)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    listening.commands.append(message.data)
                if fault is Fault.HANG:
                    continue
                if message.type is WSMsgType.BINARY:
                    listening.received += len(message.data)
                    listening.buffer += message.data
                    if fault is Fault.GARBAGE:
                        await socket.send_str("<html>")
                    await self._hear(socket, listening)
                elif message.data == "finalize":
                    await self._finalize(socket, listening)
                if fault is Fault.CUT and len(heard(listening.buffer, 16_000)) >= self.cut_after:
                    _abort(socket)
        finally:
            listening.closed.set()
        return socket

    async def _hear(self, socket: web.WebSocketResponse, listening: Listening) -> None:
        """Tell what is new: each `final_after` words become final, what follows is a guess."""
        words = heard(listening.buffer, 16_000)[:-1]  # the last one may go on
        while len(words) - listening.final >= self.final_after:
            end = listening.final + self.final_after
            await _transcript(socket, words[listening.final : end], first=listening.final == 0, final=True)
            listening.final = end
        if len(words) > listening.final:
            await _transcript(socket, words[listening.final :], first=listening.final == 0, final=False)

    async def _finalize(self, socket: web.WebSocketResponse, listening: Listening) -> None:
        await asyncio.sleep(self.transcription_s)
        words = heard(listening.buffer, 16_000)
        if len(words) > listening.final:
            await _transcript(socket, words[listening.final :], first=listening.final == 0, final=True)
        listening.transcripts.append(" ".join(words))
        listening.buffer.clear()
        listening.final = 0
        await _tell(socket, "flush_done", request_id="r")


def _check(request: dict[str, Any]) -> None:
    assert request["context_id"]
    assert request["model_id"]
    assert request["voice"]["id"]
    form = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": SPEECH_RATE}
    assert request["output_format"] == form, request
    assert request["transcript"]
    assert request["continue"] is False
    assert request["add_timestamps"] is True


async def _times(socket: web.WebSocketResponse, context: str, words: list[Timed]) -> None:
    names, starts, ends = zip(*words, strict=True)
    times = {"words": names, "start": starts, "end": ends}
    await _tell(socket, "timestamps", context_id=context, done=False, status_code=206, word_timestamps=times)


async def _transcript(socket: web.WebSocketResponse, words: list[str], *, first: bool, final: bool) -> None:
    text = " ".join(words) if first else " " + " ".join(words)
    await _tell(socket, "transcript", text=text, is_final=final, request_id="r")


async def _tell(socket: web.WebSocketResponse, kind: str, **fields: Any) -> None:
    if not socket.closed:
        await socket.send_json({"type": kind, **fields})


def _abort(socket: web.WebSocketResponse) -> None:
    if socket._req is not None and socket._req.transport is not None:
        socket._req.transport.abort()
