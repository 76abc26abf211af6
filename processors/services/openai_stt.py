"""OpenAI's speech to text: whole turns over HTTP, or as they are spoken over the Realtime API."""

from __future__ import annotations

import asyncio
import base64
import io
import wave
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import soxr
from openai import APIError, Timeout

from .errors import KeyRejected, ServiceError, service_error
from .limits import CONNECT_S, WEBSOCKET_LIMITS
from .retry import Backoff, retrying
from .streaming_stt import SAMPLE_RATE, Heard, StreamingTranscriber

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.resources.realtime.realtime import AsyncRealtimeConnection
    from openai.types.realtime import RealtimeServerEvent

# The longest wait for an answer over HTTP, s.
ANSWER_S = 6.0
# Audio shorter than this is refused, s.
SHORTEST_S = 0.1
# The only rate of the Realtime API, Hz.
REALTIME_RATE = 24_000

_BACKOFF = Backoff(attempts=3, first_s=0.25, cap_s=1.0, patience_s=4.0)
_TRANSCRIPTION = "conversation.item.input_audio_transcription"


class OpenAISTT:
    """Transcribes over `audio.transcriptions`, for any base URL: the whole turn at each pause of the user.

    There are no partial texts while the user speaks.

    Args:
        client: The `openai` client; the caller closes it. Its own retries are not used.
        model: The model's name at that server.
        service: What errors and logs call it.
        options: Further arguments of `audio.transcriptions.create`, such as `language` or `prompt`.
    """

    def __init__(
        self,
        client: AsyncOpenAI,
        model: str = "gpt-transcribe",
        *,
        service: str = "OpenAI transcription",
        **options: Any,
    ) -> None:
        self._client = client.with_options(max_retries=0, timeout=Timeout(ANSWER_S, connect=CONNECT_S))
        self._options = {"model": model, "response_format": "json", **options}
        self.service = service

    def open(self, on_partial: Callable[[str], None]) -> OpenAIUtterance:
        """Begin an utterance; `on_partial` is not used."""
        return OpenAIUtterance(self)

    async def _transcribe(self, pcm: bytes) -> str:
        """Transcribe 16 kHz mono s16le audio."""
        if len(pcm) < SHORTEST_S * SAMPLE_RATE * 2:
            return ""
        sound = _wav(pcm)

        async def attempt() -> str:
            answer = await self._client.audio.transcriptions.create(
                file=("turn.wav", sound, "audio/wav"), **self._options
            )
            if not isinstance(getattr(answer, "text", None), str):
                raise EOFError("the answer holds no text")
            return str(answer.text)

        return await retrying(attempt, service=self.service, backoff=_BACKOFF)


class OpenAIUtterance:
    """One stretch of speech; see `Utterance`."""

    def __init__(self, stt: OpenAISTT) -> None:
        self._stt = stt
        self._pcm = bytearray()
        self._open = True
        # The latest request, and how many bytes it is about: who asks again for the same waits for it, too.
        self._request: asyncio.Task[str] | None = None
        self._asked = -1
        self._waiting = 0  # calls that wait for it

    def feed(self, pcm: bytes) -> None:
        """Take 16 kHz mono s16le audio; returns at once. Ignored when finished or cancelled."""
        if self._open:
            self._pcm += pcm

    async def snapshot(self) -> str:
        """The text of all that was fed so far; "" when a later call asks for more, or it is cancelled.

        Raises:
            ServiceError: A later call tries again.
        """
        return await self._text()

    async def finish(self) -> str:
        """The text of all that was fed; makes no request when nothing was fed since a snapshot.

        Raises:
            ServiceError: A later call tries again.
        """
        self._open = False
        return await self._text()

    def cancel(self) -> None:
        """Give the utterance up: closes the connection of a request under way."""
        self._open = False
        if self._request is not None:
            self._request.cancel()

    async def _text(self) -> str:
        request = self._request
        if request is None or self._asked != len(self._pcm) or _failed(request):
            if request is not None:
                request.cancel()  # its text would be older than the one asked for now
            work = self._stt._transcribe(bytes(self._pcm))
            request = self._request = asyncio.create_task(work, name=self._stt.service)
            self._asked, self._waiting = len(self._pcm), 0
        self._waiting += 1
        try:
            await asyncio.wait([request])
        finally:
            if request is self._request:
                self._waiting -= 1
                if not self._waiting:
                    request.cancel()
        return "" if request.cancelled() else request.result()


def _failed(request: asyncio.Task[str]) -> bool:
    return request.done() and (request.cancelled() or request.exception() is not None)


def _wav(pcm: bytes) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SAMPLE_RATE)
        sound.writeframes(pcm)
    return file.getvalue()


