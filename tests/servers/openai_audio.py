"""A local server that speaks OpenAI's audio protocols: speech, transcriptions, realtime transcription."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from .faults import Fault, Faults, heard

KEY = "sk-a-key-of-tests"
SPEECH_RATE = 24_000
REALTIME_RATE = 24_000
CHARACTER_MS = 20
_STATUS = {Fault.UNAUTHORIZED: 401, Fault.RATE_LIMITED: 429, Fault.BROKEN: 500}
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded", 500: "server_error"}


def voice_of(text: str) -> bytes:
    """The audio the server speaks a text with, mono s16le at 24 kHz: a level that rises from word to word."""
    samples = b""
    for index, word in enumerate(text.split(" ")):
        level = (1000 + 100 * index).to_bytes(2, "little", signed=True)
        samples += level * (SPEECH_RATE * CHARACTER_MS // 1000 * (len(word) + 1))
    return samples


@dataclass
class Spoken:
    """A request for speech: what was asked, how much was sent, "finished" or "closed" by the client."""

    body: dict[str, Any]
    sent: int = 0  # bytes
    outcome: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass
class Uploaded:
    """A request for a transcript: the form's fields and its sound."""

    fields: dict[str, str]
    pcm: bytes
    rate: int
    outcome: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass
class Realtime:
    """A realtime connection: what the client sent and how it ended."""

    events: list[dict[str, Any]] = field(default_factory=list)
    transcripts: list[str] = field(default_factory=list)  # of the committed items
    ready: bool = False  # a valid session.update came
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    socket: web.WebSocketResponse | None = None
    buffer: bytearray = field(default_factory=bytearray)
    told: int = 0  # words of the buffer that went out as deltas
    items: int = 0

    def of(self, kind: str) -> list[dict[str, Any]]:
        """What the client sent of one type."""
        return [event for event in self.events if event["type"] == kind]


