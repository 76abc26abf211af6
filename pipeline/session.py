"""The session: one conversation, its tasks, its epochs, and how it is interrupted."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

from loguru import logger
from pipecat.frames.frames import LLMMessagesAppendFrame

from .errors import InputRejected, ProcessorInUse, SessionNotRunning, StartFailed
from .frames import (
    DOWNSTREAM,
    UPSTREAM,
    CancelFrame,
    CancelWorkerFrame,
    EndFrame,
    EndWorkerFrame,
    Frame,
    FrameDirection,
    InterruptionFrame,
    InterruptionWorkerFrame,
    Level,
    OutputAudioRawFrame,
    PipecatInterruptionFrame,
    Reason,
    SentenceFrame,
    SpeechInterruptedFrame,
    SpeechOnlyInterruptionFrame,
    StartFrame,
    SystemFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from .link import Link
from .pipeline import Pipeline, connect
from .processor import Entry, Processor, Stage
from .response import Response, Voice
from .work import ROOT, Epoch, Work, current_work

# What a speech-only interruption drops from the queues of speech stages; text passes by instead.
SPEECH_FRAMES: tuple[type[Frame], ...] = (
    OutputAudioRawFrame,
    SentenceFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)

# Marks a frame every processor has been told of; a handler may push it on, which does nothing more.
TOLD = "bargein.told"

# In the metadata of a frame: the future that is to get the answer to its text.
INPUT = "bargein.input"

# Cancelled work that has not ended after this long is logged and counted, s.
GRACE_S = 2.0

Observer = Callable[[Frame, FrameDirection, Processor], None]


@dataclass(slots=True)
class SessionStats:
    """Counts since the session started.

    Attributes:
        interruptions: Interruptions of both levels.
        stale_dropped: Frames that interrupted work still pushed, and that went nowhere.
        undead: Pieces of cancelled work that had not ended `GRACE_S` after their cancellation.
    """

    interruptions: int = 0
    stale_dropped: int = 0
    undead: int = 0


class Session:
    """Runs a pipeline for one conversation and owns all its tasks.

    Use it as `async with Session(pipeline) as session:`, or `await Session(pipeline).run()`. When the
    block is left nothing of the session runs any more.

    Attributes:
        epoch: Replaced by each interruption.
        stats: See `SessionStats`.
        voices: The outputs that an interruption must silence. They add themselves.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.epoch = Epoch(self, 0, 0)
        self.stats = SessionStats()
        self.voices: list[Voice] = []
        self._processors: list[Processor] = []
        self._links: tuple[Link, Link] | None = None  # into the pipeline; None while not running
        self._tasks: set[asyncio.Task[None]] = set()  # every task of the session, until it is done
        self._abandoned: set[asyncio.Task[None]] = set()  # cancelled, not yet ended
        self._observers: list[Observer] = []
        self._responses: list[Response] = []  # begun and not finished, oldest first
        self._response_count = 0
        self._inputs: set[asyncio.Future[Response]] = set()  # texts sent and not answered
        self._root = Work(self.epoch)
        self._garbage: list[deque[Entry]] = []
        self._undead: set[asyncio.Task[None]] = set()  # counted in `stats.undead`, not yet ended
        self._running = False  # from the StartFrame to the beginning of the end
        self._over = asyncio.Event()

    # Life cycle ------------------------------------------------------------------------------------

    async def __aenter__(self) -> Session:
        self._attach()
        started: list[Processor] = []
        for processor in reversed(self._processors):
            started.append(processor)
            try:
                await processor.start()
            except BaseException as error:
                await _to_its_end(self._close(started))
                if isinstance(error, Exception):
                    raise StartFailed(f"{processor.name} could not start: {error}") from error
                raise
        self._running = True
        self.push(StartFrame())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _to_its_end(self._close(list(reversed(self._processors))))

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
        if not self._over.is_set():
            self._over.set()
            if self._running:
                self.push(CancelFrame(reason=reason))

    # Frames ----------------------------------------------------------------------------------------

    def push(self, frame: Frame, direction: FrameDirection = DOWNSTREAM) -> None:
        """Push a frame in at the head of the pipeline, or upstream from its tail.

        Raises:
            SessionNotRunning: Outside the session's `async with` block.
        """
        if self._links is None:
            raise SessionNotRunning("the session is not running: use it inside `async with session:`")
        link = self._links[0] if direction is DOWNSTREAM else self._links[1]
        self._push(None, link, frame, direction, current_work.get())

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
            while the answer was made, or `InputRejected` when the session ends first. A text whose answer
            was interrupted before it began is answered together with the next.
        """
        if priority:
            self.interrupt(Reason.PRIORITY_MESSAGE)
        frame = LLMMessagesAppendFrame([{"role": "user", "content": text}], run_llm=True)
        frame.interruptible = False
        answered = frame.metadata[INPUT] = asyncio.get_running_loop().create_future()
        answered.add_done_callback(self._answered)
        self._inputs.add(answered)
        self.push(frame)
        return answered

    def _answered(self, answered: asyncio.Future[Response]) -> None:
        self._inputs.discard(answered)
        if not answered.cancelled():
            answered.exception()  # so that nobody complains where nobody waits for it

    def observe(self, observer: Observer) -> None:
        """Call `observer(frame, direction, processor)` at each push by a processor, and once for each
        interruption and report. Costs nothing when there are no observers."""
        self._observers.append(observer)
        self._watch()

    def _watch(self) -> None:
        for processor in self._processors:
            processor.push = partial(self._observed_push, processor)  # type: ignore[method-assign]

    def _observed_push(
        self, processor: Processor, frame: Frame, direction: FrameDirection = DOWNSTREAM
    ) -> None:
        if TOLD not in frame.metadata:  # else all have seen it
            for observer in self._observers:
                observer(frame, direction, processor)
        Processor.push(processor, frame, direction)

    # Interruption ----------------------------------------------------------------------------------

    def interrupt(self, reason: str = Reason.INTERRUPTED, *, cause: float | None = None) -> None:
        """Stop everything: model, tools, speech, and every interruptible frame in a queue.

        When this returns the whole pipeline has stopped and the report has been pushed. Interruptible
        work that calls it ends itself too.

        Args:
            reason: Any string; the common ones are in `Reason`.
            cause: Loop time (s) of what caused it, for the report's milliseconds; now if not given.
        """
        self._interrupt(Level.FULL, reason, cause=cause)

    def interrupt_speech(self, reason: str = Reason.INTERRUPTED, *, cause: float | None = None) -> None:
        """Stop the bot's voice. The model finishes this response, whose rest is text only.

        Takes the same arguments as `interrupt`.
        """
        self._interrupt(Level.SPEECH, reason, cause=cause)

    def _interrupt(
        self, level: Level, reason: str, *, cause: float | None = None, source: Processor | None = None
    ) -> None:
        if self._links is None:
            raise SessionNotRunning("the session is not running: nothing can be interrupted")
        loop = asyncio.get_running_loop()
        cause = loop.time() if cause is None else cause
        # Decided: from here to the report there is no await, and no foreign code before all is stopped.
        old = self.epoch
        full = level is Level.FULL
        self.epoch = Epoch(self, old.response + full, old.speech + 1)
        self._root = Work(self.epoch)
        self.stats.interruptions += 1
        halted = [p for p in self._processors if full or p.stage is Stage.SPEECH]
        for processor in halted:
            processor._halt(level, SPEECH_FRAMES)
        for voice in self.voices:
            voice.cut()
        report = self._settle(level, reason)
        if self._abandoned:
            loop.call_later(GRACE_S, self._count_undead, tuple(self._abandoned))
        # Everything is stopped. Now tell the handlers, then go on with what was kept.
        token = current_work.set(ROOT)
        try:
            frame = InterruptionFrame(reason=reason) if full else SpeechOnlyInterruptionFrame(reason=reason)
            self._tell(frame, source)
            report.ms = (loop.time() - cause) * 1000
            self._tell(report, source)
            for processor in halted:
                processor._restart()
        finally:
            current_work.reset(token)
            # After the cancellations, which are scheduled already.
            loop.call_soon(self._garbage.clear)

    def _settle(self, level: Level, reason: str) -> SpeechInterruptedFrame:
        """Close the responses that were cut and write the report."""
        cut = [r for r in self._responses if r.interruptible and (level is Level.FULL or not r.silenced)]
        report = SpeechInterruptedFrame(level=level, reason=reason)
        if cut:
            report.response_id = cut[0].id
            report.heard = " ".join(r.heard for r in cut if r.heard)
            report.unheard = " ".join(r.unheard for r in cut if r.unheard)
        for response in cut:
            response.silenced = True
            if level is Level.FULL or response.complete:
                self.finish_response(response)
        return report

    def _tell(self, frame: Frame, source: Processor | None) -> None:
        """Give a frame to every handler: upstream from the source and downstream from it."""
        frame.metadata[TOLD] = True
        at = self._processors.index(source) if source is not None else 0
        for observer in self._observers:
            observer(frame, DOWNSTREAM, self._processors[at])
        for direction, processors in (
            (UPSTREAM, self._processors[:at][::-1]),
            (DOWNSTREAM, self._processors[at:]),
        ):
            for processor in processors:
                call, is_async = processor._find_handler(frame.__class__, direction)
                if call is None:
                    continue
                if is_async:
                    processor._take_system(Entry(frame, direction, ROOT, call, True))
                    continue
                try:
                    call(frame)
                except Exception as error:
                    processor._fail(error, frame)

    def _count_undead(self, tasks: tuple[asyncio.Task[None], ...]) -> None:
        for task in tasks:
            if task in self._abandoned and task not in self._undead:
                self._undead.add(task)
                task.add_done_callback(self._undead.discard)
                self.stats.undead += 1
                logger.warning("{} was cancelled {} s ago and still runs", task.get_name(), GRACE_S)

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

    def create_task(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task the session owns; it is cancelled, and waited for, when the session ends."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def abandon(self, task: asyncio.Task[None]) -> None:
        """Cancel a task and wait for it no longer."""
        task.cancel()
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)

    def free_later(self, entries: deque[Entry]) -> None:
        """Keep dropped frames until the interruption is over: freeing 1,000 takes 0.1 ms."""
        self._garbage.append(entries)

    def _push(
        self, sender: Processor | None, link: Link, frame: Frame, direction: FrameDirection, work: Work
    ) -> None:
        """Every push that is not on the hot path of `Processor.push`."""
        if isinstance(frame, SystemFrame):
            if TOLD in frame.metadata:
                return
            if isinstance(frame, PipecatInterruptionFrame | SpeechOnlyInterruptionFrame):
                level = Level.SPEECH if isinstance(frame, SpeechOnlyInterruptionFrame) else Level.FULL
                self._interrupt(level, getattr(frame, "reason", Reason.INTERRUPTED), source=sender)
            else:
                link.send_system(frame)
            return
        if not frame.interruptible:
            if isinstance(frame, EndFrame | EndWorkerFrame) and self._is_stale(work):
                self.stats.stale_dropped += 1  # a tool of a discarded answer must not hang up (pipecat #4997)
                return
            context = ROOT if work.response is None else Work(None, work.response)
        elif work.epoch is None or work.epoch.session is not self:
            context = self._root if work.response is None else Work(self.epoch, work.response)
        elif work.epoch.response != self.epoch.response:
            self.stats.stale_dropped += 1
            return
        elif work.epoch.speech != self.epoch.speech:
            if sender is not None and sender.stage is Stage.SPEECH:
                self.stats.stale_dropped += 1
            else:
                link.send_unspoken(frame, work)
            return
        else:
            link.send_data(frame, work)
            return
        token = current_work.set(context)
        try:
            link.send_data(frame, context)
        finally:
            current_work.reset(token)

    def _is_stale(self, work: Work) -> bool:
        """Whether a full interruption has ended this work."""
        epoch = work.epoch
        return epoch is not None and epoch.session is self and epoch.response != self.epoch.response

    def _left(self, frame: Frame, direction: FrameDirection) -> None:
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
        for processor in processors:
            base = processor._label()
            names[base] = names.get(base, 0) + 1
            processor._attach(self, base if names[base] == 1 else f"{base}#{names[base]}")
        self._processors = processors
        self._links = connect(self.pipeline, self)
        if self._observers:
            self._watch()

    async def _close(self, started: list[Processor]) -> None:
        """Cancel every task, wait for it, then stop the processors, first started last."""
        self._running = False
        self._over.set()
        await self._cancel_tasks()
        for processor in reversed(started):
            try:
                await processor.stop()
            except Exception as error:
                logger.opt(exception=error).error("{}: failed to stop", processor.name)
        await self._cancel_tasks()
        for response in tuple(self._responses):
            self.finish_response(response)
        for waiting in tuple(self._inputs):
            if not waiting.done():
                waiting.set_exception(InputRejected("the session ended before this text was answered"))
        self._links = None
        self._garbage.clear()
        for processor in self._processors:
            processor._detach()

    async def _cancel_tasks(self) -> None:
        # Work that swallows one cancellation gets another: the grace is shared by all of it.
        for _ in range(4):
            for task in self._tasks:
                self.abandon(task)
            if not self._abandoned - self._undead:
                return
            await asyncio.wait(self._abandoned - self._undead, timeout=GRACE_S / 4)
        self._count_undead(tuple(self._abandoned))

    def _state_report(self) -> str:
        waiting = f", responses {', '.join(r.id for r in self._responses)}" if self._responses else ""
        return (
            f"running, response epoch {self.epoch.response}, speech epoch {self.epoch.speech}, "
            f"{len(self._tasks)} tasks{waiting}"
        )


async def _to_its_end(coroutine: Coroutine[Any, Any, None]) -> None:
    """Await a coroutine to its end even when the caller is cancelled meanwhile; then let that through."""
    task = asyncio.get_running_loop().create_task(coroutine)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


__all__ = ["GRACE_S", "Session", "SessionStats"]
