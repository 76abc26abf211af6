"""Pipecat's frames, and those that bargein adds.

A SystemFrame overtakes data and is never dropped. A DataFrame or ControlFrame stays in order and is
dropped by an interruption unless its `interruptible` is False.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pipecat.frames.frames import (
    AggregatedTextFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    CancelWorkerFrame,
    ControlFrame,
    DataFrame,
    EagerEndOfTurnCancelFrame,
    EagerTranscriptionFrame,
    EndFrame,
    EndWorkerFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    InterruptionWorkerFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    OutputAudioRawFrame,
    StartFrame,
    SystemFrame,
    TextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.frames.frames import InterruptionFrame as PipecatInterruptionFrame
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection


class Level(StrEnum):
    """How much an interruption stops."""

    FULL = "full"
    SPEECH = "speech"


class Reason(StrEnum):
    """The common reasons; a reason may be any string."""

    USER_SPEAKING = "user_speaking"
    USER_CLICKED_STOP = "user_clicked_stop"
    CLIENT_REQUEST = "client_request"
    TIMEOUT = "timeout"
    PRIORITY_MESSAGE = "priority_message"
    INTERRUPTED = "interrupted"


@dataclass
class InterruptionFrame(PipecatInterruptionFrame):
    """Every processor cancels its interruptible work and drops its interruptible frames.

    Parameters:
        reason: Why, in the application's words.
    """

    reason: str = Reason.INTERRUPTED


@dataclass
class SpeechOnlyInterruptionFrame(SystemFrame):
    """Speech stages (TTS, output) stop; the model finishes its text.

    Parameters:
        reason: Why, in the application's words.
    """

    reason: str = Reason.INTERRUPTED


@dataclass
class SpeechHoldFrame(SystemFrame):
    """The bot's voice pauses where it is, until a release or an interruption.

    Parameters:
        gain: Above 0 the voice plays on at this gain instead (ducking); 1 is full.
    """

    gain: float = 0.0


@dataclass
class SpeechReleaseFrame(SystemFrame):
    """The bot's voice goes on from where it was held.

    Parameters:
        reason: Why what was heard does not stop it, as the policy says.
    """

    reason: str = ""


@dataclass
class SpeechResumedFrame(SystemFrame):
    """An interruption came to nothing: what it cut off is said after all.

    Parameters:
        reason: Why, as the policy says.
    """

    reason: str = ""


@dataclass
class UserPausedFrame(SystemFrame):
    """The user has just fallen silent, too briefly for the VAD to call it a stop.

    Whoever needs time for a final transcript or a verdict can begin now. What follows is either a
    UserResumedFrame or a VADUserStoppedSpeakingFrame.
    """


@dataclass
class UserResumedFrame(SystemFrame):
    """The user speaks on after a UserPausedFrame: what was begun then is void."""


@dataclass
class LikelyEndOfTurnFrame(SystemFrame):
    """The user's turn is probably over, but not yet taken as over: a model may begin on an answer."""


@dataclass
class SpeculationFrame(DataFrame):
    """A context as it will be if the turn ends now, for models that can answer ahead.

    What is made of it must reach nobody before an LLMContextFrame with the same messages comes, and is
    void after an EagerEndOfTurnCancelFrame.
    """

    context: LLMContext


@dataclass
class ToolInputFrame(DataFrame):
    """The next characters of a tool call's arguments, as the model writes them; the first has none.

    The call is announced by a FunctionCallsStartedFrame, once it is complete; one that never is was not
    made.
    """

    tool_call_id: str
    function_name: str
    text: str


@dataclass
class SourceFrame(DataFrame):
    """Something on the web that the model says it has used.

    Parameters:
        title: "" where it has none.
    """

    url: str
    title: str = ""


@dataclass
class RecordingFrame(SystemFrame):
    """A whole turn of the user, recorded elsewhere, that is to be transcribed.

    Parameters:
        audio: 16 kHz mono s16le.
        transcript: Gets the text, or what went wrong.
    """

    audio: bytes
    transcript: asyncio.Future[str]


@dataclass
class SpeechInterruptedFrame(SystemFrame):
    """The report of one finished interruption; there is exactly one for each.

    Parameters:
        level: Full or speech-only.
        reason: The reason the interruption was given.
        response_id: The response that was cut, or None when the bot had none under way.
        heard: The words of it the user had heard.
        unheard: The words made so far that the user had not heard.
        ms: Milliseconds from the cause (speech onset, click, call) to the pipeline being stopped.
    """

    level: Level
    reason: str
    response_id: str | None = None
    heard: str = ""
    unheard: str = ""
    ms: float = 0.0


@dataclass
class SpokenAudioFrame(TTSAudioRawFrame):
    """Speech that knows its text: audio of one response and the characters it speaks.

    Parameters:
        marks: (sample, character) pairs, ascending: once `sample` samples of this frame have been
            played, the response has been heard up to `character`. A negative one lies before this frame,
            in the response's audio pushed earlier.
    """

    marks: tuple[tuple[int, int], ...] = field(default=())

    @property
    def closes(self) -> bool:
        """Whether it has no audio and says that the text up to its last mark is in the audio before it."""
        return not self.audio and bool(self.marks) and self.marks[-1][0] == 0


@dataclass
class SentenceFrame(AggregatedTextFrame):
    """A piece of an answer to be spoken.

    Parameters:
        start: Where it begins in the response's text, in characters.
        speech: What the voice makes of it, if it was asked for ahead.
    """

    start: int = 0
    speech: Any = field(default=None, repr=False)


DOWNSTREAM = FrameDirection.DOWNSTREAM
UPSTREAM = FrameDirection.UPSTREAM

__all__ = [
    "DOWNSTREAM",
    "UPSTREAM",
    "BotStartedSpeakingFrame",
    "BotStoppedSpeakingFrame",
    "CancelFrame",
    "CancelWorkerFrame",
    "ControlFrame",
    "DataFrame",
    "EagerEndOfTurnCancelFrame",
    "EagerTranscriptionFrame",
    "EndFrame",
    "EndWorkerFrame",
    "ErrorFrame",
    "Frame",
    "FrameDirection",
    "InputAudioRawFrame",
    "InterimTranscriptionFrame",
    "InterruptionFrame",
    "InterruptionWorkerFrame",
    "LLMContextFrame",
    "LLMFullResponseEndFrame",
    "LLMFullResponseStartFrame",
    "LLMTextFrame",
    "Level",
    "LikelyEndOfTurnFrame",
    "OutputAudioRawFrame",
    "PipecatInterruptionFrame",
    "Reason",
    "RecordingFrame",
    "SentenceFrame",
    "SourceFrame",
    "SpeculationFrame",
    "SpeechHoldFrame",
    "SpeechInterruptedFrame",
    "SpeechOnlyInterruptionFrame",
    "SpeechReleaseFrame",
    "SpeechResumedFrame",
    "SpokenAudioFrame",
    "StartFrame",
    "SystemFrame",
    "TTSAudioRawFrame",
    "TTSSpeakFrame",
    "TTSStartedFrame",
    "TTSStoppedFrame",
    "TTSTextFrame",
    "TextFrame",
    "ToolInputFrame",
    "TranscriptionFrame",
    "UserPausedFrame",
    "UserResumedFrame",
    "UserStartedSpeakingFrame",
    "UserStoppedSpeakingFrame",
    "VADUserStartedSpeakingFrame",
    "VADUserStoppedSpeakingFrame",
]
