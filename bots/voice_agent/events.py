"""What a `VoiceAgent` tells: one class for each event, and who listens."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, get_args

from loguru import logger

from ...pipeline import BargeinError, Level
from ...pipeline.work import ROOT, current_work

EventName = Literal[
    "text",
    "chunk:text_delta",
    "chunk:reasoning_delta",
    "chunk:tool_call",
    "chunk:tool_input_start",
    "chunk:tool_input_delta",
    "chunk:tool_result",
    "chunk:source",
    "tool_result",
    "abort",
    "speech_start",
    "speech_complete",
    "speech_interrupted",
    "speech_chunk_queued",
    "audio_chunk",
    "audio",
    "transcription",
    "audio_received",
    "history_cleared",
    "history_trimmed",
    "connected",
    "disconnected",
    "listening",
    "stopped",
    "warning",
    "error",
    "frame_received",
    "frame_requested",
    "client_ready",
    "config_changed",
]


class NoSuchEvent(BargeinError, ValueError):
    """Raised when somebody wants to listen to an event that does not exist, or with an async function."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened."""

    names: ClassVar[tuple[EventName, ...]] = ()


@dataclass(frozen=True, slots=True)
class Text(Event):
    """The user's input, or an answer: once, when its text is complete or was cut off.

    Attributes:
        heard: Of an answer that was cut off: what of it the user had heard.
        interrupted: The text is not complete.
    """

    names = ("text",)
    role: Literal["user", "assistant"]
    text: str
    response_id: str | None = None
    heard: str = ""
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class TextDelta(Event):
    """The next piece of an answer, as the model makes it."""

    names = ("chunk:text_delta",)
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta(Event):
    """The next piece of what the model thinks before it answers, where it tells."""

    names = ("chunk:reasoning_delta",)
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolCall(Event):
    """The model calls a tool; told when the call is complete."""

    names = ("chunk:tool_call",)
    tool_name: str
    tool_call_id: str
    input: dict[str, Any]
    response_id: str | None


@dataclass(frozen=True, slots=True)
class ToolInputStart(Event):
    """The model begins to write a call; it is made once it is complete, see `ToolCall`."""

    names = ("chunk:tool_input_start",)
    id: str
    tool_name: str


@dataclass(frozen=True, slots=True)
class ToolInputDelta(Event):
    """The next characters of a call's arguments, as the model writes them."""

    names = ("chunk:tool_input_delta",)
    id: str
    delta: str


@dataclass(frozen=True, slots=True)
class Source(Event):
    """Something on the web that the model says it has used."""

    names = ("chunk:source",)
    url: str
    title: str
    response_id: str | None


@dataclass(frozen=True, slots=True)
class ToolResult(Event):
    """A call has its one result: at once, not at the end of the answer.

    Attributes:
        error: What went wrong, if anything.
    """

    names = ("chunk:tool_result", "tool_result")
    name: str
    tool_call_id: str
    result: Any
    error: str | None
    response_id: str | None


@dataclass(frozen=True, slots=True)
class Abort(Event):
    """A full interruption ended an answer that the model had not finished."""

    names = ("abort",)
    reason: str
    response_id: str


@dataclass(frozen=True, slots=True)
class SpeechStart(Event):
    """The first audio of an answer is there.

    Attributes:
        streaming: False if the text was given by the application, and is all there.
        text: Then, the text.
    """

    names = ("speech_start",)
    streaming: bool
    text: str
    response_id: str


@dataclass(frozen=True, slots=True)
class SpeechComplete(Event):
    """An answer has been said to its end. Never sent of one that was interrupted."""

    names = ("speech_complete",)
    streaming: bool
    text: str
    response_id: str


@dataclass(frozen=True, slots=True)
class SpeechInterrupted(Event):
    """Exactly one for each interruption, whatever was going on; see `SpeechInterruptedFrame`."""

    names = ("speech_interrupted",)
    reason: str
    level: Level
    response_id: str | None
    heard: str
    unheard: str
    ms: float


@dataclass(frozen=True, slots=True)
class SpeechChunkQueued(Event):
    """A piece of an answer is on its way to the voice."""

    names = ("speech_chunk_queued",)
    id: int
    text: str
    response_id: str


@dataclass(frozen=True, slots=True)
class AudioChunk(Event):
    """The next 20 ms of the bot's voice, when they are due to be played; without a socket only.

    Attributes:
        data: Mono s16le.
        sample_rate: Hz.
    """

    names = ("audio_chunk",)
    chunk_id: int
    data: bytes = field(repr=False)
    sample_rate: int
    response_id: str | None
    format: str = "pcm"


@dataclass(frozen=True, slots=True)
class Audio(Event):
    """A text given by the application has been said; this is all of it, in the output format."""

    names = ("audio",)
    data: bytes = field(repr=False)
    format: str
    response_id: str


