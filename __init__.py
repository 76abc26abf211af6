"""bargein: voice bots that can be interrupted.

The names below are imported when they are first used: what needs none of them, such as `bargein --help`,
does not wait for Pipecat.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pipeline import (
        DOWNSTREAM,
        UPSTREAM,
        BargeinError,
        InterruptionFrame,
        Level,
        Parallel,
        Pipeline,
        Processor,
        Reason,
        Response,
        Session,
        SpeechHoldFrame,
        SpeechInterruptedFrame,
        SpeechOnlyInterruptionFrame,
        SpeechReleaseFrame,
        SpeechResumedFrame,
        SpokenAudioFrame,
        Stage,
        handles,
    )

__all__ = [
    "DOWNSTREAM",
    "UPSTREAM",
    "BargeinError",
    "InterruptionFrame",
    "Level",
    "Parallel",
    "Pipeline",
    "Processor",
    "Reason",
    "Response",
    "Session",
    "SpeechHoldFrame",
    "SpeechInterruptedFrame",
    "SpeechOnlyInterruptionFrame",
    "SpeechReleaseFrame",
    "SpeechResumedFrame",
    "SpokenAudioFrame",
    "Stage",
    "handles",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import pipeline

    return getattr(pipeline, name)
