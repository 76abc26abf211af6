"""Hosting: a stock Pipecat processor, unmodified, as a processor of ours.

The stock processor keeps its own queues and tasks; the host is its neighbour on both sides. Each frame
given to it carries the work it belongs to, and while the processor handles the frame, so does its task.
What it pushes is therefore known to belong to an interruption epoch, and stale frames are dropped as
everywhere. What comes from tasks of its own (a websocket's receiver) belongs to the last epoch the
processor has acknowledged, by passing that epoch's InterruptionFrame on. An interruption overtakes frames
in Pipecat's queues; those do not reach the processor any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

from loguru import logger
from pipecat.frames.frames import ProposedUserStoppedSpeakingFrame
from pipecat.processors.frame_processor import FrameProcessor

from .errors import ProcessorInUse
from .frames import (
    DOWNSTREAM,
    UPSTREAM,
    ErrorFrame,
    Frame,
    FrameDirection,
    PipecatInterruptionFrame,
    SpeechOnlyInterruptionFrame,
    StartFrame,
    SystemFrame,
    TranscriptionFrame,
)
from .host_setup import check_pipecat, connect_one_at_a_time, end_when_cancelled, setup_for, unsupported
from .interruption import TOLD
from .processor import SPEECH_FRAMES, Processor, Stage, handles
from .tasks import GRACE_S
from .work import ROOT, Work, current_work

# What a speech-only interruption does not send round a speech stage.
NEVER_ROUND: tuple[type[Frame], ...] = (SystemFrame, *SPEECH_FRAMES)

# The frame a task of a stock processor handles, or last handled.
_handled: ContextVar[Frame | None] = ContextVar("bargein_handled", default=None)


class Host(Processor):
    """Runs one stock processor, or a compound of them such as Pipecat's ParallelPipeline.

    Args:
        stock: A new processor; like any, it serves one session.
        stage: `Stage.SPEECH` if a speech-only interruption is to reach it, as its ordinary interruption.

    Raises:
        StartFailed: From the session, when the processor's `setup` raises.
        PipecatUnsupported: The installed Pipecat lacks something hosting relies on.
    """

    # Whether tasks the processor starts while it handles a frame work for that frame. Services start the
    # receivers of their connections like that, which outlive it.
    tasks_inherit = True
    # Whether the processor may let a frame out after it has handled it.
    keeps_frames = False

    def __init__(self, stock: FrameProcessor, stage: Stage = Stage.WORK) -> None:
        self.stock = stock
        self.stage = stage
        self._parts = tree(stock)
        self._doors: tuple[_Door, ...] = ()  # of a compound, while it runs
        self._siblings: set[int] = set()  # interruptions of the processor's own whose twin is to come
        self._interrupts = False  # the interruption being told is the processor's own

    def _label(self) -> str:
        return type(self.stock).__name__

    async def start(self) -> None:
        if "process_frame" in vars(self.stock):
            raise ProcessorInUse(
                f"{self.name} already runs in another session; make a new one for each session"
            )
        check_pipecat(self.stock)
        # Marks frames inside the processor with the work they belong to. Parallel branches share frames.
        self._key = f"bargein.work.{self.name}"
        # Of the last interruption the processor has passed on.
        self._known = Work(self.session.epoch)
        before, after = _Door(self, DOWNSTREAM), _Door(self, UPSTREAM)
        before.link(self.stock)
        self.stock.link(after)
        self._doors = (before, after) if self.stock._enable_direct_mode else ()
        self._head, self._tail = (before, after) if self._doors else (self.stock, self.stock)
        # What a speech-only interruption sends round it, by id; only in a speech stage.
        self._inside: dict[int, tuple[Frame, FrameDirection, Work]] = {}
        for part in self._parts:
            part.process_frame = partial(self._process, part, part.process_frame)  # type: ignore[method-assign]
            if part is not self.stock:
                part.add_event_handler("on_before_push_frame", self._stamp)
        for processor in (*self._parts, *self._doors):
            end_when_cancelled(processor)
            connect_one_at_a_time(processor)
        setup = setup_for(self)
        for processor in (self.stock, *self._doors):
            processor._setup_started()
            await processor.setup(setup)
            processor._setup_finished()

    async def stop(self) -> None:
        for processor in (*self._doors, self.stock):
            cleanup = processor.cleanup()  # type: ignore[no-untyped-call]
            cleaning = self.session.tasks.create(cleanup, f"{self.name}.cleanup")
            await asyncio.wait([cleaning], timeout=GRACE_S)
            if not cleaning.done():
                logger.warning("{}: its cleanup takes longer than {} s and is cancelled", self.name, GRACE_S)
            elif not cleaning.cancelled() and (error := cleaning.exception()) is not None:
                logger.opt(exception=error).error("{}: failed to clean up", self.name)
        for part in self._parts:
            vars(part).pop("process_frame", None)
            part.remove_event_handler("on_before_push_frame", self._stamp)

    # Into the stock processor

    @handles(Frame)
    def take(self, frame: Frame, direction: FrameDirection) -> None:
        work = current_work.get()
        if self.stage is Stage.SPEECH and frame.interruptible and not isinstance(frame, NEVER_ROUND):
            self._inside[frame.id] = (frame, direction, work)
        self._give(frame, direction, work)

    @handles(StartFrame)
    def begin(self, frame: StartFrame, direction: FrameDirection) -> None:
        for door in self._doors:
            _put(door, StartFrame(), door.inward)
        self._give(frame, direction, ROOT)

    @handles(PipecatInterruptionFrame, SpeechOnlyInterruptionFrame)
    def interrupted(
        self, frame: PipecatInterruptionFrame | SpeechOnlyInterruptionFrame, direction: FrameDirection
    ) -> None:
        root = Work(self.session.epoch)
        inside, self._inside = self._inside, {}
        if isinstance(frame, SpeechOnlyInterruptionFrame):
            for kept, way, work in inside.values():
                link = self._down if way is DOWNSTREAM else self._up
                assert link is not None
                link.send_unspoken(kept, work)
        if self._interrupts:  # the processor has seen to itself
            self._acknowledge(root)
        elif isinstance(frame, PipecatInterruptionFrame):
            self._give(frame, direction, root)
        elif self.stage is Stage.SPEECH:
            ordinary = PipecatInterruptionFrame()
            ordinary.metadata[TOLD] = True
            self._give(ordinary, direction, root)
        else:
            self._acknowledge(root)
            self._give(frame, direction, ROOT)

    def _give(self, frame: Frame, direction: FrameDirection, work: Work) -> None:
        frame.metadata[self._key] = work
        _put(self._head if direction is DOWNSTREAM else self._tail, frame, direction)

    async def _process(
        self,
        part: FrameProcessor,
        process: Callable[[Frame, FrameDirection], Awaitable[None]],
        frame: Frame,
        direction: FrameDirection,
    ) -> None:
        """A stock processor's task turns to a frame, and works for what the frame belongs to."""
        work: Work = frame.metadata.get(self._key, ROOT)
        session = self._session
        current = session is not None and work.epoch is session.epoch
        if not current and self._is_stale(frame, work):
            return
        current_work.set(work)
        _handled.set(frame)
        await process(frame, direction)
        if part is not self.stock:
            return
        if self._inside and not self.keeps_frames:
            self._inside.pop(frame.id, None)
        if isinstance(frame, PipecatInterruptionFrame) and not self._doors:
            self._acknowledge(work)

    def _is_stale(self, frame: Frame, work: Work) -> bool:
        epoch, session = work.epoch, self._session
        if epoch is None or session is None or not frame.interruptible or isinstance(frame, SystemFrame):
            return False
        cut = self.stage is Stage.SPEECH and epoch.speech != session.epoch.speech
        return cut or epoch.response != session.epoch.response

    def _acknowledge(self, work: Work | None) -> None:
        """All that the processor pushes on its own from now on belongs to this work."""
        if work is not None and work.epoch is not None:
            self._known = work

    # Out of the stock processor

    def _out(self, frame: Frame, direction: FrameDirection) -> None:
        if self._session is None:  # a task that outlived it
            return
        work: Work | None = frame.metadata.pop(self._key, None)
        new = work is None
        if work is None:
            work = self._work_of(frame)
        if self._inside:
            self._inside.pop(frame.id, None)
        if isinstance(frame, PipecatInterruptionFrame):
            self._interruption_out(frame, direction, work)
            return
        token = current_work.set(work)
        try:
            self._emit(frame, direction, new)
        finally:
            current_work.reset(token)

    def _emit(self, frame: Frame, direction: FrameDirection, new: bool) -> None:
        """Push what the processor has let out; `new` if it was not given to it."""
        if new and isinstance(frame, ErrorFrame):
            frame.metadata.setdefault("processor", self.name)
        elif new and isinstance(frame, TranscriptionFrame | ProposedUserStoppedSpeakingFrame):
            frame.interruptible = False  # what the user said is never dropped, nor that it was all
        self.push(frame, direction)

    def _stamp(self, part: FrameProcessor, frame: Frame) -> Work:
        """Say what a frame belongs to which the stock processor has just made."""
        work: Work | None = frame.metadata.get(self._key)
        if work is None:
            work = frame.metadata[self._key] = self._work_of(frame)
        return work

    def _work_of(self, frame: Frame) -> Work:
        work = current_work.get()
        if work.epoch is not None and work.epoch.session is self._session:
            return work
        return self._known if work.response is None else Work(self._known.epoch, work.response)

    def _interruption_out(
        self, frame: PipecatInterruptionFrame, direction: FrameDirection, work: Work
    ) -> None:
        if TOLD in frame.metadata:
            self._acknowledge(work)
        elif frame.broadcast_sibling_id in self._siblings:
            self._siblings.discard(frame.broadcast_sibling_id)
        else:
            if frame.broadcast_sibling_id is not None:
                self._siblings.add(frame.id)
            self._interrupts = True
            try:
                self.push(frame, direction)
            finally:
                self._interrupts = False
            # The stock task that has interrupted goes on, with the frame that made it do so.
            current_work.set(self._known)
            if (cause := _handled.get()) is not None:
                cause.metadata[self._key] = self._known

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, hosted>"


