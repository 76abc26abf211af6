"""The test kit: drive processors with frames, interrupt them anywhere, and assert what comes out.

```python
@pytest.mark.virtual_time
async def test_an_interrupted_answer_is_cut() -> None:
    async with PipelineTest(Answerer()) as test:
        test.send(TranscriptionFrame("hello", "user", "0"))
        await test.expect(LLMTextFrame, text=like("Well"))
        test.interrupt()
        await test.expect(SpeechInterruptedFrame, level=Level.FULL)
        await test.expect_none(LLMTextFrame, within=10)
```
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar, overload

from .frames import (
    DOWNSTREAM,
    UPSTREAM,
    EndFrame,
    ErrorFrame,
    Frame,
    FrameDirection,
    Level,
    Reason,
    StartFrame,
    SystemFrame,
)
from .leaks import Leaked, leak_check
from .matchers import any_, describe_frame, like, mismatch, regex
from .pipeline import Part, Pipeline
from .processor import Processor, handles
from .session import Observer, Session
from .stats import SessionStats
from .virtual_time import Deadlock, VirtualTimeLoop, run_in_virtual_time, settle

FrameT = TypeVar("FrameT", bound=Frame)

# How long `expect` waits unless told otherwise, s. In virtual time a long wait costs nothing.
PATIENCE_S = 60.0


class _Probe(Processor):
    """One end of the pipeline: keeps what leaves there and lets everything pass."""

    def __init__(self, outward: FrameDirection) -> None:
        self.outward = outward
        self.frames: list[Frame] = []
        self.taken = 0  # how many of `frames` the test has done with
        self.arrived = asyncio.Event()

    @handles(Frame)
    def keep(self, frame: Frame, direction: FrameDirection) -> None:
        if direction is self.outward:
            self.frames.append(frame)
            self.arrived.set()
        self.push(frame, direction)


class PipelineTest:
    """Runs processors in a session between two probes; `async with PipelineTest(a, b) as test:`.

    In each direction the test has a place in what left the pipeline: `expect` looks behind it and moves
    it behind the frame it took, every interruption made by the test moves it to the end.

    Leaving the block ends the session at once. It fails if a handler raised and the test did not expect
    its ErrorFrame.

    Attributes:
        session: The session, running inside the block.
        pushes: How many frames the processors under test have pushed.
    """

    def __init__(self, *parts: Part) -> None:
        self._probes = {UPSTREAM: _Probe(UPSTREAM), DOWNSTREAM: _Probe(DOWNSTREAM)}
        self.session = Session(Pipeline([self._probes[UPSTREAM], *parts, self._probes[DOWNSTREAM]]))
        self.pushes = 0
        self._expected_errors: list[Frame] = []
        self._at_push: list[Callable[[Frame], None]] = []

    async def __aenter__(self) -> PipelineTest:
        await self.session.__aenter__()
        self.session.observe(self._pushed)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.__aexit__(kind, error, trace)
        if kind is not None:
            return
        for frame in self.received(ErrorFrame, UPSTREAM):
            if not any(frame is expected for expected in self._expected_errors):
                raise AssertionError(
                    f"{frame.error}; if the test wants this, take it: expect(ErrorFrame, UPSTREAM)"
                ) from frame.exception

    @property
    def stats(self) -> SessionStats:
        """The session's counts."""
        return self.session.stats

    # Frames

    def send(self, frame: Frame, direction: FrameDirection = DOWNSTREAM) -> None:
        """Push a frame in: downstream before the first processor, upstream behind the last."""
        self.session.push(frame, direction)

    @overload
    def received(self, *, direction: FrameDirection = DOWNSTREAM) -> list[Frame]: ...

    @overload
    def received(self, frame_type: type[FrameT], direction: FrameDirection = DOWNSTREAM) -> list[FrameT]: ...

    def received(
        self, frame_type: type[Frame] = Frame, direction: FrameDirection = DOWNSTREAM
    ) -> Sequence[Frame]:
        """Every frame of a type that has left in a direction since the start, in order."""
        return [frame for frame in self._probes[direction].frames if isinstance(frame, frame_type)]

    async def expect(
        self,
        frame_type: type[FrameT],
        direction: FrameDirection = DOWNSTREAM,
        *,
        where: Callable[[FrameT], bool] | None = None,
        within: float = PATIENCE_S,
        **values: Any,
    ) -> FrameT:
        """Wait for the next frame of a type, which must match, and move this direction's place behind it.

        Args:
            frame_type: Frames of other types before it are passed over.
            direction: Where it leaves the pipeline.
            where: A condition it must meet.
            within: Seconds to wait.
            **values: Fields it must have: values, or matchers like `like("yes")`.

        Raises:
            AssertionError: The next frame of the type does not match, or none came in time.
        """
        probe = self._probes[direction]
        try:
            async with asyncio.timeout(within):
                while (index := self._find(frame_type, probe)) is None:
                    probe.arrived.clear()
                    await probe.arrived.wait()
        except TimeoutError:
            problem = f"no {frame_type.__name__} left {_name(direction)} within {within} s"
            raise AssertionError(self._report(problem, probe)) from None
        frame = probe.frames[index]
        assert isinstance(frame, frame_type)
        if (found := mismatch(frame, values, where)) is not None:
            problem = f"the next {frame_type.__name__} {_name(direction)} has {found}"
            raise AssertionError(self._report(problem, probe))
        probe.taken = index + 1
        if isinstance(frame, ErrorFrame):
            self._expected_errors.append(frame)
        return frame

    async def expect_none(
        self,
        frame_type: type[FrameT],
        direction: FrameDirection = DOWNSTREAM,
        *,
        where: Callable[[FrameT], bool] | None = None,
        within: float,
        **values: Any,
    ) -> None:
        """Let `within` seconds pass; no matching frame may lie behind this direction's place by then.

        Takes the arguments of `expect`.

        Raises:
            AssertionError: There is one.
        """
        await self.advance(within)
        probe = self._probes[direction]
        for frame in probe.frames[probe.taken :]:
            if isinstance(frame, frame_type) and mismatch(frame, values, where) is None:
                problem = f"a {frame_type.__name__} left {_name(direction)}: {describe_frame(frame)}"
                raise AssertionError(self._report(problem, probe))

    def skip(self) -> None:
        """Be done with everything received so far, in both directions."""
        for probe in self._probes.values():
            probe.taken = len(probe.frames)

    async def advance(self, seconds: float) -> None:
        """Let time pass; in virtual time at once, and until nothing more can happen at that moment."""
        await asyncio.sleep(seconds)
        if isinstance(asyncio.get_running_loop(), VirtualTimeLoop):
            await settle()

    # Interruptions

    def interrupt(self, reason: str = Reason.INTERRUPTED) -> None:
        """Interrupt everything, now."""
        self.skip()
        self.session.interrupt(reason)

    def interrupt_speech(self, reason: str = Reason.INTERRUPTED) -> None:
        """Interrupt the bot's voice, now."""
        self.skip()
        self.session.interrupt_speech(reason)

    def interrupt_at(
        self, seconds: float, reason: str = Reason.INTERRUPTED, *, level: Level = Level.FULL
    ) -> None:
        """Interrupt when this much time has passed."""
        asyncio.get_running_loop().call_later(seconds, self._interrupt, level, reason)

    def interrupt_at_push(
        self,
        count: int,
        reason: str = Reason.INTERRUPTED,
        *,
        level: Level = Level.FULL,
        of: type[Frame] = Frame,
    ) -> None:
        """Interrupt inside the count-th push, from now, of a frame of this type by a processor under test.

        That push has not happened yet: its frame is stale unless it survives interruptions. To interrupt
        at every point there is, count `pushes` once and run the test for 1, 2, ... up to that number.
        """
        left = count

        def pushed(frame: Frame) -> None:
            nonlocal left
            if isinstance(frame, of):
                left -= 1
                if left == 0:
                    self._at_push.remove(pushed)
                    self._interrupt(level, reason)

        self._at_push.append(pushed)

    def _interrupt(self, level: Level, reason: str) -> None:
        if level is Level.FULL:
            self.interrupt(reason)
        else:
            self.interrupt_speech(reason)

    def _pushed(self, frame: Frame, direction: FrameDirection, processor: Processor) -> None:
        if isinstance(processor, _Probe):
            return
        self.pushes += 1
        for react in list(self._at_push):
            react(frame)

    def _find(self, frame_type: type[Frame], probe: _Probe) -> int | None:
        for index in range(probe.taken, len(probe.frames)):
            if isinstance(probe.frames[index], frame_type):
                return index
        return None

    def _report(self, problem: str, probe: _Probe) -> str:
        lines = [problem, f"received {_name(probe.outward)}:"]
        for index, frame in enumerate(probe.frames):
            lines.append(f"  {'(done) ' if index < probe.taken else ''}{describe_frame(frame)}")
        if not probe.frames:
            lines.append("  nothing")
        return "\n".join([*lines, repr(self.session.pipeline)])


