"""Language models behind OpenAI's chat completions API, which many servers speak."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .chat import Call, CallBegun, CallInput, Piece, Source, Thought, Usage
from .errors import broken_off
from .openai_client import events, to_the_end
from .openai_model import OpenAIModel

if TYPE_CHECKING:
    from openai.types import CompletionUsage
    from openai.types.chat.chat_completion_chunk import ChoiceDelta, ChoiceDeltaToolCall


class ChatCompletions(OpenAIModel):
    """A model at OpenAI, or at any server with its chat completions: Groq, vLLM, Ollama, llama.cpp.

    Thoughts are what servers call `reasoning_content` or `reasoning`. A server that does not know
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
        stream = events(lambda: self._client.chat.completions.create(**request), self._timeouts)
        async with aclosing(to_the_end(stream, lambda: ended)) as chunks:
            async for chunk in chunks:
                # The client checks nothing, and servers leave out what they like.
                usage = getattr(chunk, "usage", None) or usage
                for choice in (getattr(chunk, "choices", None) or ())[:1]:
                    ended = ended or choice.finish_reason is not None
                    if choice.delta is None:
                        continue
                    for piece in _told(choice.delta):
                        yield piece
                    for part in choice.delta.tool_calls or ():
                        for piece in _collect(calls, part):
                            yield piece
        if not ended:
            raise broken_off(self.service, "", "")
        for call in calls:
            yield Call(call.id, call.name, call.arguments)
        if usage is not None:
            yield _usage(usage)


def _told(delta: ChoiceDelta) -> Iterator[Piece]:
    """What a delta has besides calls. Thoughts and sources are no part of the API's first version."""
    thought = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
    if isinstance(thought, str):
        yield Thought(thought)
    if text := delta.content or delta.refusal:
        yield text
    for annotation in getattr(delta, "annotations", None) or ():
        if source := source_in(annotation.get("url_citation")):
            yield source


def source_in(citation: Any) -> Source | None:
    """The source that a citation names, if it names one; what the client knows no type for is a mapping."""
    known = citation if isinstance(citation, dict) else getattr(citation, "__dict__", {})
    url = known.get("url")
    return Source(url, known.get("title") or "") if url else None


@dataclass(eq=False)
class _StreamedCall:
    """A call as far as it has come."""

    index: int | None
    id: str = ""
    name: str = ""
    arguments: str = ""


def _collect(calls: list[_StreamedCall], part: ChoiceDeltaToolCall) -> Iterator[Piece]:
    """Add a piece of a call to the call it belongs to."""
    name = part.function.name if part.function is not None else None
    call = next((c for c in reversed(calls) if c.index == part.index), None)
    # Some servers give every call the index 0, or none, and tell them apart by their ids; some give no
    # ids either, but a call's name comes before its arguments.
    begins = (
        call is None
        or (part.id and call.id and part.id != call.id)
        or (name and call.arguments and not part.id)
    )
    if call is None or begins:
        call = _StreamedCall(part.index)
        calls.append(call)
    call.id = part.id or call.id
    call.name += name or ""
    place = calls.index(call)
    if begins or name:
        yield CallBegun(place, call.id, call.name)
    if part.function is not None and part.function.arguments:
        call.arguments += part.function.arguments
        yield CallInput(place, part.function.arguments)


def _usage(usage: CompletionUsage) -> Usage:
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        usage.prompt_tokens or 0,
        usage.completion_tokens or 0,
        (prompt and prompt.cached_tokens) or 0,
        (completion and completion.reasoning_tokens) or 0,
    )
