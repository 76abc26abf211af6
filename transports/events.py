"""The log of a conversation: one JSON object a line."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

from pipecat.frames.frames import UserBackchannelFrame

from ..pipeline import DOWNSTREAM, Processor
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
    TranscriptionFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)

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
    SpeechReleaseFrame: ("released", ()),
    UserBackchannelFrame: ("backchannel", ("text",)),
    SpeechInterruptedFrame: ("interrupted", ("level", "reason", "response_id", "heard", "unheard", "ms")),
    ErrorFrame: ("error", ("error",)),
}


class EventLog:
    """A session observer that writes what happened, each frame once.

    Args:
        file: Open for writing.
        clock: Seconds since the conversation began.
    """

    def __init__(self, file: TextIO, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock
        # A frame that several processors push on is logged once; few are on their way at a time.
        self._logged: deque[int] = deque(maxlen=64)

    def __call__(self, frame: Frame, direction: FrameDirection, processor: Processor) -> None:
        logged = LOGGED.get(type(frame))
        upstream_twin = frame.broadcast_sibling_id is not None and direction is not DOWNSTREAM
        if logged is None or upstream_twin or frame.id in self._logged:
            return
        self._logged.append(frame.id)
        event, fields = logged
        entry: dict[str, Any] = {"t": round(self._clock(), 3), "event": event}
        entry |= {name: getattr(frame, name) for name in fields}
        if processor.response is not None and "response_id" not in entry:
            entry["response_id"] = processor.response.id
        self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self._file.flush()
