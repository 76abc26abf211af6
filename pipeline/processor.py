"""The processor: handlers, a queue, and at most one running piece of interruptible work."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Coroutine
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from loguru import logger

from .errors import BargeinError, HandlerError, SessionNotRunning
from .frames import (
    DOWNSTREAM,
    UPSTREAM,
    ErrorFrame,
    Frame,
    FrameDirection,
    InterruptionFrame,
    Level,
    OutputAudioRawFrame,
    SentenceFrame,
    SpeechOnlyInterruptionFrame,
    SystemFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from .work import ROOT, Work, current_work

if TYPE_CHECKING:
    from .link import Link
    from .response import Response
    from .session import Session

H = TypeVar("H", bound=Callable[..., Any])
FrameT = TypeVar("FrameT", bound=Frame)
Call = Callable[[Any], Any]

# What the failure of a handler may be, and is reported as. A KeyboardInterrupt is not the handler's. An
# inline handler may raise CancelledError too (by asking a cancelled future), as nothing can cancel it.
FAILURES = (Exception, asyncio.CancelledError, SystemExit, BaseExceptionGroup)

# What a speech-only interruption drops from the queues of speech stages; text passes by instead.
SPEECH_FRAMES: tuple[type[Frame], ...] = (
    OutputAudioRawFrame,
    SentenceFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)

# What a processor is doing: nothing, an inline handler (or `_resume`) on the stack, or its worker's task.
IDLE, INLINE, WAITING = 0, 1, 2


class Stage(StrEnum):
    """Which interruptions reach a processor: a full one reaches both, a speech-only one SPEECH alone."""

    WORK = "work"
    SPEECH = "speech"


class Entry(NamedTuple):
    """A frame waiting in a processor; `call` is None where the frame only has to keep its place."""

    frame: Frame
    direction: FrameDirection
    work: Work
    call: Call | None
    is_async: bool


def handles(*types: type[Frame]) -> Callable[[H], H]:
    """Make a method the handler of these frame types and their subclasses, in both directions.

    A `def` handler runs inline, at once. An `async def` handler runs in the processor's own task, one
    frame at a time; an interruption cancels it, unless its frame is a system or uninterruptible frame.
    The handler takes the frame and, if it has a second parameter, the direction. The most specific type
    wins. A frame with a handler belongs to the handler: it goes on only if the handler pushes it.
    """

    def mark(method: H) -> H:
        method.__handles__ = types  # type: ignore[attr-defined]
        return method

    return mark


class Processor:
    """Base of all processors. Subclasses need not call `super().__init__()`.

    Attributes:
        name: Unique within a session once attached ("Shout", "Shout#2", ...).
        stage: `Stage.SPEECH` for what makes or plays speech, so that speech-only interruptions stop it.
    """

    stage: Stage = Stage.WORK
    _handler_names: ClassVar[dict[type[Frame], str]] = {}

    name: str = ""
    # Set by the session while it runs, None otherwise.
    _session: Session | None = None
    _down: Link | None = None
    _up: Link | None = None

    # The engine's state while attached; only the event loop's thread touches it.
    _queue: deque[Entry]  # interruptible and uninterruptible frames that wait; system frames never do here
    _kept: int  # how many of `_queue` are uninterruptible
    _busy: int  # unless idle, a handler runs or frames wait: whatever arrives must queue
    _worker: asyncio.Task[None] | None  # runs async handlers; None once abandoned
    _current: Entry | None  # what the worker works on
    _since: float  # loop time at which `_current` began, s
    _system_queue: deque[Entry]
    _system_worker: asyncio.Task[None] | None
    _spawned: set[asyncio.Task[None]]  # by interruptible work
    _handlers: dict[type[Frame], _Handler]
    _found: tuple[dict[type[Frame], tuple[Call | None, bool]], ...]  # by type, upstream and downstream
    _async_system: bool  # whether it has async handlers of system frames

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        names = dict(cls._handler_names)
        mine: dict[type[Frame], str] = {}
        for name, attribute in vars(cls).items():
            if name in ENGINE_NAMES:
                raise HandlerError(f"{cls.__name__}.{name}: the name is the engine's; choose another")
            for frame_type in getattr(attribute, "__handles__", ()):
                if frame_type in mine:
                    raise HandlerError(
                        f"{cls.__name__}: both {mine[frame_type]} and {name} handle "
                        f"{frame_type.__name__}; keep one of them"
                    )
                mine[frame_type] = name
                _check_handler(cls, name, attribute)
        cls._handler_names = names | mine

    # Life cycle, called by the session -------------------------------------------------------------

    async def start(self) -> None:
        """Open what the processor needs. Called once, before any frame, last processor first."""

    async def stop(self) -> None:
        """Close what `start` opened. Called once, after all work has ended, also if `start` failed."""

    # For handlers ----------------------------------------------------------------------------------

    @property
    def session(self) -> Session:
        """The running session.

        Raises:
            SessionNotRunning: The processor is in no running session.
        """
        if self._session is None:
            raise SessionNotRunning(f"{self.name or type(self).__name__} is in no running session")
        return self._session

    @property
    def response(self) -> Response | None:
        """The response the running code works for, if any."""
        return current_work.get().response

    def push(self, frame: Frame, direction: FrameDirection = DOWNSTREAM) -> None:
        """Hand a frame to the next processor that cares for it, at once and without an await.

        Dropped, and counted in `session.stats`, when the calling work was interrupted and the frame is
        an interruptible data or control frame.

        Raises:
            SessionNotRunning: The processor is in no running session.
            WrongThread: In another thread than the session's, which must use `loop.call_soon_threadsafe`.
                Noticed only while the session is observed, as it is in tests.
        """
        link = self._down if direction is DOWNSTREAM else self._up
        if link is None:
            raise SessionNotRunning(f"{self.name or type(self).__name__} is in no running session")
        work = current_work.get()
        # The hot path: a data frame of current work whose route is known.
        if work.epoch is link.session.epoch and frame.interruptible:
            route = link.data_routes.get(frame.__class__)
            if route is not None:
                for processor, call, is_async in route:
                    if is_async or processor._busy:
                        processor._take(Entry(frame, direction, work, call, is_async))
                        return
                    if call is not None:
                        processor._busy = INLINE
                        try:
                            call(frame)
                        except FAILURES as error:
                            processor._fail(error, frame)
                        finally:
                            if processor._queue:
                                processor._resume()
                            else:
                                processor._busy = IDLE
                        return
                link.leave(frame)
                return
        link.send(frame, work, self)

    def broadcast(self, frame_type: Callable[..., FrameT], **fields: Any) -> None:
        """Push one frame of this type upstream and its sibling downstream."""
        up, down = frame_type(**fields), frame_type(**fields)
        up.broadcast_sibling_id, down.broadcast_sibling_id = down.id, up.id
        self.push(up, UPSTREAM)
        self.push(down, DOWNSTREAM)

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str | None = None) -> asyncio.Task[None]:
        """Run a coroutine in a task that the session owns.

        Started by interruptible work, the task is cancelled with it; otherwise it runs until it is done
        or the session ends. An exception in it becomes an ErrorFrame, like one in a handler.
        """
        session = self.session
        task = session.tasks.create(self._guard(coroutine), name or f"{self.name}.task")
        # A task cancelled before its first step never comes to await it.
        task.add_done_callback(lambda _: coroutine.close())
        if current_work.get().epoch is not None:
            self._spawned.add(task)
            task.add_done_callback(self._spawned.discard)
        return task

    def interrupt(self, level: Level = Level.FULL, reason: str = "interrupted") -> None:
        """Interrupt the session; see `Session.interrupt`. The frame travels both ways from here."""
        full = level is Level.FULL
        frame = InterruptionFrame(reason=reason) if full else SpeechOnlyInterruptionFrame(reason=reason)
        Processor.push(self, frame)  # observers see it once, told by the session

    # The engine ------------------------------------------------------------------------------------

    def _label(self) -> str:
        """What it is called in names, logs and errors."""
        return type(self).__name__

    def _check_names(self) -> None:
        """Refuse attributes that were set under names of the engine, before it sets them the first time."""
        # Not by `vars(self)`: on Python 3.11 that makes each later access to an attribute slower.
        taken = [name for name in sorted(ENGINE_STATE) if hasattr(self, name)]
        if taken and "_async_system" not in taken:
            raise HandlerError(f"{self._label()}.{taken[0]}: the name is the engine's; choose another")

    def _attach(self, session: Session, name: str) -> None:
        self.name = name
        self._session = session
        self._queue, self._system_queue = deque(), deque()
        self._kept = 0
        self._busy = IDLE
        self._worker = self._current = self._system_worker = None
        self._since = 0.0
        self._spawned = set()
        self._handlers = {t: _Handler(getattr(self, n)) for t, n in self._handler_names.items()}
        self._found = ({}, {})
        self._async_system = any(
            h.is_async and (issubclass(t, SystemFrame) or t is Frame) for t, h in self._handlers.items()
        )

    def _detach(self) -> None:
        self._session = self._down = self._up = None
        vars(self).pop("push", None)  # set by observers

    def _find_handler(self, frame_type: type[Frame], direction: FrameDirection) -> tuple[Call | None, bool]:
        """The handler for a type and whether it is async; (None, False) where frames only pass."""
        by_type = self._found[direction is DOWNSTREAM]
        found = by_type.get(frame_type)
        if found is None:
            handler = next((self._handlers[t] for t in frame_type.__mro__ if t in self._handlers), None)
            found = by_type[frame_type] = handler.bind(direction) if handler else (None, False)
        return found

    def _take(self, entry: Entry) -> None:
        self._queue.append(entry)
        if not entry.frame.interruptible:
            self._kept += 1
        if not self._busy:
            self._resume()

    def _run_now(self, call: Call, frame: Frame) -> None:
        """Run an inline handler; the processor is idle and the context is that of the frame's work."""
        self._busy = INLINE
        try:
            call(frame)
        except FAILURES as error:
            self._fail(error, frame)
        finally:
            if self._queue:
                self._resume()
            else:
                self._busy = IDLE

    def _resume(self) -> None:
        """Work the queue off inline, up to the first frame that needs the worker."""
        self._busy = INLINE
        while self._queue:
            if self._queue[0].is_async and not self._passes_by(self._queue[0]):
                self._worker = self.session.tasks.create(self._run(), f"{self.name}.work")
                self._busy = WAITING
                return
            self._run_inline(self._pop())
        self._busy = IDLE

    def _pop(self) -> Entry:
        entry = self._queue.popleft()
        if not entry.frame.interruptible:
            self._kept -= 1
        return entry

    def _run_inline(self, entry: Entry) -> None:
        token = current_work.set(entry.work)
        try:
            if self._passes_by(entry):
                link = self._down if entry.direction is DOWNSTREAM else self._up
                assert link is not None
                link.send_unspoken(entry.frame, entry.work)
            elif entry.call is None:
                Processor.push(self, entry.frame, entry.direction)
            else:
                entry.call(entry.frame)
        except FAILURES as error:
            self._fail(error, entry.frame)
        finally:
            current_work.reset(token)

    async def _run(self) -> None:
        """The worker: ends when the queue is empty or another worker has taken over."""
        me = asyncio.current_task()
        loop = asyncio.get_running_loop()
        while self._worker is me and self._queue:
            entry = self._pop()
            if not entry.is_async or self._passes_by(entry):
                self._busy = INLINE
                self._run_inline(entry)
                self._busy = WAITING
                continue
            assert entry.call is not None
            self._current, self._since = entry, loop.time()
            current_work.set(entry.work)
            try:
                await entry.call(entry.frame)
            except asyncio.CancelledError as error:
                if self._worker is not me or not self._survives():
                    raise
                self._fail(error, entry.frame)
            except FAILURES as error:
                if self._worker is me:
                    self._fail(error, entry.frame)
                else:
                    logger.debug("{}: {} in interrupted work", self.name, _describe(error))
            if self._worker is me:
                self._current = None
        if self._worker is me:
            self._worker = None
            self._busy = IDLE

    def _passes_by(self, entry: Entry) -> bool:
        """Whether a speech stage must let the frame by: its response goes on as text only."""
        epoch = entry.work.epoch
        return (
            self.stage is Stage.SPEECH
            and epoch is not None
            and entry.frame.interruptible
            and not isinstance(entry.frame, SystemFrame)
            and epoch.speech != epoch.session.epoch.speech
        )

    def _take_system(self, entry: Entry) -> None:
        self._system_queue.append(entry)
        if self._system_worker is None:
            self._system_worker = self.session.tasks.create(self._run_system(), f"{self.name}.system")

    async def _run_system(self) -> None:
        """Async handlers of system frames, in order; no interruption cancels them."""
        while self._system_queue:
            entry = self._system_queue.popleft()
            if not entry.is_async:
                self._run_inline(entry)
                continue
            assert entry.call is not None
            current_work.set(entry.work)
            try:
                await entry.call(entry.frame)
            except asyncio.CancelledError as error:
                if not self._survives():
                    raise
                self._fail(error, entry.frame)
            except FAILURES as error:
                self._fail(error, entry.frame)
        if self._system_worker is asyncio.current_task():
            self._system_worker = None

    def _survives(self) -> bool:
        """Whether a worker goes on after a CancelledError which no interruption caused.

        While the session runs it came from the handler or what it awaits: an ordinary failure.
        """
        if self._session is None or not self._session.running:
            return False
        task = asyncio.current_task()
        while task is not None and task.uncancel():
            pass
        return True

    def _halt(self, level: Level) -> deque[Entry]:
        """Stop interruptible work and drop interruptible frames. Runs no code but the engine's.

        Returns:
            The queue there was; whoever lets go of it frees what was dropped.
        """
        tasks = self.session.tasks
        for task in self._spawned:
            tasks.abandon(task)
        self._spawned.clear()
        dropped = self._queue
        if dropped:
            if level is Level.SPEECH:
                # Text stays in its place: it passes by this stage once its turn comes.
                self._queue = deque(
                    e for e in dropped if not (e.frame.interruptible and isinstance(e.frame, SPEECH_FRAMES))
                )
            elif self._kept:
                self._queue = deque(e for e in dropped if not e.frame.interruptible)
            else:
                self._queue = deque()
        worker, current = self._worker, self._current
        if worker is not None and current is not None and current.frame.interruptible:
            self._worker = self._current = None
            tasks.abandon(worker)
        return dropped

    def _restart(self) -> None:
        """After a halt: go on with the frames that were kept."""
        if self._worker is None and self._busy is not INLINE:
            if self._queue:
                self._resume()
            else:
                self._busy = IDLE

    def _retire(self) -> None:
        """The session closes: no frame that waits is begun on, whatever running work does."""
        self._queue.clear()
        self._system_queue.clear()
        self._kept = 0
        self._worker = self._system_worker = None
        self._busy = IDLE

    async def _guard(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except FAILURES as error:
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                self._fail(error, None)
            elif isinstance(error, asyncio.CancelledError):
                raise
            else:
                logger.debug("{}: {} in interrupted work", self.name, _describe(error))

    def _fail(self, error: BaseException, frame: Frame | None) -> None:
        if self._session is None:
            logger.debug("{}: {} after the session", self.name, _describe(error))
            return
        where = f" on {frame.name}" if frame is not None else ""
        text = f"{self.name}: {_describe(error)}"
        if isinstance(error, BargeinError):  # it says itself what is wrong and what to do
            logger.error("{}{}", text, where)
        else:
            logger.opt(exception=error).error("{}: failed{}", self.name, where)
        report = ErrorFrame(error=text, exception=error if isinstance(error, Exception) else None)
        report.metadata["processor"] = self.name
        self.push(report, UPSTREAM)

    def __repr__(self) -> str:
        name = self.name or type(self).__name__
        if self._session is None:
            return f"<{name} detached>"
        doing = "idle"
        if self._current is not None:
            seconds = asyncio.get_running_loop().time() - self._since
            doing = f"working on {self._current.frame.name} for {seconds:.3f} s"
        elif self._busy:
            doing = "busy"
        waiting = f", {len(self._queue)} queued ({self._kept} kept)" if self._queue else ""
        system = f", {len(self._system_queue)} system queued" if self._system_queue else ""
        return f"<{name} {doing}{waiting}{system}>"


# What a subclass must not use for itself: attributes that are set while attached, and whatever else there
# is, except what a class overrides.
ENGINE_STATE = Processor.__annotations__.keys() - vars(Processor).keys()
ENGINE_NAMES: frozenset[str] = frozenset(
    ENGINE_STATE | {name for name in vars(Processor) if name.startswith("_") and not name.startswith("__")}
) - {"_label", "_handler_names"}


class _Handler:
    __slots__ = ("is_async", "method", "wants_direction")

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method
        self.is_async, self.wants_direction = _shape(getattr(method, "__func__", method))

    def bind(self, direction: FrameDirection) -> tuple[Call, bool]:
        if not self.wants_direction:
            return self.method, self.is_async
        method = self.method
        return lambda frame: method(frame, direction), self.is_async


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # of its own __str__
        return type(error).__name__


@lru_cache(maxsize=1000)
def _shape(function: Callable[..., Any]) -> tuple[bool, bool]:
    """Whether a handler is async and whether it takes the direction; inspecting it takes 20 us."""
    return inspect.iscoroutinefunction(function), _arity(function) == 3


def _check_handler(cls: type, name: str, method: Callable[..., Any]) -> None:
    if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
        raise HandlerError(f"{cls.__name__}.{name}: a handler pushes frames with self.push, it yields none")
    if _arity(method) not in (2, 3):
        raise HandlerError(
            f"{cls.__name__}.{name}: a handler takes (self, frame) or (self, frame, direction), "
            f"not {_arity(method)} parameters"
        )


def _arity(function: Callable[..., Any]) -> int:
    parameters = inspect.signature(function).parameters.values()
    return sum(p.default is p.empty for p in parameters)


__all__ = ["ROOT", "Entry", "Processor", "Stage", "handles"]
