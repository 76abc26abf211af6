"""Random pipelines, random schedules of frames and interruptions, and what must hold for all of them.

`make_plan` draws one, `run_plan` runs it in virtual time beside an oracle: plain counters of the
interruptions made, and on every frame the count at the time of its cause. The oracle knows nothing of
epochs or queues. Shared by the property tests and by `benchmarks/schedules.py`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

from pipecat.frames.frames import InterruptionFrame as PipecatInterruptionFrame

from bargein.pipeline import (
    DOWNSTREAM,
    UPSTREAM,
    InterruptionFrame,
    Level,
    Parallel,
    Pipeline,
    Processor,
    Session,
    SpeechInterruptedFrame,
    SpeechOnlyInterruptionFrame,
    Stage,
    handles,
)
from bargein.pipeline.frames import (
    ControlFrame,
    DataFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    FrameDirection,
    SystemFrame,
    TTSSpeakFrame,
)
from bargein.pipeline.tasks import GRACE_S

# How far a plan may grow: frames made by handlers, and interruptions made by handlers.
CHILDREN = 25
INNER_INTERRUPTIONS = 5

# Virtual seconds in which all that a plan sets going has ended by itself.
LONG = 60.0


# Plans ---------------------------------------------------------------------------------------------


@dataclass
class Step:
    """What a handler does with one frame, beside passing it on.

    Parameters:
        delay: Seconds an async handler takes; 0 gives way to the loop once.
        deaf: Seconds for which it goes on after its first cancellation.
        make: Children it makes, in order; see `Scripted._make`.
        fail: Raise "before" or "after" the frame is passed on.
        interrupt: Interrupt "before" or "after" the frame is passed on.
        level: The level of that interruption.
        way: How it interrupts; see `Run.interrupt_from`.
    """

    delay: float = 0
    deaf: float = 0
    make: tuple[str, ...] = ()
    fail: str = ""
    interrupt: str = ""
    level: Level = Level.FULL
    way: int = 0


@dataclass
class Spec:
    """One processor.

    Parameters:
        handling: For each type of frame how it is handled: "inline", "async", or "" where it passes.
        told: How news of interruptions is handled.
        speech: Whether it is a speech stage.
        steps: What its handlers do, one for each frame, in turn.
    """

    handling: tuple[str, ...] = ("",) * 6
    told: str = ""
    speech: bool = False
    steps: tuple[Step, ...] = (Step(),)


@dataclass
class Branches:
    """A Parallel of rows."""

    rows: tuple[Row, ...]


Row = tuple["Spec | Branches", ...]


@dataclass
class Event:
    """After `delay` seconds: a frame comes in from outside, or an interruption."""

    delay: float
    kind: str
    up: bool = False


@dataclass
class Plan:
    """A pipeline and what happens to it."""

    row: Row
    events: tuple[Event, ...]


def make_plan(random: Random, *, threads: bool = False) -> Plan:
    """Draw a plan; with `threads`, some work goes through real threads."""
    row = _row(random, depth=0, threads=threads)
    events = tuple(_event(random) for _ in range(random.randint(1, 12)))
    return Plan(row, events)


def _row(random: Random, depth: int, *, threads: bool) -> Row:
    parts: list[Spec | Branches] = []
    for _ in range(random.randint(1, 4 - depth)):
        if depth < 2 and random.random() < 0.12:
            count = random.randint(1, 3)
            parts.append(Branches(tuple(_row(random, depth + 1, threads=threads) for _ in range(count))))
        else:
            parts.append(_spec(random, threads=threads))
    return tuple(parts)


def _spec(random: Random, *, threads: bool) -> Spec:
    handling = ("", "inline", "async")
    return Spec(
        handling=tuple(random.choice(handling) for _ in KINDS),
        told=random.choice(handling),
        speech=random.random() < 0.35,
        steps=tuple(_step(random, threads=threads) for _ in range(random.randint(1, 3))),
    )


def _step(random: Random, *, threads: bool) -> Step:
    made = ["before", "after", "kept", "system", "up", "spawn", "task", "call"] + ["thread"] * threads
    chance = random.random()
    return Step(
        delay=random.choice((0, 0.05, 0.3, 1.1)),
        deaf=random.choice((0, 0, 0, 0.7, 3.3)),
        make=tuple(random.choice(made) for _ in range(random.choice((0, 0, 1, 2)))),
        fail=random.choice(("before", "after")) if chance < 0.12 else "",
        interrupt=random.choice(("before", "after")) if 0.12 <= chance < 0.24 else "",
        level=random.choice(tuple(Level)),
        way=random.randint(0, 4),
    )


def _event(random: Random) -> Event:
    kinds = ("data", "data", *KINDS, "full", "full", "speech", "speech")
    return Event(random.choice((0, 0, 0.02, 0.2, 0.8)), random.choice(kinds), random.random() < 0.2)


# Frames that carry their lineage -------------------------------------------------------------------


@dataclass(slots=True)
class Lineage:
    """What the oracle knows of a frame.

    Parameters:
        fulls: Full interruptions there had been at its cause; None if it is current whenever it is.
        all: Interruptions of both levels at its cause; None likewise.
        place: Its place in the order of all frames going its way; None if it may come at any time.
    """

    fulls: int | None
    all: int | None
    place: tuple[int, ...] | None = None


@dataclass
class Data(DataFrame):
    lineage: Lineage = field(default_factory=lambda: Lineage(None, None))


@dataclass
class Control(ControlFrame):
    lineage: Lineage = field(default_factory=lambda: Lineage(None, None))


@dataclass
class Spoken(TTSSpeakFrame):
    lineage: Lineage = field(default_factory=lambda: Lineage(None, None))


@dataclass
class Kept(DataFrame):
    lineage: Lineage = field(default_factory=lambda: Lineage(None, None))
    interruptible: bool = False


@dataclass
class Sys(SystemFrame):
    lineage: Lineage = field(default_factory=lambda: Lineage(None, None))


@dataclass
class Signal(SystemFrame):
    lineage: Lineage = field(default_factory=lambda: Lineage(None, None))


Marked = Data | Control | Spoken | Kept | Sys | Signal
TYPES = (Data, Control, Spoken, Kept, Sys, Signal)
KINDS: dict[str, Callable[[Lineage], Marked]] = {
    "data": lambda lineage: Data(lineage=lineage),
    "control": lambda lineage: Control(lineage=lineage),
    "spoken": lambda lineage: Spoken("word", lineage=lineage),
    "kept": lambda lineage: Kept(lineage=lineage),
    "system": lambda lineage: Sys(lineage=lineage),
    "signal": lambda lineage: Signal(lineage=lineage),
}


def _droppable(frame: Frame) -> bool:
    return frame.interruptible and not isinstance(frame, SystemFrame)


# The oracle ----------------------------------------------------------------------------------------


class Run:
    """One run of a plan: counts what was done, and notes everything that must not happen."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.fulls = 0
        self.all = 0
        self.children = CHILDREN
        self.inner_interruptions = INNER_INTERRUPTIONS
        self.linear = True
        self.ending = False
        self.born: list[Marked] = []  # whatever was rightly pushed
        self.stale: set[int] = set()  # ids of frames pushed by stale work only: nobody may see them
        self.lost: set[int] = set()  # ids of frames whose handler failed or was rightly cut
        self.stale_pushes = 0
        self.failures = 0  # that must be reported
        self.undead = 0
        self.left: dict[FrameDirection, list[Frame]] = {DOWNSTREAM: [], UPSTREAM: []}
        self.tellings: list[tuple[Processor, list[Frame]]] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def interrupt(self, level: Level, act: Callable[[], object]) -> None:
        """Count an interruption, then make it."""
        self.fulls += level is Level.FULL
        self.all += 1
        act()

    def interrupt_from(self, processor: Processor, level: Level, way: int) -> None:
        """Interrupt from inside a handler, in one of the ways there are."""
        if not self.inner_interruptions or self.ending:
            return
        self.inner_interruptions -= 1
        session, full = processor.session, level is Level.FULL
        direction = UPSTREAM if way % 2 else DOWNSTREAM
        if way == 0:
            self.interrupt(level, session.interrupt if full else session.interrupt_speech)
        elif way == 1:
            self.interrupt(level, lambda: processor.interrupt(level))
        else:
            kind: type[Frame] = SpeechOnlyInterruptionFrame
            if full:
                kind = InterruptionFrame if way < 4 else PipecatInterruptionFrame
            self.interrupt(level, lambda: processor.push(kind(), direction))

    def is_cut(self, lineage: Lineage, *, speech: bool) -> bool:
        """Whether work of this lineage has been interrupted, in a speech stage or elsewhere."""
        if lineage.fulls is None:
            return False
        return lineage.fulls != self.fulls or (speech and lineage.all != self.all)

    def descend(self, parent: Frame | None) -> Lineage:
        """The lineage of what is made now on behalf of a frame, or of nobody's."""
        lineage = getattr(parent, "lineage", None)
        kept = parent is not None and not isinstance(parent, SystemFrame) and not parent.interruptible
        if lineage is None or kept or lineage.fulls is None:
            return Lineage(self.fulls, self.all)
        return Lineage(lineage.fulls, lineage.all)

    def sees(self, frame: Frame, where: str, *, speech: bool = False) -> None:
        """A handler or the world outside gets a frame."""
        lineage = getattr(frame, "lineage", None)
        if frame.id in self.stale:
            self.problems.append(f"{where} sees {frame.name}, which stale work pushed")
        elif lineage is not None and _droppable(frame) and self.is_cut(lineage, speech=speech):
            self.problems.append(f"{where} sees stale {frame.name}")

    def check(self, session: Session) -> None:
        """What must hold when all is over."""
        left = {frame.id for frames in self.left.values() for frame in frames}
        for frame in self.born:
            now_stale = _droppable(frame) and frame.lineage.fulls != self.fulls
            skipped = isinstance(frame, Spoken) and frame.lineage.all != self.all
            if frame.id not in left and frame.id not in self.lost and not now_stale and not skipped:
                self.problems.append(f"{frame.name} is lost: {frame.lineage}")
        for direction, frames in self.left.items():
            for frame_id, count in Counter(frame.id for frame in frames).items():
                if count > 1:
                    self.problems.append(f"frame {frame_id} left {count} times going {direction.name}")
            self._check_order(direction, [f for f in frames if not isinstance(f, SystemFrame)], "data")
            self._check_order(direction, [f for f in frames if isinstance(f, SystemFrame)], "system")
        for processor, told in self.tellings:
            reports = sum(isinstance(frame, SpeechInterruptedFrame) for frame in told)
            if (reports, len(told), len({id(frame) for frame in told})) != (self.all, *[2 * self.all] * 2):
                names = [frame.name for frame in told]
                self.problems.append(f"{processor.name} was told {names} of {self.all} interruptions")
        errors = sum(isinstance(frame, ErrorFrame) for frame in self.left[UPSTREAM])
        counts = {
            "interruptions": (session.stats.interruptions, self.all),
            "errors": (errors, self.failures),
            "undead": (session.stats.undead, self.undead),
        }
        if self.linear:
            counts["stale pushes"] = (session.stats.stale_dropped, self.stale_pushes)
        for what, (counted, expected) in counts.items():
            if counted != expected:
                self.problems.append(f"{counted} {what}, not {expected}")

    def _check_order(self, direction: FrameDirection, frames: list[Frame], what: str) -> None:
        # A frame that one branch lost may come late from a slower one.
        if not self.linear and (self.lost or self.fulls != self.all):
            return
        places = [
            lineage.place
            for frame in frames
            if (lineage := getattr(frame, "lineage", None)) is not None and lineage.place is not None
        ]
        # Branches order nothing among themselves but the frames that came in from outside.
        if not self.linear:
            places = [place for place in places if len(place) == 2]
        if places != sorted(places):
            self.problems.append(f"{what} frames left {direction.name} out of order: {places}")


