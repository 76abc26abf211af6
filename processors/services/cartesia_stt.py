"""Cartesia's speech to text, over its WebSocket without turn detection: whose turn it is, is decided here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import ServiceUnavailable, service_error
from .limits import WEBSOCKET_LIMITS
from .streaming_stt import SAMPLE_RATE, Heard, StreamingTranscriber

if TYPE_CHECKING:
    from cartesia import AsyncCartesia
    from cartesia.resources.stt.manual_finalize import AsyncManualFinalizeResourceConnection


class CartesiaSTT(StreamingTranscriber):
    """Transcribes as the user speaks; the text is asked for at each pause with "finalize".

    One connection serves turn after turn and is made again when it is lost: Cartesia closes idle ones.
    Closing is the caller's.

    Args:
        client: The `cartesia` client; the caller closes it.
        model: "ink-whisper" knows many languages, "ink-2" English.
        service: What errors and logs call it.
        options: Further arguments of `stt.manual_finalize.websocket`, such as `language` or `keyterm`.
    """

    def __init__(
        self,
        client: AsyncCartesia,
        model: str = "ink-whisper",
        *,
        service: str = "Cartesia transcription",
        **options: Any,
    ) -> None:
        self._client = client
        self._options = {"model": model, **options}
        super().__init__(self._open_wire, service)

    async def _open_wire(self) -> _CartesiaWire:
        connection = await self._client.stt.manual_finalize.websocket(
            encoding="pcm_s16le",
            sample_rate=SAMPLE_RATE,
            websocket_connection_options=WEBSOCKET_LIMITS,
            **self._options,
        ).enter()
        return _CartesiaWire(connection, self.service)


class _CartesiaWire:
    """Cartesia's side of a `Wire`: answers come in order, so a segment ends with its "flush_done"."""

    def __init__(self, connection: AsyncManualFinalizeResourceConnection, service: str) -> None:
        self._connection = connection
        self._service = service
        self._flushed = 0  # segments
        self._final = ""  # text of the present segment that does not change any more

    async def append(self, pcm: bytes) -> None:
        await self._connection.send_raw(pcm)

    async def commit(self) -> None:
        await self._connection.send("finalize")

    async def discard(self) -> None:
        await self._connection.close()  # the protocol cannot take audio back

    async def receive(self) -> Heard:
        while True:
            heard = self._read(await self._connection.recv())
            if heard is not None:
                return heard

    async def close(self) -> None:
        await self._connection.close()

    def _read(self, event: Any) -> Heard | None:
        # What is no event of this version of the client has no `type`, or one that is not known here.
        kind = getattr(event, "type", None)
        if kind == "transcript":
            text = self._final + event.text  # verbatim: spaces are in the texts
            if event.is_final:
                self._final = text
            return Heard(self._flushed, text)
        if kind == "flush_done":
            heard = Heard(self._flushed, self._final, final=True)
            self._flushed += 1
            self._final = ""
            return heard
        if kind == "error":
            raise service_error(self._service, StatusError(event))
        if kind == "done":
            raise ServiceUnavailable(self._service, "ended the session")
        return None


class StatusError(Exception):
    """Raised when a Cartesia WebSocket tells of an error; `status_code` is that of HTTP."""

    def __init__(self, event: Any) -> None:
        super().__init__(": ".join(filter(None, (event.title, event.message))))
        self.status_code = event.status_code or 0
