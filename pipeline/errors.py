"""Errors of the engine, named by condition."""

from __future__ import annotations


class BargeinError(Exception):
    """Base of every error bargein raises on purpose."""


class HandlerError(BargeinError, TypeError):
    """Raised when a processor has handlers that cannot be called or contradict each other, or uses a name
    of the engine's."""


class PipecatUnsupported(BargeinError, RuntimeError):
    """Raised when the installed pipecat-ai lacks something that hosting its processors relies on."""


class PipelineError(BargeinError, ValueError):
    """Raised when a pipeline is empty, holds something that is no processor, or holds one twice."""


class ProcessorInUse(BargeinError, RuntimeError):
    """Raised when a session is given a processor that already belongs to a running session."""


class SessionNotRunning(BargeinError, RuntimeError):
    """Raised when a frame is pushed, or an interruption asked for, outside a running session."""


class StartFailed(BargeinError, RuntimeError):
    """Raised when a processor's `start` raises; the cause is chained, what had started is stopped."""


class InputRejected(BargeinError, RuntimeError):
    """Raised to who waits for the answer to a text without words, or when the session ended before it."""


class WrongThread(BargeinError, RuntimeError):
    """Raised when a session is used in another thread than the one its event loop runs in."""
