"""The language model in the pipeline: answers, the tools they call, and answers begun ahead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, overload

from loguru import logger
from pipecat.frames.frames import FunctionCallFromLLM, FunctionCallsStartedFrame, MetricsFrame
from pipecat.metrics.metrics import TTFBMetricsData

from ..pipeline import BargeinError, Processor, Response, handles
from ..pipeline.frames import (
    EagerEndOfTurnCancelFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    SpeculationFrame,
)
from .completion import Completion
from .services.chat import Call, ChatModel, Thought
from .services.fallback import Fallback
from .services.openai_chat import ChatCompletions
from .speculation import Speculation
from .tools import NOT_STARTED, SESSION_ENDED, ToolCall, Tools

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from pipecat.processors.aggregators.llm_context import LLMContext


class CallsNotRecorded(BargeinError, RuntimeError):
    """Raised when the model calls a tool and nothing writes the call into the context."""


class LLM(Processor):
    """Answers each LLMContextFrame with a stream of LLMTextFrames between a start and an end frame.

    What the model thinks leaves as Pipecat's LLMThoughtTextFrames, between a start and an end of their own;
    the arguments of a tool call, as they are written, as ToolInputFrames; what it names as its sources as
    SourceFrames. None of these is spoken.

    A full interruption closes the HTTP connection, so that the server stops generating. The tools that
    an answer calls run side by side, and their results go back to the model before it goes on; each call
    is announced with Pipecat's FunctionCallsStartedFrame, FunctionCallInProgressFrame and
    FunctionCallResultFrame, in both directions. `context.assistant`, right behind, writes them into the
    context. No turn waits for a tool of an earlier one.

    A SpeculationFrame starts a completion ahead of its turn; the LLMContextFrame with the same messages
    takes it over, anything else throws it away.

    For each completion MetricsFrames go downstream: the time to the first token, and the tokens if the
    provider counts them.

    `LLM(client, "model", **options)` is short for `LLM(ChatCompletions(client, "model", **options))`.

    Args:
        chat: The model, such as `ChatCompletions`, `Responses` or `FallbackChat`.
        tools: Functions the model may call; see `Tools`.
        max_steps: How often in one answer the model may call tools; after that it has to speak.

    Attributes:
        tokens: Pieces of text received in answers.
        wasted_tokens: Pieces received ahead of a turn and thrown away.
    """

    @overload
    def __init__(
        self,
        chat: ChatModel,
        /,
        *,
        tools: Tools | Iterable[Callable[..., Any]] = (),
        max_steps: int = 5,
    ) -> None: ...

    @overload
    def __init__(
        self,
        client: AsyncOpenAI,
        model: str,
        /,
        *,
        tools: Tools | Iterable[Callable[..., Any]] = (),
        max_steps: int = 5,
        **options: Any,
    ) -> None: ...

    def __init__(
        self,
        chat: Any,
        model: str | None = None,
        /,
        *,
        tools: Tools | Iterable[Callable[..., Any]] = (),
        max_steps: int = 5,
        **options: Any,
    ) -> None:
        if model is not None:
            chat = ChatCompletions(chat, model, **options)
        elif options:
            raise TypeError(f"give {', '.join(options)} to the model, not to the LLM")
        self._chat: ChatModel = chat
        if isinstance(chat, Fallback):
            chat.users.add(self)
        self._tools = tools if isinstance(tools, Tools) else Tools(tools)
        self._max_steps = max_steps
        self._speculation: Speculation | None = None
        self.tokens = self.wasted_tokens = 0
        # All that may have no result yet; those to "keep" outlive their answer.
        self._calls: list[ToolCall] = []

    async def stop(self) -> None:
        for call in self._calls:
            call.settle(SESSION_ENDED)
        self._calls.clear()

    @handles(LLMContextFrame)
    async def answer(self, frame: LLMContextFrame) -> None:
        if _answered(frame.context):
            return  # together with an earlier question that waited
        with self.session.respond() as response:
            self.push(LLMFullResponseStartFrame())
            try:
                ends_session = await self._answer(frame.context, response)
            finally:
                self.push(LLMFullResponseEndFrame())
            if ends_session:
                self.spawn(self._end_when_said(response), f"{self.name}.end")

    @handles(SpeculationFrame)
    def speculate(self, frame: SpeculationFrame) -> None:
        """Begin on an answer; it waits, unseen, for the turn to be confirmed."""
        self._forget()
        speculation = self._speculation = Speculation(_copy(frame.context))
        work = self._ask_ahead(speculation)
        speculation.task = self.spawn(work, f"{self.name}.speculation")

    @handles(EagerEndOfTurnCancelFrame)
    def forget(self, frame: EagerEndOfTurnCancelFrame) -> None:
        self._forget()
        self.push(frame)

    @handles(InterruptionFrame)
    def interrupted(self, frame: InterruptionFrame) -> None:
        self._forget()
        for call in self._calls:
            call.interrupt()

    async def _answer(self, context: LLMContext, response: Response) -> bool:
        """Generate and call tools in turn; returns whether a tool wants the session to end."""
        ends_session = False
        for step in range(self._max_steps + 1):
            may_call = step < self._max_steps
            asked = await self._generate(context, may_call)
            # A library may have swallowed the cancellation: what was interrupted must not act.
            if not asked or response.finished:
                break
            if not may_call:
                logger.warning("{}: calls tools although it may not any more", self.name)
                break
            calls = await self._call(asked, context, response)
            ends_session = ends_session or any(call.ends_session for call in calls)
        return ends_session

    async def _generate(self, context: LLMContext, may_call: bool) -> list[Call]:
        """Stream one completion; returns the calls it asks for."""
        loop = asyncio.get_running_loop()
        began: float | None = loop.time()
        # A copy: the context may change while the request is being sent.
        messages = _copy(context)
        ahead, self._speculation = self._speculation, None
        if ahead is not None and ahead.messages == messages and may_call:
            pieces = ahead.take()
        else:
            if ahead is not None:
                self._throw_away(ahead)
            pieces = self._chat.stream(messages, self._tools.schemas, "auto" if may_call else "none")
        completion = Completion(self.push, context.messages, self.name, self._chat.model)
        grown = False
        async with aclosing(pieces):
            async for piece in pieces:
                if began is not None and not isinstance(piece, Thought):
                    grown = _copy(context) != messages
                    if grown:
                        break
                    self._tell_ttfb(loop.time() - began)
                    began = None
                self.tokens += isinstance(piece, str)
                completion.take(piece)
        completion.end()
        if grown:  # what came while the model was thinking belongs to the question
            return await self._generate(context, may_call)
        return completion.calls

    async def _ask_ahead(self, speculation: Speculation) -> None:
        pieces = self._chat.stream(speculation.messages, self._tools.schemas)
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    speculation.put(piece)
            speculation.put(None)
        except Exception as error:
            speculation.put(error)  # raised, if at all, in the answer

    def _tell_ttfb(self, seconds: float) -> None:
        data = TTFBMetricsData(processor=self.name, model=self._chat.model, value=seconds)
        self.push(MetricsFrame([data]))

    def _forget(self) -> None:
        if self._speculation is not None:
            self._throw_away(self._speculation)
            self._speculation = None

    def _throw_away(self, speculation: Speculation) -> None:
        speculation.cancel()
        self.wasted_tokens += speculation.tokens

    async def _call(self, asked: list[Call], context: LLMContext, response: Response) -> list[ToolCall]:
        """Record the calls, run them side by side and wait until each has its result."""
        calls = [ToolCall(self, self._tools, call.id, call.name, call.arguments) for call in asked]
        self.broadcast(
            FunctionCallsStartedFrame,
            function_calls=[FunctionCallFromLLM(c.name, c.id, c.arguments, context) for c in calls],
        )
        recorded = {m.get("tool_call_id") for m in context.messages if isinstance(m, dict)}
        if calls[0].id not in recorded:
            raise CallsNotRecorded("nothing keeps tool calls: put context.assistant right behind the LLM")
        self._calls = [call for call in self._calls if not call.settled.done()] + calls
        for call in calls:
            if response.finished:
                call.settle(NOT_STARTED)
            else:
                call.start()
        await asyncio.wait([call.settled for call in calls])
        return calls

    async def _end_when_said(self, response: Response) -> None:
        """Started by the answer, so an interruption cancels this too."""
        await response.wait()
        self.session.end()


def _answered(context: LLMContext) -> bool:
    last: Any = context.messages[-1] if context.messages else {}
    return isinstance(last, dict) and last.get("role") == "assistant"


def _copy(context: LLMContext) -> list[Any]:
    return [dict(m) if isinstance(m, dict) else m for m in context.messages]
