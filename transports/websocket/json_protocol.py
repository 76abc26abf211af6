"""The protocol for clients without a library: PCM in binary messages, JSON objects in text messages.

It says in a few words what RTVI says in many: the RTVI processor is told and asked through it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from ...pipeline.frames import Level, Reason
from ..rtvi import VERSION, encoded, rtvi
from .protocol import MAX_MESSAGE_BYTES, MAX_RATE, MIN_RATE, Audio, Data, Event, Message, Played, Reply, Said

DEFAULT_RATE = 16_000  # Hz
MAX_TEXT = 10_000  # characters of a typed message
MAX_REASON = 200  # characters

Rate = Annotated[int, Field(strict=True, ge=MIN_RATE, le=MAX_RATE)]


class Start(BaseModel):
    """The rates of the audio, before anything else; both may be left out."""

    type: Literal["start"]
    sample_rate: Rate = DEFAULT_RATE
    agent_sample_rate: Rate = DEFAULT_RATE


class Interrupt(BaseModel):
    """Stop the bot: everything, or its speech alone."""

    type: Literal["interrupt"]
    level: Level = Level.FULL
    reason: str = Field(default=Reason.CLIENT_REQUEST, min_length=1, max_length=MAX_REASON)


class Text(BaseModel):
    """A typed message of the user."""

    type: Literal["text"]
    text: str = Field(min_length=1, max_length=MAX_TEXT, pattern=r"\S")


class PlayedMark(BaseModel):
    """The client has played everything it got before this mark."""

    type: Literal["played"]
    mark: int = Field(strict=True, ge=0)


class JsonProtocol:
    """Mono s16le PCM both ways, at 16 kHz unless the client's first message says otherwise."""

    block_ms = 20
    speaks_rtvi = True
    max_message_bytes = MAX_MESSAGE_BYTES

    def __init__(self) -> None:
        self.started = False
        self.output_rate = DEFAULT_RATE
        self._input_rate = DEFAULT_RATE
        # The text so far of the answer that is being written; None when there is none.
        self._text: str | None = None
        self._text_id: str | None = None

    async def decode(self, data: Data) -> list[Event]:
        if isinstance(data, bytes):
            return [*self._begin(), Audio(data, self._input_rate)]
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            return [_error("a text message must be a JSON object; audio belongs into binary messages")]
        if not isinstance(message, dict):
            return [_error("a text message must be a JSON object")]
        kind = message.get("type")
        if not isinstance(kind, str):
            return [_error("type: a text message needs a type, such as start, interrupt or text")]
        take = _TAKERS.get(kind)
        if take is None:
            return self._begin()
        try:
            return take(self, message)
        except ValidationError as error:
            return [_error(_problems(kind, error))]

    async def audio(self, pcm: bytes) -> list[Data]:
        return [pcm]

    async def mark(self, number: int) -> list[Data]:
        return [encoded({"type": "mark", "mark": number})]

    async def clear(self) -> list[Data]:
        return [encoded({"type": "clear"})]

    async def message(self, message: Message) -> list[Data]:
        tell = _TELLERS.get(message["type"])
        told = tell(self, message.get("data") or {}) if tell is not None else None
        return [] if told is None else [encoded(told)]

    async def end(self) -> None:
        """The closing of the connection says it."""

    # From the client -------------------------------------------------------------------------------

    def _begin(self) -> list[Event]:
        """The first message begins the session, with these rates."""
        if self.started:
            return []
        self.started = True
        rates = {"sample_rate": self._input_rate, "agent_sample_rate": self.output_rate}
        return [Reply(encoded({"type": "ready", **rates})), Said(rtvi("client-ready", {"version": VERSION}))]

    def _start(self, message: Message) -> list[Event]:
        start = Start.model_validate(message)
        if self.started:
            return [_error("start: it must be the first message")]
        self._input_rate, self.output_rate = start.sample_rate, start.agent_sample_rate
        return self._begin()

    def _interrupt(self, message: Message) -> list[Event]:
        asked = Interrupt.model_validate(message)
        details = {"level": asked.level.value, "reason": asked.reason}
        return [*self._begin(), Said(rtvi("client-message", {"t": "interrupt", "d": details}, "interrupt"))]

    def _typed(self, message: Message) -> list[Event]:
        text = Text.model_validate(message).text
        return [*self._begin(), Said(rtvi("send-text", {"content": text}, "text"))]

    def _played(self, message: Message) -> list[Event]:
        return [*self._begin(), Played(PlayedMark.model_validate(message).mark)]

    # To the client ---------------------------------------------------------------------------------

    def _tell_user(self, data: Message) -> Message:
        return {"type": "transcript", "role": "user", "text": data["text"], "final": data["final"]}

    def _note_answer(self, data: Message) -> None:
        self._text, self._text_id = "", data.get("response_id")

    def _tell_piece(self, data: Message) -> Message:
        if self._text is not None:
            self._text += data["text"]
        return _of_bot(data["text"], final=False, response_id=data.get("response_id"))

    def _tell_whole(self, data: Message) -> Message | None:
        text, self._text = self._text, None
        if text is None or data.get("response_id") != self._text_id:
            return None
        return _of_bot(text, final=True, response_id=self._text_id)

    def _tell_news(self, data: Any) -> Message | None:
        """State, hold, release, backchannel and interruption are simple already."""
        if not isinstance(data, dict):
            return {"type": "message", "data": data}
        ended = data.get("type") == "interruption" and data["level"] == Level.FULL
        if ended and self._text_id in data["cut"]:
            self._text = None  # no final transcript: the report has what was heard
        return data

    def _tell_error(self, data: Message) -> Message:
        return {"type": "error", "error": data["error"], "fatal": data.get("fatal", False)}


_TAKERS: dict[str, Callable[[JsonProtocol, Message], list[Event]]] = {
    "start": JsonProtocol._start,
    "interrupt": JsonProtocol._interrupt,
    "text": JsonProtocol._typed,
    "played": JsonProtocol._played,
}

_TELLERS: dict[str, Callable[[JsonProtocol, Any], Message | None]] = {
    "user-transcription": JsonProtocol._tell_user,
    "bot-llm-started": JsonProtocol._note_answer,
    "bot-llm-text": JsonProtocol._tell_piece,
    "bot-llm-stopped": JsonProtocol._tell_whole,
    "server-message": JsonProtocol._tell_news,
    "error": JsonProtocol._tell_error,
    "error-response": JsonProtocol._tell_error,
}


def _of_bot(text: str, *, final: bool, response_id: str | None) -> Message:
    about = {} if response_id is None else {"response_id": response_id}
    return {"type": "transcript", "role": "assistant", "text": text, "final": final, **about}


def _error(text: str) -> Reply:
    return Reply(encoded({"type": "error", "error": text, "fatal": False}))


def _problems(kind: str, error: ValidationError) -> str:
    return "; ".join(f"{kind}.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
