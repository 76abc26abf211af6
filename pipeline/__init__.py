"""The engine: frames, processors, pipelines, sessions and interruption. Imports no model and no transport."""

from .errors import (
    BargeinError,
    HandlerError,
    InputRejected,
    PipecatUnsupported,
    PipelineError,
    ProcessorInUse,
    SessionNotRunning,
    StartFailed,
    WrongThread,
)
from .frames import (
    DOWNSTREAM,
    UPSTREAM,
    InterruptionFrame,
    Level,
    Reason,
    SpeechHoldFrame,
    SpeechInterruptedFrame,
    SpeechOnlyInterruptionFrame,
    SpeechReleaseFrame,
    SpeechResumedFrame,
    SpokenAudioFrame,
)
from .pipeline import Parallel, Pipeline
from .processor import Processor, Stage, handles
from .response import Response, Voice
from .session import Session
from .stats import SessionStats

__all__ = [
    "DOWNSTREAM",
    "UPSTREAM",
    "BargeinError",
    "HandlerError",
    "InputRejected",
    "InterruptionFrame",
    "Level",
    "Parallel",
    "PipecatUnsupported",
    "Pipeline",
    "PipelineError",
    "Processor",
    "ProcessorInUse",
    "Reason",
    "Response",
    "Session",
    "SessionNotRunning",
    "SessionStats",
    "SpeechHoldFrame",
    "SpeechInterruptedFrame",
    "SpeechOnlyInterruptionFrame",
    "SpeechReleaseFrame",
    "SpeechResumedFrame",
    "SpokenAudioFrame",
    "Stage",
    "StartFailed",
    "Voice",
    "WrongThread",
    "handles",
]
