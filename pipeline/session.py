"""The session: one conversation, what comes into it from outside, its responses and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from types import TracebackType

from loguru import logger
from pipecat.frames.frames import LLMMessagesAppendFrame

from .errors import InputRejected, ProcessorInUse, SessionNotRunning, StartFailed, WrongThread
from .frames import (
    DOWNSTREAM,
    UPSTREAM,
    CancelFrame,
    CancelWorkerFrame,
    EndFrame,
    EndWorkerFrame,
    Frame,
    FrameDirection,
    InterruptionWorkerFrame,
    Level,
    Reason,
    StartFrame,
    TTSSpeakFrame,
)
from .interruption import TOLD, interrupt
from .link import Link
from .pipeline import Pipeline, connect
from .processor import FAILURES, Processor
from .response import Response, Voice
from .stats import SessionStats
from .tasks import Tasks, to_its_end
from .work import ROOT, Epoch, Work, current_work

# In the metadata of a frame: the future that is to get the answer to its text.
INPUT = "bargein.input"

Observer = Callable[[Frame, FrameDirection, Processor], None]


class Session:
    """Runs a pipeline for one conversation and owns all its tasks.

    Use it as `async with Session(pipeline) as session:`, or `await Session(pipeline).run()`. When the
    block is left nothing of the session runs any more.

    All of it belongs to the thread in which the block was entered; from others use
    `loop.call_soon_threadsafe(session.interrupt, "...")`.

    Attributes:
        epoch: Replaced by each interruption.
        root: The work of this epoch that belongs to no response; replaced with it.
        stats: See `SessionStats`.
        tasks: Every task of the session.
        voices: The outputs that an interruption must silence. They add themselves.
        processors: All processors, in pipeline order; none before it has run.
        running: From the StartFrame to the beginning of the end.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.epoch = Epoch(self, 0, 0)
        self.root = Work(self.epoch)
        self.stats = SessionStats()
        self.tasks = Tasks(self.stats)
        self.voices: list[Voice] = []
        self.processors: list[Processor] = []
        self.running = False
        self._thread: int | None = None  # in which it runs; None while not running
        self._links: tuple[Link, Link] | None = None  # into the pipeline; None while not running
        self._observers: list[Observer] = []
        self._responses: list[Response] = []  # begun and not finished, oldest first
        self._response_count = 0
        self._inputs: set[asyncio.Future[Response]] = set()  # texts sent and not answered
        self._over = asyncio.Event()

    # Life cycle ------------------------------------------------------------------------------------

    async def __aenter__(self) -> Session:
        self._attach()
        self._thread = get_ident()
        # What another session's handler starts is no work of that handler.
        token = current_work.set(ROOT)
        try:
            await self._start()
            self.running = True
            self.push(StartFrame())
        finally:
            current_work.reset(token)
        return self

    async def _start(self) -> None:
        started: list[Processor] = []
        for processor in reversed(self.processors):
            started.append(processor)
            try:
                await processor.start()
            except BaseException as error:
                await to_its_end(self._close(started))
                if isinstance(error, Exception):
                    raise StartFailed(f"{processor.name} could not start: {error}") from error
                raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await to_its_end(self._close(list(reversed(self.processors))))

    async def run(self) -> None:
        """Run the session until it is over: an EndFrame has passed, or it was cancelled."""
        async with self:
            await self.finished()

    async def finished(self) -> None:
        """Wait until an EndFrame has passed the whole pipeline or the session was cancelled."""
        await self._over.wait()

    def end(self) -> None:
        """End gracefully: what is queued is still worked off and what is said is said to its end."""
        self.push(EndFrame())

    def cancel(self, reason: str | None = None) -> None:
        """End now. Queued frames are dropped and work is cancelled when the session's block is left.

        A session that has not started yet is over as soon as it has; it sends no CancelFrame.
        """
        self.check_thread()
        if not self._over.is_set():
            self._over.set()
            if self.running:
                self.push(CancelFrame(reason=reason))

    # Frames ----------------------------------------------------------------------------------------

    def push(self, frame: Frame, direction: FrameDirection = DOWNSTREAM) -> None:
        """Push a frame in at the head of the pipeline, or upstream from its tail.

        Raises:
            SessionNotRunning: Outside the session's `async with` block.
            WrongThread: Outside the thread it runs in.
        """
        if self._links is None:
            raise SessionNotRunning("the session is not running: use it inside `async with session:`")
        self.check_thread()
        link = self._links[0] if direction is DOWNSTREAM else self._links[1]
        link.send(frame, current_work.get(), None)

    def say(self, text: str, *, critical: bool = False) -> None:
        """Speak a text as an answer of its own, after what is being said.

        Args:
            text: What to say.
            critical: No interruption stops it.
        """
        frame = TTSSpeakFrame(text)
        frame.interruptible = not critical
        self.push(frame)

    def send_text(self, text: str, *, priority: bool = False) -> asyncio.Future[Response]:
        """Take a text as a turn of the user, to be answered after what is being said.

        Args:
            text: What the user wrote.
            priority: Interrupt what is being said.

        Returns:
            Need not be awaited. It gets the answer when that has been said or was cut off, what failed
            while the answer was made, or `InputRejected` when the text has no words or the session ends
            first. A text whose answer was interrupted before it began is answered together with the next.

        Raises:
            SessionNotRunning: Outside the session's `async with` block.
            WrongThread: Outside the thread it runs in.
        """
        self.check_thread()
        answered: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        answered.add_done_callback(self._answered)
        if not text.strip():
            answered.set_exception(InputRejected("the text has no words: there is nothing to answer"))
            return answered
        if priority:
            self.interrupt(Reason.PRIORITY_MESSAGE)
        frame = LLMMessagesAppendFrame([{"role": "user", "content": text}], run_llm=True)
        frame.interruptible = False
        frame.metadata[INPUT] = answered
        self.push(frame)
        self._inputs.add(answered)
        return answered

    def _answered(self, answered: asyncio.Future[Response]) -> None:
        self._inputs.discard(answered)
        if not answered.cancelled():
            answered.exception()  # so that nobody complains where nobody waits for it

    def observe(self, observer: Observer) -> None:
        """Call `observer(frame, direction, processor)` at each push by a processor, and once for each
        interruption and report. What it raises is logged. Costs nothing when there are no observers."""
        self._observers.append(observer)
        self._watch()

    def _watch(self) -> None:
        for processor in self.processors:
            processor.push = partial(self._observed_push, processor)  # type: ignore[method-assign]

    def _observed_push(
        self, processor: Processor, frame: Frame, direction: FrameDirection = DOWNSTREAM
    ) -> None:
        self.check_thread()
        if TOLD not in frame.metadata:  # else all have seen it
            self.show(frame, direction, processor)
        Processor.push(processor, frame, direction)

    def show(self, frame: Frame, direction: FrameDirection, processor: Processor) -> None:
        """For the engine: give a frame to the observers."""
        for observer in self._observers:
            try:
                observer(frame, direction, processor)
            except Exception as error:
                logger.opt(exception=error).error("an observer failed on {}", frame.name)

    # Interruption ----------------------------------------------------------------------------------

    def interrupt(self, reason: str = Reason.INTERRUPTED, *, cause: float | None = None) -> None:
        """Stop everything: model, tools, speech, and every interruptible frame in a queue.

        When this returns the whole pipeline has stopped and the report has been pushed. Interruptible
        work that calls it ends itself too.

        Args:
            reason: Any string; the common ones are in `Reason`.
            cause: Loop time (s) of what caused it, for the report's milliseconds; now if not given.

        Raises:
            SessionNotRunning: Outside the session's `async with` block.
            WrongThread: Outside the thread it runs in.
        """
        self._interrupt(Level.FULL, reason, cause)

    def interrupt_speech(self, reason: str = Reason.INTERRUPTED, *, cause: float | None = None) -> None:
        """Stop the bot's voice. The model finishes this response, whose rest is text only.

        Takes the arguments of `interrupt`, and raises what it does.
        """
        self._interrupt(Level.SPEECH, reason, cause)

    def _interrupt(self, level: Level, reason: str, cause: float | None) -> None:
        if self._links is None:
            raise SessionNotRunning("the session is not running: nothing can be interrupted")
        self.check_thread()
        interrupt(self, level, reason, cause=cause)

    # Responses -------------------------------------------------------------------------------------

    @contextmanager
    def respond(self, *, interruptible: bool = True) -> Iterator[Response]:
        """An answer of the bot: what is done inside the block works for it.

        Leaving the block says that its text is complete; it is finished once it has been said.
        """
        work = self.open_response(current_work.get(), interruptible=interruptible)
        assert work.response is not None
        token = current_work.set(work)
        try:
            yield work.response
        except Exception as error:
            work.response.error = error
            raise
        finally:
            current_work.reset(token)
            self.close_response(work.response)

    def open_response(self, work: Work, *, interruptible: bool = True) -> Work:
        """Begin an answer that is part of `work`; returns the work done for it.

        For answers that no `with` block can hold; `close_response` must follow.
        """
        self._response_count += 1
        response = Response(f"r{self._response_count}", interruptible)
        foreign = work.epoch is None or work.epoch.session is not self
        epoch = self.epoch if foreign else work.epoch
        assert epoch is not None
        if epoch.response == self.epoch.response:
            self._responses.append(response)
            response.silenced = epoch.speech != self.epoch.speech
        else:  # begun by work that was interrupted: nothing of it will reach anyone
            response.finished = True
        return Work(epoch, response)

    def close_response(self, response: Response) -> None:
        """Say that the text of an answer is complete; it is finished once it has been said."""
        response.complete = True
        if response.silenced or not self.voices:
            self.finish_response(response)

    @property
    def responses(self) -> tuple[Response, ...]:
        """The answers that have begun and are not finished, oldest first."""
        return tuple(self._responses)

    @property
    def response_count(self) -> int:
        """How many answers have begun since the session started."""
        return self._response_count

    @property
    def responding(self) -> bool:
        """Whether an answer is being made or said."""
        return bool(self._responses)

    def finish_response(self, response: Response) -> None:
        """Say that all of a response has been said, or that nothing more of it will be."""
        response.finish()
        if response in self._responses:
            self._responses.remove(response)

    # For the engine --------------------------------------------------------------------------------

    def check_thread(self) -> None:
        """Raise `WrongThread` unless this is the thread the session runs in."""
        if self._thread is not None and get_ident() != self._thread:
            raise WrongThread(
                "the session runs in another thread: hand what you want to do to its event loop's "
                "call_soon_threadsafe"
            )

    def left(self, frame: Frame, direction: FrameDirection) -> None:
        """A frame has left the pipeline."""
        if direction is UPSTREAM:
            if isinstance(frame, EndWorkerFrame):
                self.end()
            elif isinstance(frame, CancelWorkerFrame):
                self.cancel(frame.reason)
            elif isinstance(frame, InterruptionWorkerFrame):
                self.interrupt()
        elif isinstance(frame, EndFrame | CancelFrame):
            self._over.set()

    def _attach(self) -> None:
        processors = self.pipeline.processors
        names: dict[str, int] = {}
        for processor in processors:
            if processor._session is not None:
                raise ProcessorInUse(
                    f"{processor.name} already runs in another session; build a new pipeline for each session"
                )
            processor._check_names()
        for processor in processors:
            base = processor._label()
            names[base] = names.get(base, 0) + 1
            processor._attach(self, base if names[base] == 1 else f"{base}#{names[base]}")
        self.processors = processors
        self._links = connect(self.pipeline, self)
        if self._observers:
            self._watch()

    async def _close(self, started: list[Processor]) -> None:
        """Cancel every task, wait for it, then stop the processors, first started last."""
        self.running = False
        self._over.set()
        for processor in self.processors:
            processor._retire()
        await self.tasks.end()
        for processor in reversed(started):
            try:
                await processor.stop()
            except FAILURES as error:
                logger.opt(exception=error).error("{}: failed to stop", processor.name)
        await self.tasks.end()
        for response in self.responses:
            self.finish_response(response)
        for waiting in tuple(self._inputs):
            if not waiting.done():
                waiting.set_exception(InputRejected("the session ended before this text was answered"))
        self._links = self._thread = None
        for processor in self.processors:
            processor._detach()

    def _state_report(self) -> str:
        waiting = f", responses {', '.join(r.id for r in self._responses)}" if self._responses else ""
        return (
            f"running, response epoch {self.epoch.response}, speech epoch {self.epoch.speech}, "
            f"{len(self.tasks)} tasks{waiting}"
        )


__all__ = ["INPUT", "Observer", "Session"]
