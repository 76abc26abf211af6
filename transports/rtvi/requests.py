"""What a client asks of the session."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal, TypeVar

from loguru import logger
from pipecat.frames.frames import (
    ClientConnectedFrame,
    InputDTMFFrame,
    LLMConfigureOutputFrame,
    LLMMessagesAppendFrame,
)
from pipecat.processors.frameworks.rtvi.frames import (
    RTVIUICancelJobGroupFrame,
    RTVIUIEventFrame,
    RTVIUISnapshotFrame,
)
from pipecat.processors.frameworks.rtvi.models import (
    DTMFInputData,
    LLMFunctionCallResultData,
    RawClientMessageData,
    SendTextData,
    SendTextOptions,
    UICancelJobGroupData,
    UIEventData,
    UISnapshotData,
)
from pydantic import BaseModel, ValidationError

from ...pipeline import Level, Processor, Reason
from ..playout import Playout
from .calls import Calls
from .messages import LABEL, VERSION, Channel, Message, as_json, rtvi

MAX_DELAY_MS = 2_000.0  # a client that reports a longer playout delay is not believed
MAX_REASON = 200  # characters

Handler = Callable[[Any], Any]
H = TypeVar("H", bound=Handler)


class AppendData(BaseModel):
    """The data of `append-to-context`."""

    role: Literal["user", "assistant"]
    content: str
    run_immediately: bool = False


class Requests(Processor):
    """The half of `RTVI`, whose arguments it takes, that listens to the client."""

    def __init__(
        self,
        channel: Channel,
        playout: Playout | None = None,
        *,
        report_calls: Mapping[str, str] | None = None,
    ) -> None:
        self.channel = channel
        self.playout = playout
        self.calls = Calls(self.send, report_calls or {})
        self._client_handlers: dict[str, Handler] = {
            "interrupt": self._interrupt,
            "playout": self._note_playout,
        }

    async def start(self) -> None:
        self.channel.on_message = self.receive

    async def stop(self) -> None:
        self.channel.on_message = None

    def send(self, kind: str, data: Any = None, message_id: str | None = None) -> None:
        """Send the client a message."""
        self.channel.send(rtvi(kind, data, message_id))

    def on_client_message(self, kind: str) -> Callable[[H], H]:
        """Make a function answer the client's messages of this type (`sendClientRequest(kind, data)`).

        It takes the data and returns the response's, both any JSON; `async def` is fine. A ValueError
        it raises is told to the client, any other exception only that there was one.
        """

        def register(handler: H) -> H:
            self._client_handlers[kind] = handler
            return handler

        return register

    def receive(self, message: Message) -> None:
        """Do what one message asks; a message that makes no sense is answered with an error."""
        if message.get("label") != LABEL:
            return  # not for us: transports have signalling of their own
        kind, data, message_id = message.get("type"), message.get("data"), str(message.get("id") or "")
        take = _TAKERS.get(kind) if isinstance(kind, str) else None
        try:
            if take is None:
                raise ValueError(f"unknown type {kind!r:.80}")
            take(self, {} if data is None else data, message_id)
        except ValueError as error:
            self._refuse(kind, error, message_id)

    def _refuse(self, kind: object, error: ValueError, message_id: str) -> None:
        text = _problems(error) if isinstance(error, ValidationError) else str(error)
        logger.warning("RTVI message {!r} refused: {}", kind, text)
        self.send("error-response", {"error": text}, message_id)

    def _take_ready(self, data: Any, message_id: str) -> None:
        theirs = data.get("version") if isinstance(data, dict) else None
        major = VERSION.partition(".")[0]
        if not isinstance(theirs, str) or theirs.partition(".")[0] != major:
            raise ValueError(f"this server speaks RTVI {VERSION}; a client of {theirs} cannot be served")
        self.send(
            "bot-ready",
            {
                "version": VERSION,
                "about": {"library": "bargein", "library_version": version("bargein")},
                "capabilities": {
                    "audio_out": bool(self.session.voices),
                    "video_in": False,
                    "screen_in": False,
                    "video_out": False,
                    "metrics": True,
                },
            },
            message_id,
        )
        self.session.push(ClientConnectedFrame())

    def _take_disconnect(self, data: Any, message_id: str) -> None:
        self.session.cancel("the client asked for it")

    def _take_text(self, data: Any, message_id: str) -> None:
        asked = SendTextData.model_validate(data)
        text = asked.content.strip()
        if not text:
            raise ValueError("send-text needs a content")
        options = asked.options or SendTextOptions()
        told = {"text": text, "input_type": "chat", "timestamp": _now(), "final": True, "msg_id": message_id}
        self.send("user-input", told)
        if not options.run_immediately:
            self._append("user", text, run=False)
            return
        self.session.interrupt(Reason.PRIORITY_MESSAGE)
        if options.audio_response:
            self.session.send_text(text)
        else:  # in the language model's queue the answer lies between the two
            self._configure_output(skip_tts=True)
            self.session.send_text(text)
            self._configure_output(skip_tts=False)

    def _take_append(self, data: Any, message_id: str) -> None:
        asked = AppendData.model_validate(data)
        if asked.run_immediately:
            self.session.interrupt(Reason.PRIORITY_MESSAGE)
        self._append(asked.role, asked.content, run=asked.run_immediately)
        self.send("append-to-context-result", {"result": "appended"}, message_id)

    def _append(self, role: str, text: str, *, run: bool) -> None:
        message: Any = {"role": role, "content": text}
        frame = LLMMessagesAppendFrame([message], run_llm=run)
        frame.interruptible = False
        self.session.push(frame)

    def _configure_output(self, *, skip_tts: bool) -> None:
        frame = LLMConfigureOutputFrame(skip_tts)
        frame.interruptible = False
        self.session.push(frame)

    def _take_keys(self, data: Any, message_id: str) -> None:
        for button in DTMFInputData.model_validate(data).buttons:
            self.session.push(InputDTMFFrame(button))

    def _take_ui_event(self, data: Any, message_id: str) -> None:
        event = UIEventData.model_validate(data)
        self.session.push(RTVIUIEventFrame(message_id, event.event, event.payload))

    def _take_ui_snapshot(self, data: Any, message_id: str) -> None:
        self.session.push(RTVIUISnapshotFrame(message_id, UISnapshotData.model_validate(data).tree))

    def _take_ui_cancel(self, data: Any, message_id: str) -> None:
        asked = UICancelJobGroupData.model_validate(data)
        self.session.push(RTVIUICancelJobGroupFrame(message_id, asked.job_id, asked.reason))

    def _take_call_result(self, data: Any, message_id: str) -> None:
        given = LLMFunctionCallResultData.model_validate(data)
        self.calls.take_result(given.tool_call_id, given.result)

    def _take_client_message(self, data: Any, message_id: str) -> None:
        asked = RawClientMessageData.model_validate(data)
        handler = self._client_handlers.get(asked.t)
        if handler is None:
            raise ValueError(f"unknown client message {asked.t!r:.80}")
        try:
            result = handler(asked.d)
        except Exception as error:
            self._refuse_request(asked.t, error, message_id)
            return
        if inspect.isawaitable(result):
            self.spawn(self._respond_later(asked.t, result, message_id), f"{self.name}.{asked.t}")
        else:
            self._respond(asked.t, result, message_id)

    async def _respond_later(self, kind: str, result: Awaitable[Any], message_id: str) -> None:
        try:
            response = await result
        except Exception as error:
            self._refuse_request(kind, error, message_id)
        else:
            self._respond(kind, response, message_id)

    def _respond(self, kind: str, result: Any, message_id: str) -> None:
        self.send("server-response", {"t": kind, "d": as_json(result)}, message_id)

    def _refuse_request(self, kind: str, error: Exception, message_id: str) -> None:
        if not isinstance(error, ValueError):
            logger.opt(exception=error).error("{}: the client message {!r} failed", self.name, kind)
            error = ValueError(f"{kind} failed; the server's log says why")
        self._refuse(kind, error, message_id)

    def _interrupt(self, details: Any) -> Message:
        asked = details if isinstance(details, dict) else {}
        level = Level(asked.get("level", Level.FULL))
        reason = str(asked.get("reason") or Reason.CLIENT_REQUEST)[:MAX_REASON]
        interrupt = self.session.interrupt if level is Level.FULL else self.session.interrupt_speech
        interrupt(reason, cause=asyncio.get_running_loop().time())
        return {}

    def _note_playout(self, details: Any) -> None:
        delay = details.get("delay_ms") if isinstance(details, dict) else None
        if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay <= MAX_DELAY_MS:
            raise ValueError(f"playout needs a delay_ms between 0 and {MAX_DELAY_MS:.0f}")
        if self.playout is not None:
            self.playout.delay_ms = float(delay)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _problems(error: ValidationError) -> str:
    """What pydantic found, without the input, which may be secret."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'data'}: {e['msg']}" for e in found)


_TAKERS: dict[str, Callable[[Requests, Any, str], None]] = {
    "client-ready": Requests._take_ready,
    "disconnect-bot": Requests._take_disconnect,
    "send-text": Requests._take_text,
    "append-to-context": Requests._take_append,
    "client-message": Requests._take_client_message,
    "llm-function-call-result": Requests._take_call_result,
    "dtmf": Requests._take_keys,
    "ui-event": Requests._take_ui_event,
    "ui-snapshot": Requests._take_ui_snapshot,
    "ui-cancel-job-group": Requests._take_ui_cancel,
}
