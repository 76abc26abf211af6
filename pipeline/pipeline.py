"""Pipelines: processors in a row, nested and in parallel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from pipecat.processors.frame_processor import FrameProcessor

from .errors import PipelineError
from .frames import DOWNSTREAM, UPSTREAM, EndFrame, Frame, FrameDirection
from .link import Link
from .processor import Processor, handles
from .work import current_work

if TYPE_CHECKING:
    from .session import Session


class Pipeline:
    """Processors in order, first the one nearest to the user's voice.

    Parts may be processors, pipelines and parallel pipelines, and stock Pipecat processors and services,
    which are hosted as they are. One of Pipecat's own Pipelines counts as the processors in it.

    Raises:
        PipelineError: It is empty, a part is no processor, or a processor is in it twice.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        if not parts:
            raise PipelineError("a pipeline needs at least one processor")
        flat: list[Processor | Parallel] = []
        for index, part in enumerate(parts):
            if isinstance(part, Pipeline):
                flat.extend(part.parts)
            elif isinstance(part, Processor | Parallel):
                flat.append(part)
            elif isinstance(part, FrameProcessor):
                from .hosting import hosts  # imports Pipecat's services: only for those who use them

                flat.extend(hosts(part))
            else:
                raise PipelineError(
                    f"part {index} of the pipeline is {part!r}, not a Processor, a Pipeline or a "
                    "Pipecat processor"
                )
        self.parts: tuple[Processor | Parallel, ...] = tuple(flat)
        seen: set[int] = set()
        for processor in self.processors:
            own = getattr(processor, "stock", processor)  # what is hosted, if it is a host
            if id(own) in seen:
                raise PipelineError(f"{processor._label()} is in the pipeline twice; make a second one")
            seen.add(id(own))

    @property
    def processors(self) -> list[Processor]:
        """All processors, nested ones included, in pipeline order."""
        return list(_flatten(self.parts))

    def __repr__(self) -> str:
        """A state report: what runs, what waits, and the session's epochs."""
        session = self.processors[0]._session
        state = "not running" if session is None else session._state_report()
        return "\n".join([f"Pipeline ({state})", *_describe(self.parts, "  ")])


class Parallel:
    """Branches that each get every frame; a frame leaves once, whichever branch lets it out first.

    An EndFrame leaves when the last branch has let it out, so nothing of a slower branch is lost.
    """

    def __init__(self, *branches: Sequence[Part]) -> None:
        if not branches:
            raise PipelineError("Parallel needs at least one branch")
        self.branches = tuple(Pipeline(branch) for branch in branches)
        self.fork = _Fork()
        self.join = _Fork()


Part = Processor | Pipeline | Parallel | FrameProcessor


class _Fork(Processor):
    """One end of a Parallel: frames coming from outside go into every branch, others out, once."""

    # Set by `connect`: the links into the branches, and the direction that leads into them.
    links: tuple[Link, ...] = ()
    inward: FrameDirection = DOWNSTREAM

    async def start(self) -> None:
        # Frames that left already; an entry goes when its frame does.
        self._left: WeakValueDictionary[int, Frame] = WeakValueDictionary()
        self._ends: Counter[int] = Counter()  # by the frame's id, in how many branches it has arrived

    @handles(Frame)
    def cross(self, frame: Frame, direction: FrameDirection) -> None:
        if direction is self.inward:
            for link in self.links:
                link.send(frame, current_work.get(), self)
        elif isinstance(frame, EndFrame):
            self._ends[frame.id] += 1
            if self._ends[frame.id] == len(self.links):
                self.push(frame, direction)
        elif frame.id not in self._left:
            self._left[frame.id] = frame
            self.push(frame, direction)


def connect(pipeline: Pipeline, session: Session) -> tuple[Link, Link]:
    """Link all processors; returns the links into the pipeline, downstream and upstream."""
    down, up = Link(session, None, DOWNSTREAM), Link(session, None, UPSTREAM)
    return _connect(pipeline, session, down, up)


def _connect(pipeline: Pipeline, session: Session, out_down: Link, out_up: Link) -> tuple[Link, Link]:
    """`out_down` leads on behind the last part, `out_up` before the first."""
    parts = pipeline.parts
    # Backwards for the links downstream, then forwards for those upstream.
    down = out_down
    ends: list[tuple[Processor, Processor]] = []
    for part in reversed(parts):
        first = part.fork if isinstance(part, Parallel) else part
        last = part.join if isinstance(part, Parallel) else part
        last._down = down
        down = Link(session, first, DOWNSTREAM)
        ends.append((first, last))
    up = out_up
    for part, (first, last) in zip(parts, reversed(ends), strict=True):
        first._up = up
        up = Link(session, last, UPSTREAM)
        if isinstance(part, Parallel):
            _connect_branches(part, session)
    return down, up


def _connect_branches(part: Parallel, session: Session) -> None:
    into_join, into_fork = Link(session, part.join, DOWNSTREAM), Link(session, part.fork, UPSTREAM)
    pairs = [_connect(branch, session, into_join, into_fork) for branch in part.branches]
    part.fork.links, part.fork.inward = tuple(down for down, _ in pairs), DOWNSTREAM
    part.join.links, part.join.inward = tuple(up for _, up in pairs), UPSTREAM


def _flatten(parts: Iterable[Processor | Parallel]) -> Iterable[Processor]:
    for part in parts:
        if isinstance(part, Processor):
            yield part
        else:
            yield part.fork
            for branch in part.branches:
                yield from _flatten(branch.parts)
            yield part.join


def _describe(parts: Iterable[Processor | Parallel], indent: str) -> Iterable[str]:
    for part in parts:
        if isinstance(part, Processor):
            yield f"{indent}{part!r}"
        else:
            for number, branch in enumerate(part.branches, 1):
                yield f"{indent}branch {number}:"
                yield from _describe(branch.parts, indent + "  ")


__all__ = ["Parallel", "Part", "Pipeline", "connect"]
