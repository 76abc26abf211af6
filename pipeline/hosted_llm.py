"""Hosting a stock language model: its answers become responses, its function calls enter our context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipecat.frames.frames import (
    FunctionCallCancelFrame,
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    FunctionCallsStartedFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext

from .frames import (
    DOWNSTREAM,
    Frame,
    FrameDirection,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
)
from .host import Host
from .host_setup import check_pipecat
from .response import Response
from .stock import LLMService
from .work import Work, current_work

# Results that no function returned. They are written for the model.
CANCELLED = "The call was cancelled."
NOT_STARTED = "The user interrupted before this call was started; it was not made."


@dataclass(eq=False)
class _Call:
    """A function call in the context whose result has not come."""

    name: str
    arguments: Any
    context: LLMContext
    work: Work  # of the answer that made it
    group: set[str]  # calls of the same answer that have no result, this one included
    begun: bool = False


class HostedLLM(Host):
    """Each answer of the service is a `Response`, from its start frame to its end frame.

    Where `context.assistant` stands behind it, function calls are recorded there, each with one result;
    once all calls of an answer have theirs, the service is asked to go on, in a response of its own.
    With Pipecat's own aggregators in the pipeline that is their part.
    """

    async def start(self) -> None:
        self._bases: dict[Response, Work] = {}  # of the open responses: what their task worked for before
        self._calls: dict[str, _Call] = {}  # recorded calls without a result, by id
        for part in self._parts:
            if isinstance(part, LLMService):
                check_pipecat(part, "service_metadata_frame", "run_function_calls")
        metadata = [part.service_metadata_frame() for part in self._parts if isinstance(part, LLMService)]
        # Speech-to-speech services answer from the receiver of their connection.
        self.tasks_inherit = not any(frame.is_realtime_service for frame in metadata)
        await super().start()

    def _work_of(self, frame: Frame) -> Work:
        work = super()._work_of(frame)
        if isinstance(frame, LLMFullResponseStartFrame):
            if work.response is not None and work.response in self._bases:
                work = self._close(work.response)
            base, work = work, self.session.open_response(work)
            assert work.response is not None
            self._bases[work.response] = base
            current_work.set(work)
        elif isinstance(frame, LLMFullResponseEndFrame) and work.response in self._bases:
            base = self._bases[work.response]
            current_work.set(base)
        return work

    def _close(self, response: Response) -> Work:
        self.session.close_response(response)
        return self._bases.pop(response)

    def _acknowledge(self, work: Work | None) -> None:
        super()._acknowledge(work)
        for call_id, call in list(self._calls.items()):
            if self._stale(call.work) and not call.begun:
                self._settle(call_id, NOT_STARTED)

    def _emit(self, frame: Frame, direction: FrameDirection, new: bool) -> None:
        if direction is not DOWNSTREAM or not new:
            super()._emit(frame, direction, new)
            return
        if isinstance(frame, FunctionCallResultFrame) and frame.tool_call_id in self._calls:
            self._returned(frame)
            return
        super()._emit(frame, direction, new)
        if isinstance(frame, LLMFullResponseEndFrame) and self.response in self._bases:
            self._close(self.response)
        elif isinstance(frame, FunctionCallsStartedFrame):
            self._called(frame)
        elif isinstance(frame, FunctionCallInProgressFrame) and frame.tool_call_id in self._calls:
            self._calls[frame.tool_call_id].begun = True
        elif isinstance(frame, FunctionCallCancelFrame) and frame.tool_call_id in self._calls:
            call = self._settle(frame.tool_call_id, CANCELLED)
            if frame.run_llm:
                self._go_on(call)

    def _called(self, frame: FunctionCallsStartedFrame) -> None:
        group: set[str] = set()
        for c in frame.function_calls:
            if _recorded(c.context, c.tool_call_id):
                group.add(c.tool_call_id)
                call = _Call(c.function_name, c.arguments, c.context, current_work.get(), group)
                self._calls[c.tool_call_id] = call

    def _returned(self, frame: FunctionCallResultFrame) -> None:
        properties = frame.properties
        if properties is not None and not properties.is_final:
            return  # the context holds one result for each call
        call = self._calls.pop(frame.tool_call_id)
        call.group.discard(frame.tool_call_id)
        self.push(frame)
        run = properties.run_llm if properties is not None else None
        if run is None:
            run = frame.run_llm
        if run if run is not None else not call.group:
            self._go_on(call)

    def _settle(self, call_id: str, result: str) -> _Call:
        call = self._calls.pop(call_id)
        call.group.discard(call_id)
        self.push(FunctionCallResultFrame(call.name, call_id, call.arguments, result))
        return call

    def _go_on(self, call: _Call) -> None:
        """Have the model answer with the results; not after an interruption: the next turn will."""
        if not self._stale(call.work):
            self._give(LLMContextFrame(call.context), DOWNSTREAM, Work(call.work.epoch))

    def _stale(self, work: Work) -> bool:
        return work.epoch is not None and work.epoch.response != self.session.epoch.response


def _recorded(context: LLMContext, call_id: str) -> bool:
    return any(isinstance(m, dict) and m.get("tool_call_id") == call_id for m in context.messages)
