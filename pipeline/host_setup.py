"""What a hosted Pipecat processor is set up with: tasks, a clock, a worker, all of our session."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextvars import Context
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from loguru import logger
from pipecat.clocks.base_clock import BaseClock
from pipecat.processors.frame_processor import FrameProcessor, FrameProcessorSetup
from pipecat.services.websocket_service import WebsocketService
from pipecat.utils.asyncio.task_manager import BaseTaskManager
from pipecat.utils.frame_queue import FrameQueue
from websockets.protocol import State

from .errors import PipecatUnsupported
from .frames import DOWNSTREAM, Frame, FrameDirection
from .tasks import GRACE_S
from .work import ROOT, current_work

if TYPE_CHECKING:
    from .host import Host

# A stock processor waits no longer for a task it has cancelled, s: one that swallows the cancellation
# must not keep the next turn waiting. Closing a connection takes some 10 ms.
HANDOVER_S = 0.5

# What to install when another version does not do.
TESTED = "1.14.0"

# What hosting relies on beyond Pipecat's documented interface.
METHODS = (
    "_setup_started",
    "_setup_finished",
    "setup",
    "cleanup",
    "link",
    "queue_frame",
    "process_frame",
    "processors",
)
FRAMES = "_FrameProcessor__process_queue"
ATTRIBUTES = ("_enable_direct_mode", FRAMES)
EVENTS = ("on_before_push_frame",)


def check_pipecat(stock: FrameProcessor, *methods: str) -> None:
    """Look whether the installed Pipecat still has what hosting relies on.

    Args:
        stock: The processor to be hosted.
        *methods: What processors of its kind must have too.

    Raises:
        PipecatUnsupported: It has not; names what is missing.
    """
    missing = [name for name in METHODS if not hasattr(FrameProcessor, name)]
    missing += [name for name in (*ATTRIBUTES, *methods) if not hasattr(stock, name)]
    # A handler that was put into a task of its own would come too late to say whose work it is.
    handlers: dict[str, Any] = getattr(stock, "_event_handlers", {})
    missing += [name for name in EVENTS if not getattr(handlers.get(name), "is_sync", False)]
    if missing:
        raise unsupported(f"has no {', '.join(missing)} in {type(stock).__name__}")


def unsupported(what: str) -> PipecatUnsupported:
    """The error that says what is wrong with the installed Pipecat ("has no ..."), and what to do."""
    return PipecatUnsupported(
        f"pipecat-ai {version('pipecat-ai')} {what}, so it cannot be hosted; bargein is tested with "
        f"{TESTED}: pip install pipecat-ai=={TESTED}"
    )


def end_when_cancelled(stock: FrameProcessor) -> None:
    """Let the task that handles frames end with the frame in which it swallowed its cancellation.

    Pipecat's would go on with the next frame, beside the task that has taken over: out of order.
    """
    queue = getattr(stock, FRAMES)
    queue.get = partial(_next_frame, queue)


async def _next_frame(queue: FrameQueue) -> Any:
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
    return await FrameQueue.get(queue)


def connect_one_at_a_time(stock: FrameProcessor) -> None:
    """Let a service make one connection where two of its tasks want one.

    A request that finds the connection broken makes a new one, and so does the task that reads from it. The
    connection of the one that is done first would stay open, and nobody would read or close it.
    """
    if not isinstance(stock, WebsocketService):
        return
    service: Any = stock
    connect, lock = service._connect_websocket, asyncio.Lock()

    async def connect_alone() -> None:
        waited = lock.locked()
        async with lock:
            state = getattr(getattr(service, "_websocket", None), "state", None)
            if not (waited and state is State.OPEN):
                await connect()

    service._connect_websocket = connect_alone


def setup_for(host: Host) -> FrameProcessorSetup:
    """The setup of one hosted processor: Pipecat's default rates (16 kHz in, 24 kHz out), metrics on.

    Raises:
        PipecatUnsupported: The installed Pipecat wants another setup.
    """
    try:
        return FrameProcessorSetup(
            clock=LoopClock(),
            task_manager=SessionTasks(host),
            pipeline_worker=cast(Any, SessionWorker(host)),
            enable_metrics=True,
            enable_usage_metrics=True,
        )
    except TypeError as error:
        raise unsupported(f"wants another setup of {type(host.stock).__name__}: {error}") from error


class LoopClock(BaseClock):
    """The event loop's time, which a test may make virtual."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def get_time(self) -> int:
        """The loop's time in ns."""
        return int(self._loop.time() * 1e9)

    def start(self) -> None:
        """Nothing to do: the loop's time runs."""


class SessionTasks(BaseTaskManager):
    """Tasks of a stock processor as tasks of the session."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()

    def get_event_loop(self) -> asyncio.AbstractEventLoop:
        """The session's loop."""
        return self._loop

    def create_task(
        self, coroutine: Coroutine[Any, Any, Any], name: str, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """Start a task; an exception in it becomes an ErrorFrame."""
        if context is not None:
            return context.run(self._create, coroutine, name)
        if self._host.tasks_inherit:
            return self._create(coroutine, name)
        token = current_work.set(ROOT)
        try:
            return self._create(coroutine, name)
        finally:
            current_work.reset(token)

    async def cancel_task(self, task: asyncio.Task[Any], timeout: float | None = None) -> None:
        """Cancel a task and wait for its end, but never for long."""
        if task is asyncio.current_task():
            logger.warning("{}: does not cancel the task that asks for it", task.get_name())
            return
        session = self._host.session
        session.tasks.abandon(task)
        patience = HANDOVER_S if timeout is None else min(timeout, HANDOVER_S)
        _, running = await asyncio.wait([task], timeout=patience)
        if running:
            logger.warning("{} was cancelled and still runs; another takes over", task.get_name())
            session.tasks.create(self._count_undead(task, GRACE_S - patience), f"{task.get_name()}.grace")

    def current_tasks(self) -> Sequence[asyncio.Task[Any]]:
        """The tasks of this processor that have not ended."""
        return list(self._tasks)

    def _create(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = self._host.session.tasks.create(self._run(coroutine), name)
        task.add_done_callback(lambda _: coroutine.close())  # cancelled before its first step
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await coroutine
        except Exception as error:
            self._host._fail(error, None)

    async def _count_undead(self, task: asyncio.Task[Any], after: float) -> None:
        await asyncio.wait([task], timeout=after)
        if not task.done():
            self._host.session.tasks.count_undead((task,))


class SessionWorker:
    """What of Pipecat's PipelineWorker a processor or a function it calls may ask for.

    Attributes:
        app_resources: None: give handlers what they need when they are made.
        worker_runner: None: there are no other workers.
    """

    app_resources: Any = None
    worker_runner: Any = None

    def __init__(self, host: Host) -> None:
        self._host = host

    async def queue_frame(self, frame: Frame, direction: FrameDirection = DOWNSTREAM) -> None:
        """Push a frame in at the head of the pipeline, or upstream from its tail."""
        self._host.session.push(frame, direction)

    async def queue_frames(self, frames: Sequence[Frame]) -> None:
        """Push frames in at the head of the pipeline."""
        for frame in frames:
            self._host.session.push(frame)

    async def stop_when_done(self) -> None:
        """End the session gracefully."""
        self._host.session.end()

    async def cancel(self, *, reason: str | None = None) -> None:
        """End the session now."""
        self._host.session.cancel(reason)