@dataclass(frozen=True, slots=True)
class Transcription(Event):
    """What was understood of a recording."""

    names = ("transcription",)
    text: str
    language: str | None = None


@dataclass(frozen=True, slots=True)
class AudioReceived(Event):
    """A recording of the user came and is being transcribed.

    Attributes:
        size: Bytes, decoded: mono s16le at 16 kHz.
        seconds: How long it is.
    """

    names = ("audio_received",)
    size: int
    seconds: float
    format: str = "pcm"


@dataclass(frozen=True, slots=True)
class HistoryCleared(Event):
    """The conversation begins anew."""

    names = ("history_cleared",)


@dataclass(frozen=True, slots=True)
class HistoryTrimmed(Event):
    """The oldest messages were dropped, so that the rest fits."""

    names = ("history_trimmed",)
    removed_count: int
    reason: Literal["max_messages", "max_total_chars"]


@dataclass(frozen=True, slots=True)
class Connected(Event):
    """A client is there."""

    names = ("connected",)


@dataclass(frozen=True, slots=True)
class Disconnected(Event):
    """The client is gone, and everything that was done for it has ended."""

    names = ("disconnected",)
    reason: str


@dataclass(frozen=True, slots=True)
class Listening(Event):
    """Inputs are taken."""

    names = ("listening",)


@dataclass(frozen=True, slots=True)
class Stopped(Event):
    """Inputs are not taken any more, and nothing runs that earlier ones began."""

    names = ("stopped",)


@dataclass(frozen=True, slots=True)
class Warned(Event):
    """Something is not as it should be, and nothing failed."""

    names = ("warning",)
    message: str


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """Something failed; once for each failure.

    Attributes:
        error: What failed, in words.
        exception: The same as it was raised, if it was.
    """

    names = ("error",)
    error: str
    exception: BaseException | None = field(default=None, compare=False)


# Of a `VideoAgent`


@dataclass(frozen=True, slots=True)
class FrameReceived(Event):
    """A picture came: from a client, or from the application.

    Attributes:
        sequence: Its number, as who sent it counts.
        timestamp: When it was taken, in ms since 1970.
        trigger_reason: Why, such as "user_request", "timer" or "scene_change".
        size: Bytes of the file.
        width, height: Pixels, as they are in the file.
        format: Its media type, such as "image/webp".
    """

    names = ("frame_received",)
    sequence: int
    timestamp: float
    trigger_reason: str
    size: int
    width: int
    height: int
    format: str


@dataclass(frozen=True, slots=True)
class FrameRequested(Event):
    """The client, if there is one, was asked for a picture."""

    names = ("frame_requested",)
    reason: str


@dataclass(frozen=True, slots=True)
class ClientReady(Event):
    """A client has said what it can do.

    Attributes:
        capabilities: In its own words.
    """

    names = ("client_ready",)
    capabilities: Any


@dataclass(frozen=True, slots=True)
class ConfigChanged(Event):
    """Something of the configuration was changed; this is all of it."""

    names = ("config_changed",)
    max_context_frames: int


E = TypeVar("E", bound=Event)


class Listeners:
    """Who listens to what. A callback that raises is logged; the others, and the bot, do not notice."""

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callable[[Any], object]]] = {name: [] for name in get_args(EventName)}

    def add(self, event: EventName | type[Event], callback: Callable[[Any], object]) -> None:
        """Call `callback(event)` each time.

        Raises:
            NoSuchEvent: There is no such event, or the callback is an async function.
        """
        if inspect.iscoroutinefunction(callback):
            raise NoSuchEvent(f"{event}: a callback is a plain function; let it start a task")
        self._of(event).append(callback)

    def remove(self, event: EventName | type[Event], callback: Callable[[Any], object]) -> None:
        """Call it no more; one that is not there is no trouble."""
        callbacks = self._of(event)
        if callback in callbacks:
            callbacks.remove(callback)

    def clear(self) -> None:
        """Call nobody any more."""
        for callbacks in self._callbacks.values():
            callbacks.clear()

    def emit(self, event: Event) -> None:
        """Tell everybody who wants to know, now; what they do is not a part of the work under way."""
        token = current_work.set(ROOT)
        try:
            for name in event.names:
                for callback in tuple(self._callbacks[name]):
                    try:
                        callback(event)
                    except Exception as error:
                        logger.opt(exception=error).error("a listener to {!r} failed", name)
        finally:
            current_work.reset(token)

    def _of(self, event: EventName | type[Event]) -> list[Callable[[Any], object]]:
        name = event if isinstance(event, str) else event.names[0]
        if name not in self._callbacks:
            raise NoSuchEvent(f"there is no event {name!r}; there are {', '.join(self._callbacks)}")
        return self._callbacks[name]
