"""What a client says and is told, whatever its wire format. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ...pipeline.frames import Frame

MIN_RATE, MAX_RATE = 8_000, 48_000  # Hz, of audio either way: telephone to studio

MAX_MESSAGE_BYTES = 262_144  # of one message of a client: 2.7 s of PCM at 48 kHz

Data = str | bytes  # one WebSocket message, text or binary
Message = dict[str, Any]  # an RTVI message


@dataclass(frozen=True, slots=True)
class Audio:
    """The user's voice: mono s16le, of any length, at `sample_rate` Hz."""

    pcm: bytes
    sample_rate: int


@dataclass(frozen=True, slots=True)
class Said:
    """An RTVI message of the client."""

    message: Message


@dataclass(frozen=True, slots=True)
class Pushed:
    """A frame for the pipeline."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class Played:
    """The client has played everything up to this mark."""

    mark: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What the client is to be told at once, such as that its message makes no sense."""

    data: Data


@dataclass(frozen=True, slots=True)
class Left:
    """The client says goodbye."""

    reason: str


Event = Audio | Said | Pushed | Played | Reply | Left


class WebSocketProtocol(Protocol):
    """One client's wire format. Each method that writes returns the WebSocket messages to send.

    Attributes:
        started: The client has said what the session needs to know to begin.
        output_rate: Of the bot's audio in Hz; valid once started.
        block_ms: How much audio is sent in one message.
        speaks_rtvi: Whether the client can be told, and say, more than audio.
        max_message_bytes: Of one message of the client; a larger one ends the connection.
    """

    started: bool
    output_rate: int
    block_ms: int
    speaks_rtvi: bool
    max_message_bytes: int

    async def decode(self, data: Data) -> list[Event]:
        """What one message of the client means. Whatever it holds, this does not raise."""
        ...

    async def audio(self, pcm: bytes) -> list[Data]:
        """The bot's voice: mono s16le at `output_rate`."""
        ...

    async def mark(self, number: int) -> list[Data]:
        """A point in the audio that the client is to acknowledge once it has played up to it."""
        ...

    async def clear(self) -> list[Data]:
        """Drop all audio that was sent and is not played yet."""
        ...

    async def message(self, message: Message) -> list[Data]:
        """An RTVI message."""
        ...

    async def end(self) -> None:
        """The server ends the session; the connection closes next."""
        ...
