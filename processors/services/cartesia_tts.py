"""Cartesia's voices, over their WebSocket."""

from __future__ import annotations

import asyncio
import binascii
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from ..local.types import SpeechChunk, WordTime
from .alignment import Alignment
from .cartesia_stt import StatusError
from .errors import ServiceError, ServiceUnavailable, service_error
from .limits import WEBSOCKET_LIMITS
from .retry import retrying_stream

if TYPE_CHECKING:
    from cartesia import AsyncCartesia
    from cartesia.lib._tts import AsyncTTSResourceConnection

SAMPLE_RATE = 24_000
# Longest waits for the first audio of a sentence, and for the next, s: the user hears silence meanwhile.
FIRST_AUDIO_S = 4.0
NEXT_AUDIO_S = 3.0


class CartesiaVoice:
    """Speaks with word times. Closing the generator cancels its context at the server.

    All sentences, of all sessions, share one WebSocket, as Cartesia recommends: connecting takes several
    round trips, a context none. It is made when first needed, and again when it is lost or was closed, as
    Cartesia does after 5 idle minutes. Each sentence is a context of its own: one for a whole answer would
    expire 1 s after its last audio, while the model may still be thinking.

    Args:
        client: The `cartesia` client; the caller closes it, after this.
        voice: The voice's id.
        model: The model's name.
        service: What errors and logs call it.
        options: Further fields of the generation request, such as `language` or `generation_config`.
    """

    def __init__(
        self,
        client: AsyncCartesia,
        voice: str,
        *,
        model: str = "sonic-3",
        service: str = "Cartesia speech",
        **options: Any,
    ) -> None:
        self._client = client
        self._request = {
            "model_id": model,
            "voice": {"mode": "id", "id": voice},
            "output_format": {"container": "raw", "encoding": "pcm_s16le", "sample_rate": SAMPLE_RATE},
            "add_timestamps": True,
            "use_normalized_timestamps": False,
            **options,
        }
        self.service = service
        self._socket: _Socket | None = None  # for new sentences; it may have been closed meanwhile
        self._sockets: set[_Socket] = set()  # all that are open, also those with old sentences only
        self._connecting = asyncio.Lock()

    async def start(self) -> None:
        """Connect ahead of the first sentence.

        Raises:
            ServiceError: It cannot connect; named by condition.
        """
        try:
            await self._connected()
            return
        except Exception as error:
            failure = service_error(self.service, error)
        raise failure

    async def close(self) -> None:
        """Close the connections; what is being spoken raises ServiceUnavailable."""
        await asyncio.gather(*[socket.close() for socket in self._sockets])

    async def synthesize(self, text: str) -> AsyncGenerator[SpeechChunk, None]:
        """Speak a text; asked for again, after a pause, only as long as none of it has come.

        Raises:
            ServiceError: No audio came, or it broke off; named by condition.
        """
        if not any(map(str.isalnum, text)):
            return
        async with aclosing(retrying_stream(lambda: self._speak(text), service=self.service)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _speak(self, text: str) -> AsyncGenerator[SpeechChunk, None]:
        socket = await self._connected()
        speech = _Speech(text)
        context = uuid4().hex
        events = socket.ask({**self._request, "context_id": context, "transcript": text, "continue": False})
        try:
            while not speech.done:
                wait_s = NEXT_AUDIO_S if speech.samples else FIRST_AUDIO_S
                try:
                    event = await asyncio.wait_for(events.get(), wait_s)
                except TimeoutError:
                    socket.retire()
                    raise ServiceUnavailable(self.service, f"no audio within {wait_s} s") from None
                chunk = speech.read(event, self.service)
                if chunk is not None:
                    yield chunk
        finally:
            socket.leave(context, cancel=not speech.done)

    async def _connected(self) -> _Socket:
        async with self._connecting:
            if self._socket is None or not self._socket.usable:
                self._socket = await self._connect()
            return self._socket

    async def _connect(self) -> _Socket:
        connection = await self._client.tts.websocket_connect(
            websocket_connection_options=WEBSOCKET_LIMITS
        ).enter()
        socket = _Socket(connection, self.service)
        self._sockets.add(socket)
        socket.task.add_done_callback(lambda _: self._sockets.discard(socket))
        return socket


Events = asyncio.Queue[Any]


class _Socket:
    """One WebSocket and the contexts that speak over it.

    Its task works in an empty context: it outlives turns and sessions, whose work must not be inherited.
    """

    def __init__(self, connection: AsyncTTSResourceConnection, service: str) -> None:
        self._connection = connection
        self._service = service
        self.usable = True  # for new contexts
        # Events of each context that somebody listens to, at the end perhaps a ServiceError; what comes for
        # other contexts was cancelled.
        self._contexts: dict[str, Events] = {}
        self._outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(self._run(), name=f"{service} socket", context=Context())

    def ask(self, request: dict[str, Any]) -> Events:
        """Begin a context."""
        events: Events = asyncio.Queue()
        if self.usable:
            self._contexts[request["context_id"]] = events
            self._outbox.put_nowait(request)
        else:
            events.put_nowait(ServiceUnavailable(self._service, "the connection is closed"))
        return events

    def leave(self, context: str, *, cancel: bool) -> None:
        """Nobody listens to a context any more."""
        if self._contexts.pop(context, None) is not None and cancel:
            self._outbox.put_nowait({"context_id": context, "cancel": True})
        if not self.usable and not self._contexts:
            self.task.cancel()

    def retire(self) -> None:
        """Take no new contexts; close when the last one has left."""
        self.usable = False

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])

    async def _run(self) -> None:
        failure: ServiceError = ServiceUnavailable(self._service, "the connection is closed")
        failure.retryable = False  # it stays so only when this side closes
        writer = asyncio.create_task(self._write())
        try:
            while True:
                self._take(await self._connection.recv())
        except Exception as error:
            failure = service_error(self._service, error)
        finally:
            self.usable = False
            for events in self._contexts.values():
                events.put_nowait(failure)
            writer.cancel()
            await self._connection.close()

    async def _write(self) -> None:
        with suppress(Exception):  # the reader sees the connection end, too
            while True:
                await self._connection.send(cast(Any, await self._outbox.get()))

    def _take(self, event: Any) -> None:
        # What is no event of this version of the client has no `type`, or one that is not known here.
        context = getattr(event, "context_id", None)
        if context in self._contexts:
            self._contexts[context].put_nowait(event)
        elif context is None and getattr(event, "type", None) == "error":
            raise StatusError(event)


