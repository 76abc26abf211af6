"""Each frame once, however many processors push it on."""

from __future__ import annotations

from weakref import WeakValueDictionary

from ..frames import Frame


class Once:
    """Tells a frame that is seen for the first time; the two siblings of a broadcast are one."""

    def __init__(self) -> None:
        # Those seen that are still on their way, by id: an entry goes when its frame does.
        self._seen: WeakValueDictionary[int, Frame] = WeakValueDictionary()

    def first(self, frame: Frame) -> bool:
        """Whether neither the frame nor its sibling was seen before; it is from now on."""
        seen = frame.id in self._seen or frame.broadcast_sibling_id in self._seen
        self._seen[frame.id] = frame
        return not seen
