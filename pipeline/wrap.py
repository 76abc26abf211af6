"""The other way round: processors of ours inside a stock Pipecat pipeline."""

from __future__ import annotations

import asyncio
from collections import deque

from pipecat.processors.frame_processor import FrameProcessor, FrameProcessorSetup

from .frames import (
    DOWNSTREAM,
    UPSTREAM,
    CancelFrame,
    CancelWorkerFrame,
    EndFrame,
    EndWorkerFrame,
    Frame,
    FrameDirection,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    PipecatInterruptionFrame,
    SpeechInterruptedFrame,
    SpeechOnlyInterruptionFrame,
    StartFrame,
    SystemFrame,
)
from .interruption import TOLD
from .pipeline import Part, Pipeline
from .processor import Processor, handles
from .session import Session
from .work import ROOT, Work, current_work


class PipecatProcessor(FrameProcessor):
    """Processors of ours as one stock Pipecat processor, with a session of their own inside.

    Interruptions of both levels work in both directions: those of the stock pipeline interrupt the
    session, those from inside are broadcast in the stock pipeline, where a speech-only one reaches other
    PipecatProcessors alone. Answers of a stock language model before it are responses inside. Who ends or
    cancels the session inside has the stock pipeline end or be cancelled.

    Args:
        *parts: Processors and pipelines, as for `Pipeline`.

    Attributes:
        session: The session. It runs from the stock pipeline's setup to its cleanup.
    """

    def __init__(self, *parts: Part) -> None:
        super().__init__(name=f"PipecatProcessor({', '.join(type(part).__name__ for part in parts)})")
        self.session = Session(Pipeline([_End(self, UPSTREAM), *parts, _End(self, DOWNSTREAM)]))
        self._answer: Work | None = None  # between a stock model's start and end frame
        self._told: Frame | None = None  # the interruption of the stock pipeline on its way in
        self._leaving: deque[tuple[Frame, FrameDirection]] = deque()  # not yet pushed on
        self._left = asyncio.Event()
        self._runs = False
        self._over = False  # the stock pipeline ends

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override] # as FrameProcessor's
        """Start the processors inside.

        Raises:
            StartFailed: One of them could not start.
        """
        await super().setup(setup)
        await self.session.__aenter__()
        self._runs = True

    async def cleanup(self) -> None:
        """Stop the processors inside."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        if self._runs:
            self._runs = False
            await self.session.__aexit__(None, None, None)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Give a frame to the processors inside; what they push goes on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, StartFrame):  # the session has had one of its own
            await self.push_frame(frame, direction)
            self.session.tasks.create(self._push_on(), f"{self.name}.push_on")
        elif isinstance(frame, PipecatInterruptionFrame | SpeechOnlyInterruptionFrame):
            self._told = frame
            self._give(frame, direction)
            self._told = None
            frame.metadata.pop(TOLD, None)  # for the processors further on
            await self.push_frame(frame, direction)
        elif isinstance(frame, CancelFrame):
            self._over = True
            self.session.cancel(frame.reason)
            await self.push_frame(frame, direction)
        elif isinstance(frame, SpeechInterruptedFrame):  # of another session
            await self.push_frame(frame, direction)
        else:
            self._give(frame, direction)

    def _give(self, frame: Frame, direction: FrameDirection) -> None:
        if not self._runs:
            return
        self._over = self._over or isinstance(frame, EndFrame)
        if isinstance(frame, LLMFullResponseStartFrame) and direction is DOWNSTREAM:
            self._answer = self.session.open_response(ROOT, interruptible=frame.interruptible)
        in_answer = direction is DOWNSTREAM and not isinstance(frame, SystemFrame)
        token = current_work.set(self._answer if in_answer and self._answer is not None else ROOT)
        try:
            self.session.push(frame, direction)
        finally:
            current_work.reset(token)
        if isinstance(frame, LLMFullResponseEndFrame) and self._answer is not None:
            assert self._answer.response is not None
            self.session.close_response(self._answer.response)
            self._answer = None

    def _leave(self, frame: Frame, direction: FrameDirection) -> None:
        """A frame has reached an end of the session's pipeline."""
        if isinstance(frame, PipecatInterruptionFrame | SpeechOnlyInterruptionFrame):
            if isinstance(frame, PipecatInterruptionFrame):
                kept = (e for e in self._leaving if isinstance(e[0], SystemFrame) or not e[0].interruptible)
                self._leaving = deque(kept)
            if self._told is not None or direction is UPSTREAM:  # told already, or once at the other end
                return
        elif isinstance(frame, StartFrame | CancelFrame):
            return
        frame.metadata.pop(TOLD, None)
        self._send_out(frame, direction)

    def _end(self, frame: EndFrame | CancelFrame) -> bool:
        """Have the stock pipeline end what is ended inside; whether the frame is to go on inside."""
        if self._over:
            return True
        if isinstance(frame, EndFrame):
            self._send_out(EndWorkerFrame(reason=frame.reason), UPSTREAM)
            return False  # the stock pipeline's EndFrame will come
        self._send_out(CancelWorkerFrame(reason=frame.reason), UPSTREAM)
        return True

    def _send_out(self, frame: Frame, direction: FrameDirection) -> None:
        self._leaving.append((frame, direction))
        self._left.set()

    async def _push_on(self) -> None:
        while True:
            while self._leaving:
                frame, direction = self._leaving.popleft()
                if isinstance(frame, PipecatInterruptionFrame):
                    await self.broadcast_interruption()  # type: ignore[no-untyped-call]
                elif isinstance(frame, SpeechOnlyInterruptionFrame):
                    await self.broadcast_frame(SpeechOnlyInterruptionFrame, reason=frame.reason)
                else:
                    await self.push_frame(frame, direction)
            self._left.clear()
            await self._left.wait()


class _End(Processor):
    """One end of the session's pipeline."""

    def __init__(self, outside: PipecatProcessor, outward: FrameDirection) -> None:
        self._outside = outside
        self._outward = outward

    @handles(Frame)
    def cross(self, frame: Frame, direction: FrameDirection) -> None:
        if direction is self._outward or TOLD in frame.metadata:
            self._outside._leave(frame, self._outward)
        elif not isinstance(frame, EndFrame | CancelFrame) or self._outside._end(frame):
            self.push(frame, direction)


__all__ = ["PipecatProcessor"]