def _name(direction: FrameDirection) -> str:
    return "downstream" if direction is DOWNSTREAM else "upstream"


# Like Pipecat's ------------------------------------------------------------------------------------


@dataclass
class SleepFrame(SystemFrame):
    """Among the frames of `run_test`: wait before the next one is sent.

    Parameters:
        sleep: Seconds.
    """

    sleep: float = 0.2


async def run_test(
    processor: Part,
    *,
    frames_to_send: Sequence[Frame],
    expected_down_frames: Sequence[type[Frame]] | None = None,
    expected_up_frames: Sequence[type[Frame]] | None = None,
    frames_to_send_direction: FrameDirection = DOWNSTREAM,
    ignore_start: bool = True,
    observers: Sequence[Observer] | None = None,
    send_end_frame: bool = True,
    enable_rtvi: bool = False,
    pipeline_params: object = None,
    start_timeout: float = 1.0,
) -> tuple[Sequence[Frame], Sequence[Frame]]:
    """Send frames through a processor and compare the types of what comes out, as Pipecat's `run_test`.

    An interruption among the frames is followed by its `SpeechInterruptedFrame`, which is received too.

    Args:
        processor: A processor, Pipeline or Parallel.
        frames_to_send: A `SleepFrame` among them waits.
        expected_down_frames: The types that must leave downstream, in order; not checked if None.
        expected_up_frames: The types that must leave upstream, in order; not checked if None.
        frames_to_send_direction: Upstream frames are sent from the end of the pipeline.
        ignore_start: Leave the StartFrame out.
        observers: Added to the session.
        send_end_frame: End the session after the last frame, and leave the EndFrame out. Otherwise one of
            the frames must end it.
        enable_rtvi: No effect: a session sends no RTVI messages.
        pipeline_params: No effect: processors take what they need when they are made.
        start_timeout: Seconds all processors may take to start.

    Returns:
        The frames that left downstream and those that left upstream.

    Raises:
        AssertionError: Other frames came than expected.
        TimeoutError: The processors did not start in time.
    """
    probes = up, down = _Probe(UPSTREAM), _Probe(DOWNSTREAM)
    session = Session(Pipeline([up, processor, down]))
    async with asyncio.timeout(start_timeout) as starting, session:
        starting.reschedule(None)
        for observer in observers or ():
            session.observe(observer)
        for frame in frames_to_send:
            if isinstance(frame, SleepFrame):
                await asyncio.sleep(frame.sleep)
            else:
                session.push(frame, frames_to_send_direction)
        if send_end_frame:
            session.end()
        await session.finished()
    left_out = ((StartFrame,) if ignore_start else ()) + ((EndFrame,) if send_end_frame else ())
    for probe, expected in zip(probes, (expected_up_frames, expected_down_frames), strict=True):
        probe.frames = [frame for frame in probe.frames if not isinstance(frame, left_out)]
        if expected is not None:
            _compare(probe, expected)
    return down.frames, up.frames


def _compare(probe: _Probe, expected: Sequence[type[Frame]]) -> None:
    if len(probe.frames) == len(expected) and all(map(isinstance, probe.frames, expected)):
        return
    lines = [f"{_name(probe.outward)} came", *(f"  {describe_frame(frame)}" for frame in probe.frames)]
    raise AssertionError("\n".join([*lines, "instead of", *(f"  {t.__name__}" for t in expected)]))


__all__ = [
    "Deadlock",
    "Leaked",
    "PipelineTest",
    "SleepFrame",
    "VirtualTimeLoop",
    "any_",
    "describe_frame",
    "leak_check",
    "like",
    "regex",
    "run_in_virtual_time",
    "run_test",
    "settle",
]