class _Door(FrameProcessor):
    """What a hosted processor is linked to: what it pushes goes to the host.

    A compound processor handles frames in the task that brings them. For such a one the doors bring
    them, from Pipecat's own queues; `inward` is the direction in which they do.
    """

    def __init__(self, host: Host, inward: FrameDirection) -> None:
        super().__init__(name=f"{host.name}.{inward.name.lower()}")
        self.inward = inward
        self._host = host

    async def queue_frame(
        self, frame: Frame, direction: FrameDirection = DOWNSTREAM, callback: Any = None
    ) -> None:
        if direction is self.inward:
            await super().queue_frame(frame, direction, callback)
        else:
            self._host._out(frame, direction)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if self._host._key in frame.metadata:  # all but the door's own StartFrame
            await self.push_frame(frame, direction)


def _put(processor: FrameProcessor, frame: Frame, direction: FrameDirection) -> None:
    """Queue a frame at once: Pipecat's queues have no limit, so that never waits."""
    coroutine = processor.queue_frame(frame, direction)
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise unsupported(f"made the host wait when {processor.name} queued {frame.name}")


def tree(processor: FrameProcessor) -> list[FrameProcessor]:
    """A stock processor and all those in it."""
    children = getattr(processor, "processors", ())  # if Pipecat has no such any more, `start` tells
    return [processor, *(part for child in children for part in tree(child))]


__all__ = ["Host", "tree"]
