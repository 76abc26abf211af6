"""Language models behind OpenAI's responses API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, ClassVar

from .chat import Call, CallBegun, CallInput, Piece, Thought, Usage
from .errors import broken_off
from .openai_chat import source_in
from .openai_client import events, to_the_end
from .openai_model import OpenAIModel

if TYPE_CHECKING:
    from openai.types.responses import ResponseUsage


class Responses(OpenAIModel):
    """A model behind the responses API. The provider keeps nothing of the conversation (`store=False`).

    Thoughts come as the provider sums them up, if `reasoning={"summary": "auto"}` asks for it.
    """

    _defaults: ClassVar[dict[str, Any]] = {"store": False}

    def _asked(self, messages: Sequence[Any], tools: Sequence[dict[str, Any]]) -> dict[str, Any]:
        instructions, rest = _instructions(messages)
        asked: dict[str, Any] = {"input": list(_items(rest))}
        if instructions:
            asked["instructions"] = instructions
        if tools:
            # Strict schemas may have no optional parameters.
            asked["tools"] = [{"type": "function", "strict": False, **t["function"]} for t in tools]
        return asked

    async def _pieces(self, request: dict[str, Any]) -> AsyncGenerator[Piece, None]:
        calls: list[Call] = []
        places: list[int] = []  # of the calls, among all that the response puts out
        ended = False
        usage: ResponseUsage | None = None
        stream = events(lambda: self._client.responses.create(**request), self._timeouts)
        async with aclosing(to_the_end(stream, lambda: ended)) as told:
            async for event in told:
                match getattr(event, "type", None):
                    case "response.output_text.delta" | "response.refusal.delta":
                        yield event.delta
                    case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                        yield Thought(event.delta)
                    case "response.output_text.annotation.added":
                        if source := source_in(event.annotation):
                            yield source
                    case "response.output_item.added" if event.item.type == "function_call":
                        places.append(event.output_index)
                        yield CallBegun(len(places) - 1, event.item.call_id, event.item.name)
                    case "response.function_call_arguments.delta" if event.output_index in places:
                        yield CallInput(places.index(event.output_index), event.delta)
                    case "response.output_item.done" if event.item.type == "function_call":
                        calls.append(Call(event.item.call_id, event.item.name, event.item.arguments))
                    case "response.completed" | "response.incomplete":
                        ended = True
                        usage = event.response.usage
                    case "response.failed":
                        error = event.response.error
                        raise broken_off(self.service, (error and error.code) or "", error and error.message)
                    case "error":
                        raise broken_off(self.service, event.code or "", event.message)
        if not ended:
            raise broken_off(self.service, "", "")
        for call in calls:
            yield call
        if usage is not None:
            yield _usage(usage)


def _instructions(messages: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """The system prompt, if the conversation begins with one, and the rest."""
    if messages and messages[0]["role"] == "system" and isinstance(messages[0]["content"], str):
        return messages[0]["content"], messages[1:]
    return "", messages


def _items(messages: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Chat messages as input items: calls and their results are items of their own."""
    for message in messages:
        role = message["role"]
        if role == "tool":
            call_id = message["tool_call_id"]
            yield {"type": "function_call_output", "call_id": call_id, "output": message["content"]}
            continue
        if message.get("content"):
            yield {"role": role, "content": _content(message["content"], role)}
        for call in message.get("tool_calls") or ():
            yield {"type": "function_call", "call_id": call["id"], **call["function"]}


def _content(content: str | list[dict[str, Any]], role: str) -> str | list[dict[str, Any]]:
    return content if isinstance(content, str) else [_part(part, role) for part in content]


def _part(part: dict[str, Any], role: str) -> dict[str, Any]:
    match part["type"]:
        case "text":
            return {"type": "output_text" if role == "assistant" else "input_text", "text": part["text"]}
        case "image_url":
            image = part["image_url"]
            return {
                "type": "input_image",
                "image_url": image["url"],
                "detail": image.get("detail", "auto"),
            }
        case _:
            return part


def _usage(usage: ResponseUsage) -> Usage:
    read, written = usage.input_tokens_details, usage.output_tokens_details
    return Usage(
        usage.input_tokens or 0,
        usage.output_tokens or 0,
        (read and read.cached_tokens) or 0,
        (written and written.reasoning_tokens) or 0,
    )
