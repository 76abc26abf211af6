"""The log of a conversation: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TextIO

from pipecat.frames.frames import (
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    UserBackchannelFrame,
)

from ..pipeline import Processor
from ..pipeline.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ErrorFrame,
    Frame,
    FrameDirection,
    InterimTranscriptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    SentenceFrame,
    SpeechHoldFrame,
    SpeechInterruptedFrame,
    SpeechReleaseFrame,
    SpeechResumedFrame,
    TranscriptionFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from ..pipeline.observing import InterruptionReport, Listener, Once, PauseReport, TurnReport

# What is logged of each type of frame; fields that the frame has besides its time.
LOGGED: dict[type[Frame], tuple[str, tuple[str, ...]]] = {
    VADUserStartedSpeakingFrame: ("vad_started", ()),
    VADUserStoppedSpeakingFrame: ("vad_stopped", ()),
    UserStartedSpeakingFrame: ("user_started", ()),
    UserStoppedSpeakingFrame: ("user_stopped", ()),
    InterimTranscriptionFrame: ("user_partial", ("text",)),
    TranscriptionFrame: ("user_said", ("text",)),
    LLMContextFrame: ("turn", ()),
    LLMFullResponseStartFrame: ("response_started", ()),
    LLMTextFrame: ("bot_text", ("text",)),
    SentenceFrame: ("bot_sentence", ("text",)),
    LLMFullResponseEndFrame: ("response_ended", ()),
    BotStartedSpeakingFrame: ("bot_started", ()),
    TTSTextFrame: ("bot_heard", ("text",)),
    BotStoppedSpeakingFrame: ("bot_stopped", ()),
    SpeechHoldFrame: ("held", ()),
    SpeechReleaseFrame: ("released", ("reason",)),
    SpeechResumedFrame: ("resumed", ("reason",)),
    UserBackchannelFrame: ("backchannel", ("text",)),
    SpeechInterruptedFrame: ("interrupted", ("level", "reason", "response_id", "heard", "unheard", "ms")),
    FunctionCallInProgressFrame: ("tool_started", ("function_name", "tool_call_id")),
    FunctionCallResultFrame: ("tool_ended", ("function_name", "tool_call_id")),
    ErrorFrame: ("error", ("error",)),
}


class EventLog(Listener):
    """A session observer that writes what happened, each frame once; and a listener for `Turns`.

    Args:
        file: Open for writing.
        clock: Seconds since the conversation began.
    """

    def __init__(self, file: TextIO, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock
        self._once = Once()

    def __call__(self, frame: Frame, direction: FrameDirection, processor: Processor) -> None:
        logged = LOGGED.get(type(frame))
        if logged is None or not self._once.first(frame):
            return
        event, fields = logged
        entry = {name: getattr(frame, name) for name in fields}
        if processor.response is not None and "response_id" not in entry:
            entry["response_id"] = processor.response.id
        self.write(event, entry)

    def turn(self, report: TurnReport) -> None:
        latency = {part: round(ms, 3) for part, ms in report.latency.parts.items()}
        entry = {"number": report.number, "response_id": report.response_id, "outcome": report.outcome}
        total = report.latency.total
        total_ms = None if total is None else round(total, 3)
        self.write("turn_report", {**entry, "ms": total_ms, "parts": latency, "tokens": report.tokens})

    def interruption(self, report: InterruptionReport) -> None:
        entry = {
            "level": report.level,
            "reason": report.reason,
            "response_id": report.response_id,
            "silence_ms": round(report.silence_ms, 3),
            "decision_ms": round(report.decision_ms, 3),
            "saved_tokens": report.saved_tokens,
        }
        self.write("interruption_report", entry)

    def pause(self, report: PauseReport) -> None:
        ms = round(report.ms, 3)
        self.write("pause_report", {"reason": report.reason, "ms": ms, "resumed": report.resumed})

    def write(self, event: str, fields: dict[str, Any]) -> None:
        """Write one line."""
        entry = {"t": round(self._clock(), 3), "event": event, **fields}
        self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self._file.flush()