class OpenAIRealtimeSTT(StreamingTranscriber):
    """Transcribes as the user speaks, over a transcription session of the Realtime API.

    One connection serves turn after turn and is made again when it is lost. Closing is the caller's.

    Args:
        client: The `openai` client; the caller closes it, after this.
        model: A transcription model; "gpt-realtime-whisper" gives partial texts while the user speaks.
        service: What errors and logs call it.
        transcription: Further fields of the session's `audio.input.transcription`, such as `language`,
            `delay` or `prompt`.
    """

    def __init__(
        self,
        client: AsyncOpenAI,
        model: str = "gpt-realtime-whisper",
        *,
        service: str = "OpenAI realtime transcription",
        **transcription: Any,
    ) -> None:
        self._client = client
        self._transcription = {"model": model, **transcription}
        super().__init__(self._open_wire, service)

    async def _open_wire(self) -> _RealtimeWire:
        connection = await self._client.realtime.connect(
            extra_query={"intent": "transcription"},
            websocket_connection_options=WEBSOCKET_LIMITS,
        ).enter()
        wire = _RealtimeWire(connection, self.service)
        try:
            await wire.configure(self._transcription)
        except BaseException:
            await wire.close()
            raise
        return wire


class _RealtimeWire:
    """The Realtime API's side of a `Wire`. The server numbers segments by item ids of its own."""

    def __init__(self, connection: AsyncRealtimeConnection, service: str) -> None:
        self._connection = connection
        self._service = service
        self._begin()
        self._commits = 0
        self._acknowledged = 0  # of them
        self._clearing = 0  # clears that are not acknowledged
        self._numbers: dict[str, int] = {}  # of items that have no final text
        self._forgotten: set[str] = set()  # items that were cleared
        self._texts: dict[int, str] = {}  # so far

    def _begin(self) -> None:
        """A new segment."""
        self._resampler = soxr.ResampleStream(SAMPLE_RATE, REALTIME_RATE, 1, dtype="int16")
        self._lacks = int(SHORTEST_S * REALTIME_RATE)  # samples, to the shortest the server takes

    async def configure(self, transcription: dict[str, Any]) -> None:
        audio = {
            "format": {"type": "audio/pcm", "rate": REALTIME_RATE},
            "transcription": transcription,
            "turn_detection": None,
        }
        session = cast(Any, {"type": "transcription", "audio": {"input": audio}})
        await self._connection.session.update(session=session)

    async def append(self, pcm: bytes) -> None:
        await self._send(np.frombuffer(pcm, np.int16), last=False)

    async def commit(self) -> None:
        await self._send(np.empty(0, np.int16), last=True)
        self._begin()
        self._commits += 1
        await self._connection.input_audio_buffer.commit()

    async def discard(self) -> None:
        self._begin()
        self._clearing += 1
        for item in [i for i, number in self._numbers.items() if number == self._commits]:
            self._forget(item)
        await self._connection.input_audio_buffer.clear()

    async def receive(self) -> Heard:
        while True:
            heard = self._read(await self._connection.recv())
            if heard is not None:
                return heard

    async def close(self) -> None:
        await self._connection.close()

    async def _send(self, samples: np.typing.NDArray[np.int16], *, last: bool) -> None:
        audio = np.asarray(self._resampler.resample_chunk(samples, last=last), np.int16).tobytes()
        self._lacks -= len(audio) // 2
        if last:
            audio += bytes(2 * max(0, self._lacks))
        if audio:
            await self._connection.input_audio_buffer.append(audio=base64.b64encode(audio).decode())

    def _read(self, event: RealtimeServerEvent) -> Heard | None:
        # What is no event of this version of the client has no `type`, or one that is not known here.
        fields: Any = event
        kind = getattr(event, "type", None)
        if kind == "error":
            raise _failure(self._service, fields.error)
        if kind == "input_audio_buffer.committed":
            self._numbers[fields.item_id] = self._acknowledged
            self._acknowledged += 1
        elif kind == "input_audio_buffer.cleared":
            self._clearing -= 1
        elif kind == f"{_TRANSCRIPTION}.delta":
            return self._delta(fields.item_id, fields.delta or "")
        elif kind in (f"{_TRANSCRIPTION}.completed", f"{_TRANSCRIPTION}.failed"):
            number = self._numbers.pop(fields.item_id, None)
            if number is None:
                return None
            self._texts.pop(number, None)
            if kind == f"{_TRANSCRIPTION}.failed":
                raise _failure(self._service, fields.error)
            return Heard(number, fields.transcript, True)
        return None

    def _delta(self, item: str, delta: str) -> Heard | None:
        if item in self._forgotten:
            return None
        if item not in self._numbers:  # the buffer that is not committed yet
            if self._clearing:
                self._forget(item)
                return None
            self._numbers[item] = self._acknowledged
        number = self._numbers[item]
        self._texts[number] = self._texts.get(number, "") + delta
        return Heard(number, self._texts[number])

    def _forget(self, item: str) -> None:
        self._forgotten.add(item)
        number = self._numbers.pop(item, None)
        if number is not None:
            self._texts.pop(number, None)


def _failure(service: str, error: Any) -> ServiceError:
    """What an error event means."""
    fields = {"code": getattr(error, "code", None), "type": getattr(error, "type", None)}
    if "invalid_api_key" in fields.values() or "authentication_error" in fields.values():
        return KeyRejected(service, "the key was rejected; check OPENAI_API_KEY")
    message = getattr(error, "message", None) or "the transcription failed"
    return service_error(service, APIError(message, cast(Any, None), body=fields))
