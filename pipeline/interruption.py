"""How a session is interrupted: one synchronous walk from the decision to the report."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from loguru import logger

from .frames import (
    DOWNSTREAM,
    UPSTREAM,
    Frame,
    InterruptionFrame,
    Level,
    SpeechInterruptedFrame,
    SpeechOnlyInterruptionFrame,
)
from .processor import FAILURES, Entry, Processor, Stage
from .work import ROOT, Epoch, Work, current_work

if TYPE_CHECKING:
    from .session import Session

# Marks a frame every processor has been told of; a handler may push it on, which does nothing more.
TOLD = "bargein.told"


def interrupt(
    session: Session, level: Level, reason: str, *, cause: float | None, source: Processor | None = None
) -> None:
    """Stop what the level says and tell everybody; see `Session.interrupt`.

    Args:
        session: It runs, in this thread.
        level: How much is stopped.
        reason: For the report.
        cause: Loop time (s) of what caused it; now if None.
        source: From where the frame travels both ways; from the head of the pipeline if None.
    """
    loop = asyncio.get_running_loop()
    cause = loop.time() if cause is None else cause
    # Decided: from here to the report there is no await, and no foreign code before all is stopped.
    full = level is Level.FULL
    old = session.epoch
    session.epoch = Epoch(session, old.response + full, old.speech + 1)
    session.root = Work(session.epoch)
    session.stats.interruptions += 1
    halted = [p for p in session.processors if full or p.stage is Stage.SPEECH]
    dropped: list[deque[Entry]] = [processor._halt(level) for processor in halted]
    for voice in session.voices:
        try:
            voice.cut()
        except Exception as error:
            logger.opt(exception=error).error("a voice could not be cut")
    report = _settle(session, level, reason)
    session.tasks.watch_abandoned()
    # Everything is stopped. Now tell the handlers, then go on with what was kept.
    token = current_work.set(ROOT)
    try:
        frame = InterruptionFrame(reason=reason) if full else SpeechOnlyInterruptionFrame(reason=reason)
        _tell(session, frame, source)
        report.ms = (loop.time() - cause) * 1000
        _tell(session, report, source)
        for processor in halted:
            processor._restart()
    finally:
        current_work.reset(token)
        # After the cancellations, which are scheduled already: freeing 1,000 frames takes 0.1 ms.
        loop.call_soon(dropped.clear)


def _settle(session: Session, level: Level, reason: str) -> SpeechInterruptedFrame:
    """Close the responses that were cut and write the report."""
    full = level is Level.FULL
    cut = [r for r in session.responses if r.interruptible and (full or not r.silenced)]
    report = SpeechInterruptedFrame(level=level, reason=reason)
    if cut:
        report.response_id = cut[0].id
        report.heard = " ".join(r.heard for r in cut if r.heard)
        report.unheard = " ".join(r.unheard for r in cut if r.unheard)
    for response in cut:
        response.silenced = True
        if full or response.complete:
            session.finish_response(response)
    return report


def _tell(session: Session, frame: Frame, source: Processor | None) -> None:
    """Give a frame to every handler: upstream from the source and downstream from it."""
    frame.metadata[TOLD] = True
    processors = session.processors
    at = processors.index(source) if source is not None else 0
    session.show(frame, DOWNSTREAM, processors[at])
    for direction, told in ((UPSTREAM, processors[:at][::-1]), (DOWNSTREAM, processors[at:])):
        for processor in told:
            call, is_async = processor._find_handler(frame.__class__, direction)
            if call is None:
                continue
            if is_async:
                processor._take_system(Entry(frame, direction, ROOT, call, True))
                continue
            try:
                call(frame)
            except FAILURES as error:
                processor._fail(error, frame)
