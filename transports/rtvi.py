"""RTVI 2.x, the messages that Pipecat's clients and the page speak, from and to frames.

Beyond the standard: messages about an answer carry `response_id`, so that a client can drop what comes too
late; `bot-llm-started` says whether it is `interruptible`, `bot-tts-text` also all that was heard of it so
far, and `server-message` tells of interruptions, of the voice being held and released, and of what the bot
is doing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import dropwhile
from typing import Any, Protocol

from loguru import logger
from pipecat.frames.frames import UserBackchannelFrame

from ..pipeline import Level, Processor, Reason, Response, SpeechInterruptedFrame, handles
from ..pipeline.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ErrorFrame,
    Frame,
    FrameDirection,
    InterimTranscriptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    SpeechHoldFrame,
    SpeechReleaseFrame,
    TranscriptionFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from .playout import Playout

LABEL = "rtvi-ai"
VERSION = "2.1.0"  # of the protocol
MAX_DELAY_MS = 2_000.0  # a client that reports a longer playout delay is not believed
SEEN = 64  # frames remembered, to tell of each once although several processors push it

Message = dict[str, Any]


class Channel(Protocol):
    """Anything that carries JSON objects both ways, in order."""

    on_message: Callable[[Message], None] | None

    def send(self, message: Message) -> None:
        """Send one object, or keep it until that is possible. Must not raise."""


def rtvi(kind: str, data: Message | None = None, message_id: str | None = None) -> Message:
    """An RTVI message."""
    message: Message = {"label": LABEL, "type": kind}
    if message_id is not None:
        message["id"] = message_id
    if data is not None:
        message["data"] = data
    return message


class RTVI(Processor):
    """Tells a client what happens in the session, and does what the client asks.

    It belongs behind the LLM and before the TTS, where an answer's text passes as it is generated.
    Errors, holds and the words heard do not come by here; it observes their being pushed.

    Args:
        channel: The client.
        playout: The output's, if the client is to report how late it plays.
    """

    def __init__(self, channel: Channel, playout: Playout | None = None) -> None:
        self.channel = channel
        self.playout = playout
        self._seen: deque[int] = deque(maxlen=SEEN)
        self._state = "listening"
        self._state_id: str | None = None  # the answer that the state is about
        self._speaking = False
        self._spoken_id: str | None = None  # the answer that sounds, or sounded last
        self._answers: list[Response] = []  # begun; finished ones leave when the next one begins
        self._answer: Response | None = None  # the last one begun, while it may still be said
        self._has_text = False  # of `_answer`
        self._heard = ""  # of the response whose words were heard last
        self._heard_id: str | None = None

    async def start(self) -> None:
        self.channel.on_message = self.receive
        self.session.observe(self._observe)

    async def stop(self) -> None:
        self.channel.on_message = None

    def send(self, kind: str, data: Message | None = None, message_id: str | None = None) -> None:
        """Send the client a message."""
        self.channel.send(rtvi(kind, data, message_id))

    # From the pipeline -----------------------------------------------------------------------------

    def _observe(self, frame: Frame, direction: FrameDirection, processor: Processor) -> None:
        tell = _OBSERVED.get(type(frame))
        if tell is not None and frame.id not in self._seen and frame.broadcast_sibling_id not in self._seen:
            self._seen.append(frame.id)
            tell(self, frame)

    # Not observed: what the user says reaches this place only if it counts, as `BargeIn` decides.
    @handles(TranscriptionFrame, InterimTranscriptionFrame)
    def transcription(
        self, frame: TranscriptionFrame | InterimTranscriptionFrame, direction: FrameDirection
    ) -> None:
        self.send(
            "user-transcription",
            {
                "text": frame.text,
                "user_id": frame.user_id,
                "timestamp": frame.timestamp,
                "final": isinstance(frame, TranscriptionFrame),
            },
        )
        self.push(frame, direction)

    @handles(UserBackchannelFrame)
    def backchannel(self, frame: UserBackchannelFrame) -> None:
        self.send("server-message", {"type": "backchannel", "text": frame.text})
        self.push(frame)

    @handles(UserStartedSpeakingFrame)
    def user_started(self, frame: UserStartedSpeakingFrame, direction: FrameDirection) -> None:
        self.send("user-started-speaking")
        self.push(frame, direction)

    @handles(UserStoppedSpeakingFrame)
    def user_stopped(self, frame: UserStoppedSpeakingFrame, direction: FrameDirection) -> None:
        self.send("user-stopped-speaking")
        self.push(frame, direction)

    def _tell_error(self, frame: ErrorFrame) -> None:
        self.send("error", {"error": frame.error, "fatal": frame.fatal})
        self._answer = None
        self._update_state()

    def _tell_heard(self, frame: TTSTextFrame) -> None:
        if frame.context_id != self._heard_id:
            self._heard_id, self._heard = frame.context_id, ""
        self._heard += frame.text
        data = {"text": frame.text, "response_id": frame.context_id, "heard": self._heard}
        self._spoken_id = frame.context_id
        self._update_state()
        self.send("bot-tts-text", data)

    def _tell_held(self, frame: SpeechHoldFrame) -> None:
        self.send("server-message", {"type": "hold", **_about(self._spoken_id)})

    def _tell_released(self, frame: SpeechReleaseFrame) -> None:
        self.send("server-message", {"type": "release", **_about(self._spoken_id)})

    @handles(LLMFullResponseStartFrame)
    def response_started(self, frame: LLMFullResponseStartFrame) -> None:
        answer = self.response
        self._answer, self._has_text = answer, False
        self._answers = [earlier for earlier in self._answers if not earlier.finished]
        if answer is not None:
            self._answers.append(answer)
        interruptible = answer is None or answer.interruptible
        self.send("bot-llm-started", {"interruptible": interruptible, **self._about_response()})
        self._update_state()
        self.push(frame)

    @handles(LLMTextFrame)
    def response_text(self, frame: LLMTextFrame) -> None:
        self._has_text = self._has_text or not frame.text.isspace()
        self.send("bot-llm-text", {"text": frame.text, **self._about_response()})
        self.push(frame)

    @handles(LLMFullResponseEndFrame)
    def response_ended(self, frame: LLMFullResponseEndFrame) -> None:
        self.push(frame)
        self.send("bot-llm-stopped", self._about_response())
        if not (self._has_text and self.session.voices):
            self._answer = None  # nothing of it will be said
        self._update_state()

    @handles(BotStartedSpeakingFrame)
    def speech_started(self, frame: BotStartedSpeakingFrame, direction: FrameDirection) -> None:
        self._speaking = True
        left = (a.id for a in self._answers if a.text and not a.finished and not a.silenced)
        self._spoken_id = next(left, None)
        self.send("bot-started-speaking", _about(self._spoken_id))
        self._update_state()
        self.push(frame, direction)

    @handles(BotStoppedSpeakingFrame)
    def speech_stopped(self, frame: BotStoppedSpeakingFrame, direction: FrameDirection) -> None:
        self._speaking = False
        self.send("bot-stopped-speaking", _about(self._spoken_id))
        self._update_state()
        self.push(frame, direction)

    @handles(SpeechInterruptedFrame)
    def interrupted(self, frame: SpeechInterruptedFrame, direction: FrameDirection) -> None:
        self.send(
            "server-message",
            {
                "type": "interruption",
                "level": frame.level,
                "reason": frame.reason,
                "response_id": frame.response_id,
                "cut": self._cut_by(frame),
                "heard": frame.heard,
                "unheard": frame.unheard,
                "ms": round(frame.ms, 3),
            },
        )
        self._update_state()
        self.push(frame, direction)

    def _about_response(self) -> Message:
        return _about(self.response.id if self.response is not None else None)

    def _cut_by(self, report: SpeechInterruptedFrame) -> list[str]:
        """The answers that an interruption hit, oldest first; its report names that one alone."""
        if report.response_id is None:
            return []
        since = dropwhile(lambda answer: answer.id != report.response_id, self._answers)
        return [report.response_id, *(a.id for a in list(since)[1:] if a.silenced)]

    def _update_state(self) -> None:
        answer = self._answer
        thinking = answer is not None and not answer.finished and not answer.silenced
        state = "speaking" if self._speaking else "thinking" if thinking else "listening"
        # It is about the answer that ended, when none goes on.
        about = self._state_id
        if self._speaking:
            about = self._spoken_id
        elif thinking and answer is not None:
            about = answer.id
        if (state, about) != (self._state, self._state_id):
            self._state, self._state_id = state, about
            self.send("server-message", {"type": "state", "state": state, **_about(about)})

    # From the client -------------------------------------------------------------------------------

    def receive(self, message: Message) -> None:
        """Do what one message asks; a message that makes no sense is answered with an error."""
        kind, data = message.get("type"), message.get("data")
        if message.get("label") != LABEL:
            return  # not for us: transports have signalling of their own
        data = data if isinstance(data, dict) else {}
        try:
            if kind == "client-ready":
                self.send("bot-ready", {"version": VERSION, "about": {"library": "bargein"}}, _id(message))
            elif kind == "disconnect-bot":
                self.session.cancel("the client asked for it")
            elif kind == "send-text":
                self._take_text(data)
            elif kind == "client-message":
                self._take_client_message(data, _id(message))
            else:
                raise ValueError(f"unknown type {kind!r}")
        except ValueError as error:
            logger.warning("RTVI message {!r} refused: {}", kind, error)
            self.send("error-response", {"error": str(error)}, _id(message))

    def _take_text(self, data: Message) -> None:
        content = data.get("content")
        if not isinstance(content, str) or not content.strip():
            raise ValueError("send-text needs a content")
        self.session.send_text(content.strip(), priority=True)

    def _take_client_message(self, data: Message, message_id: str) -> None:
        details = data.get("d")
        details = details if isinstance(details, dict) else {}
        if data.get("t") == "interrupt":
            self._take_interrupt(details)
            self.send("server-response", {"t": "interrupt", "d": {}}, message_id)
        elif data.get("t") == "playout":
            self._take_playout(details)
        else:
            raise ValueError(f"unknown client message {data.get('t')!r}")

    def _take_interrupt(self, details: Message) -> None:
        level = Level(details.get("level", Level.FULL))
        reason = str(details.get("reason") or Reason.CLIENT_REQUEST)[:200]
        interrupt = self.session.interrupt if level is Level.FULL else self.session.interrupt_speech
        interrupt(reason, cause=asyncio.get_running_loop().time())

    def _take_playout(self, details: Message) -> None:
        delay = details.get("delay_ms")
        if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay <= MAX_DELAY_MS:
            raise ValueError(f"playout needs a delay_ms between 0 and {MAX_DELAY_MS:.0f}")
        if self.playout is not None:
            self.playout.delay_ms = float(delay)


# What does not come by, and who tells of it.
_OBSERVED: dict[type[Frame], Callable[[RTVI, Any], None]] = {
    ErrorFrame: RTVI._tell_error,
    TTSTextFrame: RTVI._tell_heard,
    SpeechHoldFrame: RTVI._tell_held,
    SpeechReleaseFrame: RTVI._tell_released,
}


def _about(response_id: str | None) -> Message:
    return {} if response_id is None else {"response_id": response_id}


def _id(message: Message) -> str:
    return str(message.get("id") or "")