class _Speech:
    """What has come of one sentence."""

    def __init__(self, text: str) -> None:
        self.samples = 0
        self.done = False
        self._alignment = Alignment(text)
        self._words: deque[WordTime] = deque()  # those whose end has not come yet
        self._rest = b""  # half a sample

    def read(self, event: Any, service: str) -> SpeechChunk | None:
        """Take an event; returns the audio and words to go on with."""
        if isinstance(event, ServiceError):
            self.done = True
            raise event
        if event.type == "error":
            self.done = True
            raise service_error(service, StatusError(event))
        pcm = b""
        if event.type == "timestamps" and event.word_timestamps is not None:
            times = event.word_timestamps
            for word, start_s, end_s in zip(times.words, times.start, times.end, strict=False):
                span = self._alignment.find(word)
                if span is not None:
                    self._words.append(WordTime(*span, start_s, end_s))
        elif event.type == "chunk":
            pcm = self._audio(event, service)
            self.samples += len(pcm) // 2
        elif event.type == "done":
            self.done = True
        words = self._spoken()
        return SpeechChunk(pcm, SAMPLE_RATE, words) if pcm or words else None

    def _audio(self, event: Any, service: str) -> bytes:
        """The audio of a chunk, in whole samples."""
        try:
            data = self._rest + (event.audio or b"")
        except (binascii.Error, TypeError):
            raise ServiceUnavailable(service, "sent what is no audio") from None
        whole = len(data) // 2 * 2
        self._rest = data[whole:]
        return bytes(data[:whole])

    def _spoken(self) -> tuple[WordTime, ...]:
        """Take out the words whose audio has come; at the end what is left of them, too."""
        until_s = self.samples / SAMPLE_RATE
        spoken: list[WordTime] = []
        while self._words and (self._words[0].end_s <= until_s or (self.done and self.samples)):
            word = self._words.popleft()
            spoken.append(WordTime(word.start, word.end, word.start_s, min(word.end_s, until_s)))
        return tuple(spoken)
