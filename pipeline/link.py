"""The way from one place in a pipeline to the processors behind it, in one direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .frames import DOWNSTREAM, Frame, FrameDirection, SystemFrame
from .processor import Call, Entry, Processor, Stage
from .work import Work, current_work

if TYPE_CHECKING:
    from .session import Session

# Who must look at a frame of one type, in order. It ends at the first processor with a handler, because
# the frame belongs to that handler; those before it (call None) only take the frame while they are busy.
Route = tuple[tuple[Processor, Call | None, bool], ...]


class Link:
    """Routes from one place, resolved once for each frame type.

    Attributes:
        head: The next processor, or None at the end of the pipeline.
        data_routes: By type, for all frames that are no system frames.
    """

    __slots__ = ("data_routes", "direction", "head", "session", "system_routes")

    def __init__(self, session: Session, head: Processor | None, direction: FrameDirection) -> None:
        self.session = session
        self.head = head
        self.direction = direction
        self.data_routes: dict[type[Frame], Route] = {}
        self.system_routes: dict[type[Frame], Route] = {}

    def send_data(self, frame: Frame, work: Work) -> None:
        """Deliver a data or control frame, the caller having set the context to `work`."""
        route = self.data_routes.get(frame.__class__)
        if route is None:
            route = self.data_routes[frame.__class__] = self._resolve(frame.__class__)
        for processor, call, is_async in route:
            if is_async or processor._busy:
                processor._take(Entry(frame, self.direction, work, call, is_async))
                return
            if call is not None:
                processor._run_now(call, frame)
                return
        self.leave(frame)

    def send_unspoken(self, frame: Frame, work: Work) -> None:
        """Deliver a frame of a response whose speech was cut: round every idle speech stage."""
        processor = self.head
        while processor is not None:
            call, is_async = processor._find_handler(frame.__class__, self.direction)
            passes = call is None or processor.stage is Stage.SPEECH
            if processor._busy or not passes:
                processor._take(Entry(frame, self.direction, work, call, is_async))
                return
            processor = self._after(processor)
        self.leave(frame)

    def send_system(self, frame: Frame) -> None:
        """Deliver a system frame: past every queue, in order with other system frames."""
        route = self.system_routes.get(frame.__class__)
        if route is None:
            route = self.system_routes[frame.__class__] = self._resolve(frame.__class__)
        for processor, call, is_async in route:
            if is_async or processor._system_worker is not None:
                work = current_work.get()
                processor._take_system(Entry(frame, self.direction, work, call, is_async))
                return
            if call is not None:
                try:
                    call(frame)
                except Exception as error:
                    processor._fail(error, frame)
                return
        self.leave(frame)

    def leave(self, frame: Frame) -> None:
        """The frame has passed the last processor."""
        self.session._left(frame, self.direction)

    def _resolve(self, frame_type: type[Frame]) -> Route:
        is_system = issubclass(frame_type, SystemFrame)
        route: list[tuple[Processor, Call | None, bool]] = []
        processor = self.head
        while processor is not None:
            call, is_async = processor._find_handler(frame_type, self.direction)
            # A processor without a handler of the right kind can never hold frames up.
            if call is not None or (processor._async_system if is_system else processor._handlers):
                route.append((processor, call, is_async))
            if call is not None:
                break
            processor = self._after(processor)
        return tuple(route)

    def _after(self, processor: Processor) -> Processor | None:
        link = processor._down if self.direction is DOWNSTREAM else processor._up
        return link.head if link is not None else None
