"""What can be wrong with the use of an agent."""

from __future__ import annotations

from ...pipeline import BargeinError


class AgentClosed(BargeinError, RuntimeError):
    """Raised when an agent is used before its `async with` block is entered, or after it was destroyed."""


class NoVoice(BargeinError, RuntimeError):
    """Raised when speech is asked for and the agent has no `speech_model`."""


class TooLarge(BargeinError, ValueError):
    """Raised when a recording or a picture is larger than the agent's options allow."""
