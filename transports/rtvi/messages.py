"""What an RTVI message is, and what carries it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from pydantic_core import to_jsonable_python

LABEL = "rtvi-ai"
VERSION = "2.2.0"  # of the protocol, as of pipecat-ai 1.14

Message = dict[str, Any]
Send = Callable[[str, Message], None]


class Channel(Protocol):
    """Anything that carries JSON objects both ways, in order."""

    on_message: Callable[[Message], None] | None

    def send(self, message: Message) -> None:
        """Send one object, or keep it until that is possible. Must not raise."""


def rtvi(kind: str, data: Any = None, message_id: str | None = None) -> Message:
    """An RTVI message."""
    message: Message = {"label": LABEL, "type": kind}
    if message_id is not None:
        message["id"] = message_id
    if data is not None:
        message["data"] = data
    return message


def about(response_id: str | None) -> Message:
    """The part of a message's data that names the answer it is about."""
    return {} if response_id is None else {"response_id": response_id}


def as_json(value: Any) -> Any:
    """What an application wants to send, as JSON can carry it; text where that is impossible."""
    return to_jsonable_python(value, fallback=str)


def encoded(message: Message) -> str:
    """A message as text that UTF-8 can carry: halves of characters, as models may stream, are escaped."""
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"), default=str)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(message, separators=(",", ":"), default=str)
    return text