# Processors that follow a script -------------------------------------------------------------------


class Probe(Processor):
    """One end of the pipeline: what leaves there has reached the world outside."""

    def __init__(self, run: Run, outward: FrameDirection) -> None:
        self.run = run
        self.outward = outward
        self.told: list[Frame] = []
        run.tellings.append((self, self.told))

    @handles(Frame)
    def leaves(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, PipecatInterruptionFrame | SpeechOnlyInterruptionFrame | SpeechInterruptedFrame):
            self.told.append(frame)
        elif direction is self.outward:
            self.run.sees(frame, f"the world {direction.name}")
            self.run.left[direction].append(frame)
        self.push(frame, direction)


class Scripted(Processor):
    """Follows its steps, one for each frame, from the first again after the last."""

    def __init__(self, run: Run, spec: Spec) -> None:
        self.run = run
        self.steps = spec.steps
        self.count = 0
        # Handlers by this processor are placed between its neighbours' in either direction.
        self.depth = {DOWNSTREAM: 0, UPSTREAM: 0}
        self.told_of: list[Frame] = []
        if spec.told:
            run.tellings.append((self, self.told_of))

    @property
    def is_speech(self) -> bool:
        return self.stage is Stage.SPEECH

    def begin(self, frame: Marked) -> Step:
        self.run.sees(frame, self.name, speech=self.is_speech)
        self.count += 1
        return self.steps[self.count % len(self.steps)]

    def inline(self, frame: Marked, direction: FrameDirection) -> None:
        self.act(self.begin(frame), frame, direction, is_async=False)

    async def delayed(self, frame: Marked, direction: FrameDirection) -> None:
        step = self.begin(frame)
        await self._work(step, frame)
        self.act(step, frame, direction, is_async=True)

    async def _work(self, step: Step, frame: Marked) -> None:
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(step.delay)
            self._not_cut(frame)
        except asyncio.CancelledError:
            self._rightly_cut(frame)
            if not step.deaf:
                raise
            cancelled = loop.time()
            while (left := cancelled + step.deaf - loop.time()) > 0:
                try:
                    await asyncio.sleep(left)
                except asyncio.CancelledError:
                    continue
            self.run.undead += step.deaf > GRACE_S

    def _not_cut(self, frame: Marked) -> None:
        if _droppable(frame) and self.run.is_cut(frame.lineage, speech=self.is_speech):
            self.run.problems.append(f"{self.name}'s work for {frame.name} was not cancelled")

    def _rightly_cut(self, frame: Marked) -> None:
        if not _droppable(frame) or not self.run.is_cut(frame.lineage, speech=self.is_speech):
            self.run.problems.append(f"{self.name}'s work on {frame.name} was cancelled for nothing")
        self.run.lost.add(frame.id)

    def act(self, step: Step, frame: Marked, direction: FrameDirection, *, is_async: bool) -> None:
        if step.interrupt == "before":
            self.run.interrupt_from(self, step.level, step.way)
        for index, kind in enumerate(step.make):
            if kind != "after":
                self._make(kind, index, frame, direction)
        if step.fail == "before":
            self.run.lost.add(frame.id)
            self._fail_now(frame, is_async=is_async)
        self.pass_on(frame, frame, direction)
        for index, kind in enumerate(step.make):
            if kind == "after":
                self._make(kind, index, frame, direction)
        if step.interrupt == "after":
            self.run.interrupt_from(self, step.level, step.way)
        if step.fail == "after":
            self._fail_now(frame, is_async=is_async)

    def _fail_now(self, frame: Marked, *, is_async: bool) -> None:
        # Nobody asks for the failures of work that is no longer wanted.
        cut = _droppable(frame) and self.run.is_cut(frame.lineage, speech=self.is_speech)
        self.run.failures += not (is_async and cut)
        raise ValueError(f"{self.name} fails by plan")

    def pass_on(self, frame: Marked, parent: Frame | None, direction: FrameDirection) -> None:
        """Push a frame, noting whether that is right."""
        if _droppable(frame) and self.run.is_cut(frame.lineage, speech=self.is_speech):
            self.run.stale_pushes += 1
            if frame is parent:
                self.run.lost.add(frame.id)
            else:
                self.run.stale.add(frame.id)
        elif frame is not parent:
            self.run.born.append(frame)
        self.push(frame, direction)

    def _make(self, kind: str, index: int, parent: Marked, direction: FrameDirection) -> None:
        if not self.run.children:
            return
        self.run.children -= 1
        place = self._place(kind, index, parent, direction)
        if kind in ("before", "after"):
            lineage = self.run.descend(parent)
            lineage.place = place
            self.pass_on(Data(lineage=lineage), parent, direction)
        elif kind == "kept":
            self.pass_on(Kept(lineage=Lineage(None, None, place)), parent, direction)
        elif kind == "system":
            lineage = self.run.descend(parent) if self._is_bound(parent) else Lineage(None, None)
            self.pass_on(Sys(lineage=lineage), parent, direction)
        elif kind == "up":
            self.pass_on(Data(self.run.descend(parent)), parent, UPSTREAM)
        elif kind == "spawn":
            already_cut = _droppable(parent) and self.run.is_cut(parent.lineage, speech=self.is_speech)
            self.spawn(self._later(parent) if already_cut else self._spawned_work(parent))
        elif kind == "task":
            task = asyncio.create_task(self._later(parent))
            self.run.tasks.add(task)
            task.add_done_callback(self.run.tasks.discard)
        elif kind == "call":
            asyncio.get_running_loop().call_later(0.4, self._push_late, parent)
        else:
            task = asyncio.create_task(self._through_thread(parent))
            self.run.tasks.add(task)
            task.add_done_callback(self.run.tasks.discard)

    def _is_bound(self, parent: Marked) -> bool:
        """Whether work on this frame can be interrupted."""
        return parent.lineage.fulls is not None and (isinstance(parent, SystemFrame) or parent.interruptible)

    def _place(
        self, kind: str, index: int, parent: Marked, direction: FrameDirection
    ) -> tuple[int, ...] | None:
        """The place between the parent and its neighbours, if that is where it must be."""
        place, depth = parent.lineage.place, self.depth[direction]
        cut = _droppable(parent) and self.run.is_cut(parent.lineage, speech=self.is_speech)
        if place is None or cut or isinstance(parent, SystemFrame):
            return None
        side = (1, -depth, index) if kind == "after" else (-1, depth, index)
        return (*place[:-1], *side, 0)

    async def _spawned_work(self, parent: Marked) -> None:
        await asyncio.sleep(0.4)
        self._not_cut(parent)
        self._push_late(parent)

    async def _later(self, parent: Marked) -> None:
        await asyncio.sleep(0.4)
        self._push_late(parent)

    async def _through_thread(self, parent: Marked) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(lambda: loop.call_soon_threadsafe(self._push_late, parent))

    def _push_late(self, parent: Marked) -> None:
        self.pass_on(Data(self.run.descend(parent)), parent, DOWNSTREAM)

    def told(self, frame: Frame, direction: FrameDirection) -> None:
        self.told_of.append(frame)
        if isinstance(frame, PipecatInterruptionFrame) and self.run.children:
            self.run.children -= 1
            self.pass_on(Data(self.run.descend(None)), None, DOWNSTREAM)
        self.push(frame, direction)

    async def told_late(self, frame: Frame, direction: FrameDirection) -> None:
        await asyncio.sleep(0.1)
        self.told(frame, direction)