class OpenAIAudioServer:
    """Serves /v1/audio/speech, /v1/audio/transcriptions and /v1/realtime on loopback.

    Attributes:
        speech_faults, transcription_faults, realtime_faults: What goes wrong, one for each request or
            connection.
        chunk_s: Pause before each piece of speech, s.
        transcription_s: How long a transcript takes, s.
        late_first: The completion of an item is told after that of the next one.
        cut_after: With Fault.CUT, a realtime connection is lost after so many words.
    """

    def __init__(self) -> None:
        self.speech_faults, self.transcription_faults, self.realtime_faults = Faults(), Faults(), Faults()
        self.chunk_s = 0.0
        self.transcription_s = 0.0
        self.late_first = False
        self.cut_after = 1
        self.spoken: list[Spoken] = []
        self.uploaded: list[Uploaded] = []
        self.connections: list[Realtime] = []
        self.refused: list[int] = []  # status codes
        self.base_url = ""
        self.arrived = asyncio.Event()  # set at each request for speech

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[OpenAIAudioServer]:
        """Serve on loopback until the block is left."""
        app = web.Application()
        app.router.add_post("/v1/audio/speech", self._speech)
        app.router.add_post("/v1/audio/transcriptions", self._transcription)
        app.router.add_get("/v1/realtime", self._realtime)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield self
        finally:
            for connection in self.connections:
                _abort(connection.socket)
            await runner.cleanup()

    def drop_connections(self) -> None:
        """Lose every realtime connection at once, without a close frame."""
        for connection in self.connections:
            _abort(connection.socket)

    def _refusal(self, request: web.Request, fault: Fault) -> web.Response | None:
        status = _STATUS.get(fault)
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            status = 401
        if status is None:
            return None
        self.refused.append(status)
        message = f"Incorrect API key provided: {KEY}" if status == 401 else "try again later"
        error = {"message": message, "type": "error", "code": _CODES[status], "param": None}
        return web.json_response({"error": error}, status=status)

    async def _speech(self, request: web.Request) -> web.StreamResponse:
        fault = self.speech_faults.take()
        if (refusal := self._refusal(request, fault)) is not None:
            return refusal
        body = await request.json()
        assert body["response_format"] == "pcm", body
        assert body["model"], body
        assert body["voice"], body
        spoken = Spoken(body)
        self.spoken.append(spoken)
        self.arrived.set()
        if fault is Fault.GARBAGE:
            spoken.outcome.set_result("finished")
            return web.Response(text="<html>welcome</html>" * 100, content_type="text/html")
        response = web.StreamResponse(headers={"Content-Type": "audio/pcm"})
        try:
            if fault is Fault.HANG:
                await asyncio.Event().wait()
            await response.prepare(request)
            pcm = voice_of(body["input"])
            for at in range(0, len(pcm), 2401):  # samples are cut in half
                if fault is Fault.SLOW or (fault is Fault.CUT and spoken.sent):
                    await asyncio.sleep(0.05)
                if fault is Fault.CUT and spoken.sent:
                    assert request.transport is not None
                    request.transport.abort()
                    spoken.outcome.set_result("cut")
                    return response
                await asyncio.sleep(self.chunk_s)
                await response.write(pcm[at : at + 2401])
                spoken.sent += len(pcm[at : at + 2401])
            await response.write_eof()
            spoken.outcome.set_result("finished")
        finally:
            if not spoken.outcome.done():
                spoken.outcome.set_result("closed")
        return response

    async def _transcription(self, request: web.Request) -> web.StreamResponse:
        fault = self.transcription_faults.take()
        if (refusal := self._refusal(request, fault)) is not None:
            return refusal
        fields: dict[str, str] = {}
        pcm, rate = b"", 0
        form = await request.post()
        for name, value in form.items():
            if isinstance(value, web.FileField):
                assert value.filename.endswith(".wav"), value.filename
                with wave.open(io.BytesIO(value.file.read())) as sound:
                    assert (sound.getnchannels(), sound.getsampwidth()) == (1, 2)
                    pcm, rate = sound.readframes(sound.getnframes()), sound.getframerate()
                value.file.close()
            else:
                assert isinstance(value, str)
                fields[name] = value
        uploaded = Uploaded(fields, pcm, rate)
        self.uploaded.append(uploaded)
        try:
            if fault is Fault.HANG:
                await asyncio.Event().wait()
            await asyncio.sleep(self.transcription_s)
            if fault is Fault.CUT:
                assert request.transport is not None
                request.transport.abort()
            uploaded.outcome.set_result("finished")
        finally:
            if not uploaded.outcome.done():
                uploaded.outcome.set_result("closed")
        if fault is Fault.GARBAGE:
            return web.Response(text="<html>not found", content_type="text/html")
        return web.json_response({"text": " ".join(heard(pcm, rate))})

    async def _realtime(self, request: web.Request) -> web.StreamResponse:
        fault = self.realtime_faults.take()
        if (refusal := self._refusal(request, fault)) is not None:
            return refusal
        assert request.query.get("intent") == "transcription", request.query_string
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        connection = Realtime(socket=socket)
        self.connections.append(connection)
        waiting: list[dict[str, Any]] = []  # completions kept back
        try:
            session = {"type": "transcription", "id": f"sess_{len(self.connections)}"}
            await _tell(socket, "session.created", session=session)
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    continue
                event = json.loads(message.data)
                connection.events.append(event)
                if fault is Fault.HANG:
                    continue
                if fault is Fault.GARBAGE and event["type"] == "input_audio_buffer.append":
                    await socket.send_str("<html>")
                    continue
                await self._take(connection, socket, event, waiting)
                if fault is Fault.CUT and len(heard(connection.buffer, REALTIME_RATE)) >= self.cut_after:
                    _abort(socket)
        finally:
            connection.closed.set()
        return socket

    async def _take(
        self,
        connection: Realtime,
        socket: web.WebSocketResponse,
        event: dict[str, Any],
        waiting: list[dict[str, Any]],
    ) -> None:
        kind = event["type"]
        item = f"item_{connection.items}"
        if kind == "session.update":
            audio = event["session"]["audio"]["input"]
            assert event["session"]["type"] == "transcription"
            assert audio["format"] == {"type": "audio/pcm", "rate": REALTIME_RATE}
            assert audio["turn_detection"] is None
            assert audio["transcription"]["model"]
            connection.ready = True
            await _tell(socket, "session.updated", session=event["session"])
        elif kind == "input_audio_buffer.append":
            assert connection.ready
            connection.buffer += base64.b64decode(event["audio"])
            words = heard(connection.buffer, REALTIME_RATE)[:-1]  # the last one may go on
            for word in words[connection.told :]:
                await _delta(socket, item, word)
            connection.told = max(connection.told, len(words))
        elif kind == "input_audio_buffer.clear":
            connection.buffer.clear()
            connection.told = 0
            connection.items += 1
            await _delta(socket, item, "please")  # was on its way
            await _tell(socket, "input_audio_buffer.cleared")
        elif kind == "input_audio_buffer.commit":
            await self._commit(connection, socket, item, waiting)

    async def _commit(
        self, connection: Realtime, socket: web.WebSocketResponse, item: str, waiting: list[dict[str, Any]]
    ) -> None:
        if len(connection.buffer) < REALTIME_RATE * 2 // 10:
            error = {"type": "invalid_request_error", "code": "input_audio_buffer_commit_empty"}
            error["message"] = "buffer too small, expected at least 100ms of audio"
            await _tell(socket, "error", error=error)
            return
        transcript = " ".join(heard(connection.buffer, REALTIME_RATE))
        connection.transcripts.append(transcript)
        connection.buffer.clear()
        connection.told = 0
        connection.items += 1
        await _tell(socket, "input_audio_buffer.committed", item_id=item, previous_item_id=None)
        await asyncio.sleep(self.transcription_s)
        completed = {"item_id": item, "content_index": 0, "transcript": transcript, "usage": {}}
        if self.late_first and not waiting:
            waiting.append(completed)
            return
        for done in (completed, *waiting):
            await _tell(socket, "conversation.item.input_audio_transcription.completed", **done)
        waiting.clear()


async def _delta(socket: web.WebSocketResponse, item: str, word: str) -> None:
    kind = "conversation.item.input_audio_transcription.delta"
    await _tell(socket, kind, item_id=item, content_index=0, delta=f" {word}")


async def _tell(socket: web.WebSocketResponse, kind: str, **fields: Any) -> None:
    if not socket.closed:
        await socket.send_json({"type": kind, "event_id": "event", **fields})


def _abort(socket: web.WebSocketResponse | None) -> None:
    if socket is not None and socket._req is not None and socket._req.transport is not None:
        socket._req.transport.abort()
