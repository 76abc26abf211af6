"""The way from one place in a pipeline to the processors behind it, in one direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .frames import (
    DOWNSTREAM,
    EndFrame,
    EndWorkerFrame,
    Frame,
    FrameDirection,
    Level,
    PipecatInterruptionFrame,
    Reason,
    SpeechOnlyInterruptionFrame,
    SystemFrame,
)
from .interruption import TOLD, interrupt
from .processor import FAILURES, Call, Entry, Processor, Stage
from .work import ROOT, Work, current_work

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

    def send(self, frame: Frame, work: Work, sender: Processor | None) -> None:
        """Deliver any frame as what it is; every push that is not on the hot path of `Processor.push`.

        Args:
            frame: Dropped, and counted, if it is interruptible and its work was interrupted.
            work: What the sender works for.
            sender: None if the frame comes from outside the pipeline.
        """
        session = self.session
        if isinstance(frame, SystemFrame):
            if TOLD in frame.metadata:
                return
            if isinstance(frame, PipecatInterruptionFrame | SpeechOnlyInterruptionFrame):
                level = Level.SPEECH if isinstance(frame, SpeechOnlyInterruptionFrame) else Level.FULL
                reason = getattr(frame, "reason", Reason.INTERRUPTED)
                interrupt(session, level, reason, cause=None, source=sender)
            else:
                self.send_system(frame)
            return
        epoch = work.epoch
        if epoch is not None and epoch.session is not session:  # what another session's work begins here
            work, epoch = ROOT, None
        if not frame.interruptible:
            # A tool of a discarded answer must not hang up (pipecat #4997).
            stale = epoch is not None and epoch.response != session.epoch.response
            if stale and isinstance(frame, EndFrame | EndWorkerFrame):
                session.stats.stale_dropped += 1
                return
            context = ROOT if work.response is None else Work(None, work.response)
        elif epoch is None:
            context = session.root if work.response is None else Work(session.epoch, work.response)
        elif epoch.response != session.epoch.response:
            session.stats.stale_dropped += 1
            return
        elif epoch.speech != session.epoch.speech:
            if sender is not None and sender.stage is Stage.SPEECH:
                session.stats.stale_dropped += 1
            else:
                self.send_unspoken(frame, work)
            return
        else:
            self.send_data(frame, work)
            return
        token = current_work.set(context)
        try:
            self.send_data(frame, context)
        finally:
            current_work.reset(token)

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
                except FAILURES as error:
                    processor._fail(error, frame)
                return
        self.leave(frame)

    def leave(self, frame: Frame) -> None:
        """The frame has passed the last processor."""
        self.session.left(frame, self.direction)

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
