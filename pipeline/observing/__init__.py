"""What a session cost in time, turn by turn. Without observers it costs nothing."""

from .once import Once
from .turns import InterruptionReport, Latency, Listener, PauseReport, TurnReport, Turns

__all__ = ["InterruptionReport", "Latency", "Listener", "Once", "PauseReport", "TurnReport", "Turns"]