@cache
def _handler(method: Callable[..., Any], types: tuple[type[Frame], ...], *, is_async: bool) -> Any:
    # A method may bear one mark only, so every handler is a function of its own.
    if is_async:

        @handles(*types)
        async def handle_later(self: Scripted, frame: Frame, direction: FrameDirection) -> None:
            await method(self, frame, direction)

        return handle_later

    @handles(*types)
    def handle(self: Scripted, frame: Frame, direction: FrameDirection) -> None:
        method(self, frame, direction)

    return handle


@cache
def _scripted_class(handling: tuple[str, ...], told: str, speech: bool) -> type[Scripted]:
    body: dict[str, Any] = {"stage": Stage.SPEECH if speech else Stage.WORK}
    news = (PipecatInterruptionFrame, SpeechOnlyInterruptionFrame, SpeechInterruptedFrame)
    for how, is_async in (("inline", False), ("async", True)):
        types = tuple(t for t, chosen in zip(TYPES, handling, strict=True) if chosen == how)
        if types:
            method = Scripted.delayed if is_async else Scripted.inline
            body[how] = _handler(method, types, is_async=is_async)
    if told:
        is_async = told == "async"
        body["on_news"] = _handler(Scripted.told_late if is_async else Scripted.told, news, is_async=is_async)
    return type("Voice" if speech else "Worker", (Scripted,), body)


