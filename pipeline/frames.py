"""Pipecat's frames, and the five that bargein adds.

A SystemFrame overtakes data and is never dropped. A DataFrame or ControlFrame stays in order and is
dropped by an interruption unless its `interruptible` is False.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum

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
    """The bot's voice goes on from where it was held."""


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


@dataclass
class SentenceFrame(AggregatedTextFrame):
    """A piece of an answer to be spoken.

    Parameters:
        start: Where it begins in the response's text, in characters.
    """

    start: int = 0


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
    "SpeculationFrame",
    "SpeechHoldFrame",
    "SpeechInterruptedFrame",
    "SpeechOnlyInterruptionFrame",
    "SpeechReleaseFrame",
    "SpokenAudioFrame",
    "StartFrame",
    "SystemFrame",
    "TTSAudioRawFrame",
    "TTSSpeakFrame",
    "TTSStartedFrame",
    "TTSStoppedFrame",
    "TTSTextFrame",
    "TextFrame",
    "TranscriptionFrame",
    "UserPausedFrame",
    "UserResumedFrame",
    "UserStartedSpeakingFrame",
    "UserStoppedSpeakingFrame",
    "VADUserStartedSpeakingFrame",
    "VADUserStoppedSpeakingFrame",
]
