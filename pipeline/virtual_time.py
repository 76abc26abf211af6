"""An event loop whose clock jumps: nobody sleeps, and every run of a test takes the same course.

When nothing is ready, the clock moves to the next timer at once. While something outside the loop may
still wake it (a thread of `run_in_executor` or `to_thread`, a child process, an open socket), the clock
runs at real speed instead, so the outside is never overtaken.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar, TypeVarTuple

from .errors import BargeinError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Where virtual clocks begin, s: as on a real machine, no moment is 0.
EPOCH_S = 1000.0


class Deadlock(BargeinError, RuntimeError):
    """Raised when every task waits, no timer is set, and nothing outside the loop can wake it."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A selector event loop in virtual time; use it as the `loop_factory` of an `asyncio.Runner`.

    A thread the program starts by itself is unknown to the loop, which may overtake it: such a program
    needs real time.

    Raises:
        Deadlock: From whatever runs the loop.
    """

    def __init__(self) -> None:
        self._now = EPOCH_S
        self._outside: set[object] = set()  # what runs in threads; also written by those threads
        self._children: list[asyncio.SubprocessTransport] = []
        self._idle: list[asyncio.Future[None]] = []
        super().__init__(_VirtualSelector(self))

    def time(self) -> float:
        """The virtual time, s."""
        return self._now

    async def settle(self) -> None:
        """Wait until nothing more can happen without time passing or the outside waking the loop."""
        idle = self.create_future()
        self._idle.append(idle)
        await idle

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """As in asyncio. The clock runs at real speed until both the call and its future are done."""
        call = func
        if executor is None or isinstance(executor, ThreadPoolExecutor):
            call = self._noted(func)
        future = super().run_in_executor(executor, call, *args)
        self._outside.add(future)
        future.add_done_callback(self._outside.discard)
        return future

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        """As in asyncio. The clock runs at real speed until the child has exited."""
        return self._noted_child(await super().subprocess_exec(*args, **kwargs))

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> Any:
        """As in asyncio. The clock runs at real speed until the child has exited."""
        return self._noted_child(await super().subprocess_shell(*args, **kwargs))

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """As in asyncio, which does it in a thread of its own."""
        closing = object()
        self._outside.add(closing)
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._outside.discard(closing)

    def _noted(self, func: Callable[[*Ts], T]) -> Callable[[*Ts], T]:
        # The future of a cancelled call is done while its thread goes on.
        def call(*args: *Ts) -> T:
            running = object()
            self._outside.add(running)
            try:
                return func(*args)
            finally:
                self._outside.discard(running)

        return call

    def _noted_child(self, made: tuple[asyncio.SubprocessTransport, Any]) -> Any:
        self._children.append(made[0])
        return made

    def _may_be_woken(self, selector: selectors.BaseSelector) -> bool:
        self._children = [child for child in self._children if child.get_returncode() is None]
        # One file descriptor is the loop's own.
        return bool(self._outside or self._children or len(selector.get_map()) > 1)

    def _wait(self, selector: selectors.BaseSelector, timeout: float | None) -> _Events:
        events = selector.select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if self._idle:
            for idle in self._idle:
                if not idle.done():
                    idle.set_result(None)
            self._idle.clear()
        elif self._may_be_woken(selector):
            started = time.monotonic()
            events = selector.select(timeout)
            elapsed = time.monotonic() - started
            self._now += elapsed if timeout is None else min(elapsed, timeout)
        elif timeout is not None:
            self._now += timeout
        else:
            raise Deadlock(
                "nothing is ready, no timer is set, nothing outside can wake the loop; these wait for ever:\n"
                + "\n".join(sorted(map(describe_task, asyncio.all_tasks(self))))
                + "\nGive the wait a timeout, or mark the test real_time if a thread of its own ends it."
            )
        return events


_Events = list[tuple[selectors.SelectorKey, int]]


class _VirtualSelector(selectors.BaseSelector):
    """Asks the loop how to wait."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._selector = selectors.DefaultSelector()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._selector.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._selector.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._selector.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> _Events:
        return self._loop._wait(self._selector, timeout)

    def close(self) -> None:
        self._selector.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._selector.get_map()


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a new virtual-time loop; the counterpart of `asyncio.run`.

    Raises:
        Deadlock: It waits for something that cannot happen.
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


async def settle() -> None:
    """Wait until nothing more can happen at this time.

    Raises:
        RuntimeError: The running loop is in real time, where that moment cannot be known.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualTimeLoop):
        raise RuntimeError("settle() needs virtual time: mark the test with pytest.mark.virtual_time")
    await loop.settle()


def describe_task(task: asyncio.Task[Any]) -> str:
    """One line: the task's name and where it waits, in the last function that is not asyncio's own."""
    coroutine: Any = task.get_coro()
    where = f"in {coroutine!r}"
    found = False
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        own = not frame.f_globals.get("__name__", "").startswith("asyncio.")
        if own or not found:
            where = f"in {coroutine.__qualname__} at {frame.f_code.co_filename}:{frame.f_lineno}"
            found = found or own
        coroutine = coroutine.cr_await
    return f"  task {task.get_name()!r} {where}"


__all__ = ["Deadlock", "VirtualTimeLoop", "describe_task", "run_in_virtual_time", "settle"]
