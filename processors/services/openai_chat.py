"""Language models behind OpenAI's chat completions API, which many servers speak."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .chat import Call, Piece, Usage
from .errors import broken_off
from .openai_client import events
from .openai_model import OpenAIModel

if TYPE_CHECKING:
    from openai.types import CompletionUsage
    from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall


class ChatCompletions(OpenAIModel):
    """A model at OpenAI, or at any server with its chat completions: Groq, vLLM, Ollama, llama.cpp.

    Thoughts (`reasoning_content`) are not a part of the answer. A server that does not know
    `stream_options` is spared them by the option `stream_options=openai.omit`.
    """

    _defaults: ClassVar[dict[str, Any]] = {"stream_options": {"include_usage": True}}

    def _asked(self, messages: Sequence[Any], tools: Sequence[dict[str, Any]]) -> dict[str, Any]:
        asked = {"messages": list(messages)}
        return asked | ({"tools": list(tools)} if tools else {})

    async def _pieces(self, request: dict[str, Any]) -> AsyncGenerator[Piece, None]:
        calls: list[_StreamedCall] = []
        ended = False
        usage: CompletionUsage | None = None
        chunks = events(lambda: self._client.chat.completions.create(**request), self._timeouts)
        async with aclosing(chunks):
            async for chunk in chunks:
                # The client checks nothing, and servers leave out what they like.
                usage = getattr(chunk, "usage", None) or usage
                for choice in (getattr(chunk, "choices", None) or ())[:1]:
                    ended = ended or choice.finish_reason is not None
                    if choice.delta is None:
                        continue
                    text = choice.delta.content or choice.delta.refusal
                    if text:
                        yield text
                    for part in choice.delta.tool_calls or ():
                        _collect(calls, part)
        if not ended:
            raise broken_off(self.service, "", "")
        for call in calls:
            yield Call(call.id, call.name, call.arguments)
        if usage is not None:
            yield _usage(usage)


@dataclass
class _StreamedCall:
    """A call as far as it has come."""

    index: int | None
    id: str = ""
    name: str = ""
    arguments: str = ""


def _collect(calls: list[_StreamedCall], part: ChoiceDeltaToolCall) -> None:
    """Add a piece of a call to the call it belongs to."""
    name = part.function.name if part.function is not None else None
    call = next((c for c in reversed(calls) if c.index == part.index), None)
    # Some servers give every call the index 0, or none, and tell them apart by their ids; some give no
    # ids either, but a call's name comes before its arguments.
    if (
        call is None
        or (part.id and call.id and part.id != call.id)
        or (name and call.arguments and not part.id)
    ):
        call = _StreamedCall(part.index)
        calls.append(call)
    call.id = part.id or call.id
    if part.function is not None:
        call.name += name or ""
        call.arguments += part.function.arguments or ""


def _usage(usage: CompletionUsage) -> Usage:
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        usage.prompt_tokens or 0,
        usage.completion_tokens or 0,
        (prompt and prompt.cached_tokens) or 0,
        (completion and completion.reasoning_tokens) or 0,
    )
