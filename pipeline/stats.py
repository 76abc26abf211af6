"""What a session counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class SessionStats:
    """Counts since the session started.

    Attributes:
        interruptions: Interruptions of both levels.
        stale_dropped: Frames that interrupted work still pushed, and that went nowhere.
        undead: Pieces of cancelled work that had not ended `GRACE_S` after their cancellation.
    """

    interruptions: int = 0
    stale_dropped: int = 0
    undead: int = 0
