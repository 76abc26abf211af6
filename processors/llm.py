"""The language model: any server with OpenAI's chat completions API."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from loguru import logger
from pipecat.frames.frames import FunctionCallFromLLM, FunctionCallsStartedFrame

from ..pipeline import BargeinError, Processor, Response, handles
from ..pipeline.frames import (
    EagerEndOfTurnCancelFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    SpeculationFrame,
)
from .speculation import Speculation
from .tools import NOT_STARTED, SESSION_ENDED, ToolCall, Tools

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat.chat_completion_chunk import ChoiceDelta, ChoiceDeltaToolCall
    from pipecat.processors.aggregators.llm_context import LLMContext

# How often an answer after which the session ends is looked at, s.
END_POLL_S = 0.05


class CallsNotRecorded(BargeinError, RuntimeError):
    """Raised when the model calls a tool and nothing writes the call into the context."""


class LLM(Processor):
    """Answers each LLMContextFrame with a stream of LLMTextFrames between a start and an end frame.

    A full interruption closes the HTTP connection, so that the server stops generating. The tools that
    an answer calls run side by side, and their results go back to the model before it goes on; each call
    is announced with Pipecat's FunctionCallsStartedFrame, FunctionCallInProgressFrame and
    FunctionCallResultFrame, in both directions. `context.assistant`, right behind, writes them into the
    context. No turn waits for a tool of an earlier one.

    A SpeculationFrame starts a completion ahead of its turn; the LLMContextFrame with the same messages
    takes it over, anything else throws it away.

    Args:
        client: The `openai` client, for any base URL; the caller closes it.
        model: The model's name at that server.
        tools: Functions the model may call; see `Tools`.
        max_steps: How often in one answer the model may call tools; after that it has to speak.
        options: Further arguments of `chat.completions.create`, such as `temperature` or `max_tokens`.

    Attributes:
        tokens: Pieces of text received in answers.
        wasted_tokens: Pieces received ahead of a turn and thrown away.
    """

    def __init__(
        self,
        client: AsyncOpenAI,
        model: str,
        *,
        tools: Tools | Iterable[Callable[..., Any]] = (),
        max_steps: int = 5,
        **options: Any,
    ) -> None:
        self._client = client
        self._model = model
        self._tools = tools if isinstance(tools, Tools) else Tools(tools)
        self._max_steps = max_steps
        self._options = options
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

    async def _generate(self, context: LLMContext, may_call: bool) -> list[_Asked]:
        """Stream one completion; returns the calls it asks for, complete and in order."""
        # A copy: the context may change while the request is being sent.
        messages = _copy(context)
        ahead, self._speculation = self._speculation, None
        if ahead is not None and ahead.messages == messages and may_call:
            deltas = ahead.take()
        else:
            if ahead is not None:
                self._throw_away(ahead)
            deltas = self._deltas(messages, may_call)
        asked: list[_Asked] = []
        text = ""
        async with aclosing(deltas):
            async for delta in deltas:
                self.tokens += 1
                if delta.content:
                    text = delta.content
                    self.push(LLMTextFrame(text))
                for part in delta.tool_calls or ():
                    _collect(asked, part)
        if asked and text and not text.endswith("\n"):
            self.push(LLMTextFrame("\n"))  # so that what was said so far is spoken while the tools run
        return asked

    async def _deltas(self, messages: list[Any], may_call: bool) -> AsyncGenerator[ChoiceDelta, None]:
        """One completion as it comes; closing the generator closes the connection."""
        options = dict(self._options)
        if len(self._tools):
            options["tools"] = self._tools.schemas
            if not may_call:
                options["tool_choice"] = "none"
        stream = await self._client.chat.completions.create(
            model=self._model, messages=messages, stream=True, **options
        )
        async with stream:
            async for chunk in stream:
                if chunk.choices:
                    yield chunk.choices[0].delta

    async def _ask_ahead(self, speculation: Speculation) -> None:
        deltas = self._deltas(speculation.messages, True)
        try:
            async with aclosing(deltas):
                async for delta in deltas:
                    speculation.put(delta)
            speculation.put(None)
        except Exception as error:
            speculation.put(error)  # raised, if at all, in the answer

    def _forget(self) -> None:
        if self._speculation is not None:
            self._throw_away(self._speculation)
            self._speculation = None

    def _throw_away(self, speculation: Speculation) -> None:
        speculation.cancel()
        self.wasted_tokens += speculation.tokens

    async def _call(self, asked: list[_Asked], context: LLMContext, response: Response) -> list[ToolCall]:
        """Record the calls, run them side by side and wait until each has its result."""
        taken = {m.get("tool_call_id") for m in context.messages if isinstance(m, dict)}
        calls: list[ToolCall] = []
        for a in asked:
            # Some servers give no ids, or count from 0 in each answer.
            call_id = a.id if a.id and a.id not in taken else f"call_{uuid4().hex[:12]}"
            taken.add(call_id)
            # A name that breaks the rule would make each later request invalid.
            name = re.sub(r"[^A-Za-z0-9_-]", "_", a.name)[:64] or "unnamed"
            calls.append(ToolCall(self, self._tools, call_id, name, a.arguments))
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
        while not response.finished:  # noqa: ASYNC110 - a response tells nobody when it is finished
            await asyncio.sleep(END_POLL_S)
        self.session.end()


def _answered(context: LLMContext) -> bool:
    last: Any = context.messages[-1] if context.messages else {}
    return isinstance(last, dict) and last.get("role") == "assistant"


def _copy(context: LLMContext) -> list[Any]:
    return [dict(m) if isinstance(m, dict) else m for m in context.messages]


@dataclass
class _Asked:
    """A call as the model streams it."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


def _collect(asked: list[_Asked], part: ChoiceDeltaToolCall) -> None:
    """Add a piece of a call to the call it belongs to."""
    call = next((a for a in reversed(asked) if a.index == part.index), None)
    # Some servers give every call the index 0 and tell them apart by their ids.
    if call is None or (part.id and call.id and part.id != call.id):
        call = _Asked(part.index)
        asked.append(call)
    call.id = part.id or call.id
    if part.function is not None:
        call.name += part.function.name or ""
        call.arguments += part.function.arguments or ""