def _build(run: Run, row: Row) -> Iterator[Processor | Parallel]:
    for part in row:
        if isinstance(part, Branches):
            run.linear = False
            yield Parallel(*(list(_build(run, branch)) for branch in part.rows))
        else:
            yield _scripted_class(part.handling, part.told, part.speech)(run, part)


async def run_plan(plan: Plan) -> list[str]:
    """Run a plan to its end in the running virtual-time loop; returns what went wrong, best nothing."""
    run = Run()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: run.problems.append(f"the loop reports {context}"))
    pipeline = Pipeline([Probe(run, UPSTREAM), *_build(run, plan.row), Probe(run, DOWNSTREAM)])
    processors = [p for p in pipeline.processors if isinstance(p, Scripted)]
    for index, processor in enumerate(processors):
        processor.depth = {DOWNSTREAM: index, UPSTREAM: len(processors) - index}
    session = Session(pipeline)
    try:
        async with session:
            for number, event in enumerate(plan.events):
                if event.delay:
                    await asyncio.sleep(event.delay)
                _happen(run, session, event, number)
            session.end()
            async with asyncio.timeout(10 * LONG):
                await session.finished()
            run.ending = True
            await asyncio.sleep(LONG)
    except TimeoutError:
        run.problems.append(f"the session does not end: {pipeline!r}")
    run.check(session)
    if not any(isinstance(frame, EndFrame) for frame in run.left[DOWNSTREAM]):
        run.problems.append("the EndFrame has not passed")
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    run.problems += [f"left running: {task!r}" for task in tasks]
    return run.problems


def _happen(run: Run, session: Session, event: Event, number: int) -> None:
    if event.kind == "full":
        run.interrupt(Level.FULL, session.interrupt)
    elif event.kind == "speech":
        run.interrupt(Level.SPEECH, session.interrupt_speech)
    else:
        always = event.kind in ("kept", "system", "signal")
        lineage = Lineage(None, None) if always else run.descend(None)
        lineage.place = (number, 0)
        frame = KINDS[event.kind](lineage)
        run.born.append(frame)
        session.push(frame, UPSTREAM if event.up else DOWNSTREAM)
