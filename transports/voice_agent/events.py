"""What a client of voice-agent-ai-sdk is told of answers, tools, interruptions and errors."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from pipecat.frames.frames import (
    FunctionCallResultFrame,
    FunctionCallsStartedFrame,
    LLMThoughtEndFrame,
    LLMThoughtStartFrame,
    LLMThoughtTextFrame,
    MetricsFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
)
from pipecat.metrics.metrics import LLMTokenUsage, LLMUsageMetricsData

from ...pipeline import DOWNSTREAM, Level, Processor, Response, SpeechInterruptedFrame, handles
from ...pipeline.frames import (
    ErrorFrame,
    FrameDirection,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    SourceFrame,
    ToolInputFrame,
)
from ..websocket import WebSocketConnection
from ..websocket.protocol import Message


@dataclass(slots=True, eq=False)
class Answer:
    """What the client was told of one answer.

    Attributes:
        step: `step_start` was sent, `step_finish` was not.
        block: The open block of text or reasoning, as (kind, id).
        blocks: How many there were.
        sources: What the model says it has used.
        writing: Ids of the calls whose arguments are being written.
        running: Ids of the step's calls that have no result.
        ended: Its text is complete.
        closed: `response_complete` was sent.
    """

    response: Response
    text: str = ""
    reasoning: str = ""
    calls: list[Message] = field(default_factory=list)
    results: list[Message] = field(default_factory=list)
    step: bool = False
    step_usage: LLMTokenUsage | None = None
    usage: list[LLMTokenUsage] = field(default_factory=list)
    block: tuple[str, str] | None = None
    blocks: int = 0
    sources: list[Message] = field(default_factory=list)
    writing: list[str] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    ended: bool = False
    closed: bool = False


class VoiceAgentEvents(Processor):
    """Tells the client what happens, in the order in which its page expects it.

    It belongs behind the LLM and `context.assistant` and before the voice. `VoiceAgentInput` at the head
    of the pipeline, where all errors arrive, hands them on to `tell_error`.
    """

    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection = connection
        self._answers: dict[str, Answer] = {}  # begun; finished ones leave when the next one begins
        self._callers: dict[str, Answer] = {}  # who made a call that has no result, by its id

    # An answer's text ------------------------------------------------------------------------------

    @handles(LLMFullResponseStartFrame)
    def started(self, frame: LLMFullResponseStartFrame) -> None:
        if self.response is not None:
            self._answers = {i: a for i, a in self._answers.items() if not a.closed}
            answer = self._answers[self.response.id] = Answer(self.response)
            self._tell(answer, "stream_start")
            self._begin_step(answer)
        self.push(frame)

    @handles(LLMTextFrame)
    def text(self, frame: LLMTextFrame) -> None:
        answer = self._answer
        if answer is not None:
            answer.text += frame.text
            self._add(answer, "text", frame.text)
        self.push(frame)

    @handles(LLMThoughtStartFrame)
    def thought_started(self, frame: LLMThoughtStartFrame) -> None:
        if self._answer is not None:
            self._open(self._answer, "reasoning")
        self.push(frame)

    @handles(LLMThoughtTextFrame)
    def thought(self, frame: LLMThoughtTextFrame) -> None:
        answer = self._answer
        if answer is not None:
            answer.reasoning += frame.text
            self._add(answer, "reasoning", frame.text)
        self.push(frame)

    @handles(LLMThoughtEndFrame)
    def thought_ended(self, frame: LLMThoughtEndFrame) -> None:
        if self._answer is not None:
            self._close_block(self._answer)
        self.push(frame)

    @handles(LLMFullResponseEndFrame)
    def ended(self, frame: LLMFullResponseEndFrame) -> None:
        answer = self._answer
        if answer is not None:
            answer.ended = True
            self._close_block(answer)
            # What failed, if anything did, is known once the work that pushes this is done.
            asyncio.get_running_loop().call_soon(self._finish, answer)
        self.push(frame)

    @handles(MetricsFrame)
    def metrics(self, frame: MetricsFrame) -> None:
        answer = self._answer
        if answer is not None:
            for data in frame.data:
                if isinstance(data, LLMUsageMetricsData):
                    answer.step_usage = data.value
                    answer.usage.append(data.value)
        self.push(frame)

    @handles(SourceFrame)
    def source(self, frame: SourceFrame) -> None:
        answer = self._answer
        if answer is not None:
            id_ = f"{answer.response.id}-source-{len(answer.sources) + 1}"
            source = {
                "type": "source",
                "sourceType": "url",
                "id": id_,
                "url": frame.url,
                "title": frame.title,
            }
            answer.sources.append(source)
            self._tell(answer, "source", source=source)
        self.push(frame)

    # Tools -----------------------------------------------------------------------------------------

    @handles(ToolInputFrame)
    def call_written(self, frame: ToolInputFrame) -> None:
        answer = self._answer
        if answer is not None:
            self._write(answer, frame.tool_call_id, frame.function_name, frame.text)
        self.push(frame)

    @handles(FunctionCallsStartedFrame)
    def calls_started(self, frame: FunctionCallsStartedFrame, direction: FrameDirection) -> None:
        answer = self._answer
        if direction is DOWNSTREAM and answer is not None:
            for call in frame.function_calls:
                name, id_ = call.function_name, call.tool_call_id
                given: Message = {"toolName": name, "toolCallId": id_, "input": call.arguments}
                if id_ not in answer.writing:  # of a service that tells no calls before they are complete
                    self._write(answer, id_, name, json.dumps(call.arguments, default=str))
                self._end_input(answer, id_)
                self._tell(answer, "tool_call", **given)
                answer.calls.append(given)
                answer.running.add(id_)
                self._callers[id_] = answer
        self.push(frame, direction)

    @handles(FunctionCallResultFrame)
    def call_returned(self, frame: FunctionCallResultFrame, direction: FrameDirection) -> None:
        answer = self._callers.pop(frame.tool_call_id, None) if direction is DOWNSTREAM else None
        if answer is not None:
            about: Message = {"toolName": frame.function_name, "toolCallId": frame.tool_call_id}
            if answer.response.finished:
                about["interrupted"] = True
            if frame.error is not None:
                self._tell(answer, "tool_error", **about, error=frame.error)
            else:
                self._tell(answer, "tool_result", **about, result=frame.result)
                answer.results.append({**about, "output": frame.result})
            answer.running.discard(frame.tool_call_id)
            if not (answer.running or answer.closed):
                self._end_step(answer, "tool-calls")
        self.push(frame, direction)

    # Whatever else happens -------------------------------------------------------------------------

    @handles(SpeechInterruptedFrame)
    def interrupted(self, frame: SpeechInterruptedFrame, direction: FrameDirection) -> None:
        self._connection.send(
            {
                "type": "speech_interrupted",
                "reason": frame.reason,
                "level": frame.level,
                "responseId": frame.response_id,
                "heard": frame.heard,
                "unheard": frame.unheard,
                "ms": round(frame.ms, 3),
            }
        )
        if frame.level is Level.FULL:
            for answer in self._answers.values():
                if answer.ended:
                    self._finish(answer)
                elif answer.response.finished:
                    self._abort(answer, frame)
        self.push(frame, direction)

    @handles(OutputTransportMessageFrame, OutputTransportMessageUrgentFrame)
    def application_message(
        self,
        frame: OutputTransportMessageFrame | OutputTransportMessageUrgentFrame,
        direction: FrameDirection,
    ) -> None:
        """What the application has to say, such as a `source` or a `file`."""
        if isinstance(frame.message, dict) and isinstance(frame.message.get("type"), str):
            self._connection.send(frame.message)
        self.push(frame, direction)

    def tell_error(self, frame: ErrorFrame, response: Response | None) -> None:
        """An error anywhere in the pipeline: of an answer's stream, or besides."""
        for answer in self._answers.values():
            if frame.exception is not None and answer.response.error is frame.exception:
                if not answer.closed:
                    self._close(answer)
                    self._tell(answer, "stream_error", error=frame.error)
                    self._complete(answer, "error")
                return
        about = {} if response is None else {"responseId": response.id}
        self._connection.send({"type": "error", "error": frame.error, **about})

    # Telling ---------------------------------------------------------------------------------------

    @property
    def _answer(self) -> Answer | None:
        """The answer that the running code works for, while it is open."""
        answer = self._answers.get(self.response.id) if self.response is not None else None
        return answer if answer is not None and not answer.closed else None

    def _tell(self, answer: Answer, kind: str, **fields: Any) -> None:
        self._connection.send({"type": kind, **fields, "responseId": answer.response.id})

    def _open(self, answer: Answer, kind: str) -> str:
        """Begin a block of text or reasoning, unless it is open; returns its id."""
        if answer.block is not None and answer.block[0] == kind:
            return answer.block[1]
        self._close_block(answer)
        self._begin_step(answer)
        answer.blocks += 1
        id_ = f"{answer.response.id}-{answer.blocks}"
        answer.block = (kind, id_)
        self._tell(answer, f"{kind}_start", id=id_)
        return id_

    def _add(self, answer: Answer, kind: str, text: str) -> None:
        self._tell(answer, f"{kind}_delta", id=self._open(answer, kind), text=text)

    def _write(self, answer: Answer, id_: str, name: str, text: str) -> None:
        if id_ not in answer.writing:
            self._close_block(answer)
            self._begin_step(answer)
            answer.writing.append(id_)
            self._tell(answer, "tool_input_start", id=id_, toolName=name)
        if text:
            self._tell(answer, "tool_input_delta", id=id_, delta=text)

    def _end_input(self, answer: Answer, id_: str) -> None:
        answer.writing.remove(id_)
        self._tell(answer, "tool_input_end", id=id_)

    def _close_block(self, answer: Answer) -> None:
        if answer.block is not None:
            (kind, id_), answer.block = answer.block, None
            self._tell(answer, f"{kind}_end", id=id_)

    def _close(self, answer: Answer) -> None:
        """End the open block, and the calls that were begun and not made."""
        self._close_block(answer)
        for id_ in tuple(answer.writing):
            self._end_input(answer, id_)

    def _begin_step(self, answer: Answer) -> None:
        if not answer.step:
            answer.step, answer.step_usage = True, None
            self._tell(answer, "step_start", warnings=[])

    def _end_step(self, answer: Answer, reason: str) -> None:
        if answer.step:
            self._close(answer)
            answer.step = False
            usage = _usage([answer.step_usage] if answer.step_usage is not None else [])
            self._tell(answer, "step_finish", finishReason=reason, usage=usage)

    def _finish(self, answer: Answer) -> None:
        if not answer.closed:
            self._end_step(answer, "stop")
            self._tell(answer, "stream_finish", finishReason="stop", usage=_usage(answer.usage))
            self._complete(answer, "stop")

    def _abort(self, answer: Answer, report: SpeechInterruptedFrame) -> None:
        if not answer.closed:
            self._close(answer)
            self._tell(answer, "stream_abort", reason=report.reason)
            self._complete(answer, "interrupted")

    def _complete(self, answer: Answer, reason: str) -> None:
        answer.closed = True
        optional: Message = {"reasoning": answer.reasoning} if answer.reasoning else {}
        if answer.sources:
            optional["sources"] = answer.sources
        self._tell(
            answer,
            "response_complete",
            text=answer.text,
            **optional,
            toolCalls=answer.calls,
            toolResults=answer.results,
            finishReason=reason,
            interrupted=reason == "interrupted",
            speechInterrupted=answer.response.silenced,
        )


def _usage(parts: list[LLMTokenUsage]) -> dict[str, int]:
    """Tokens as voice-agent-ai-sdk counts them; empty where the provider does not say."""
    if not parts:
        return {}
    return {
        "inputTokens": sum(part.prompt_tokens for part in parts),
        "outputTokens": sum(part.completion_tokens for part in parts),
        "totalTokens": sum(part.total_tokens for part in parts),
        "cachedInputTokens": sum(part.cache_read_input_tokens or 0 for part in parts),
        "reasoningTokens": sum(part.reasoning_tokens or 0 for part in parts),
    }
