"""What the models behind the `openai` client share: how they are made, and how a request is repeated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, ClassVar

from ..wellformed import wellformed
from .chat import Piece, ToolChoice, is_answer
from .continuing import GO_ON, Answer, Filled, Repeated, beginning, behind
from .openai_client import Timeouts, service_name, with_timeouts
from .retry import Backoff, retrying_stream

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class OpenAIModel(ABC):
    """A `ChatModel` behind the `openai` client.

    A request that fails is repeated; one that breaks off in its answer is followed by one for the rest.

    Args:
        client: The `openai` client, for any base URL; the caller closes it. Its own timeouts and repeated
            attempts do not count.
        model: The model's name at that server.
        timeouts: How long the server may be silent.
        backoff: How failed requests are repeated.
        fills_in: Whether the server goes on with a last message of the assistant's at its next character, as
            llama.cpp does. Others are told to go on, and what they say again is left out.
        options: Further arguments of the request, such as `temperature`.

    Attributes:
        model: As given.
        service: The provider and the model.
    """

    _defaults: ClassVar[dict[str, Any]]  # of the options

    def __init__(
        self,
        client: AsyncOpenAI,
        model: str,
        *,
        timeouts: Timeouts | None = None,
        backoff: Backoff | None = None,
        fills_in: bool = False,
        **options: Any,
    ) -> None:
        self.model = model
        self.service = service_name(client, model)
        self._timeouts = timeouts or Timeouts()
        self._client = with_timeouts(client, self._timeouts)
        self._backoff = backoff
        self._fills_in = fills_in
        self._options = self._defaults | options

    def stream(
        self,
        messages: Sequence[Any],
        tools: Sequence[dict[str, Any]] = (),
        tool_choice: ToolChoice = "auto",
    ) -> AsyncGenerator[Piece, None]:
        """See `ChatModel.stream`."""
        answer = Answer(messages)
        return retrying_stream(
            lambda: answer.follow(self._attempt(answer.messages, tools, tool_choice)),
            service=self.service,
            backoff=self._backoff,
            counts=is_answer,
            can_go_on=answer.can_go_on,
        )

    def _attempt(
        self, messages: Sequence[Any], tools: Sequence[dict[str, Any]], tool_choice: ToolChoice
    ) -> AsyncGenerator[Piece, None]:
        conversation, said = beginning(messages)
        if said:
            conversation = [*conversation, {"role": "assistant", "content": said.rstrip()}]
            if not self._fills_in:
                conversation.append({"role": "user", "content": GO_ON})
        request = {"model": self.model, "stream": True, **self._options, **self._asked(conversation, tools)}
        if tools and tool_choice != "auto":
            request["tool_choice"] = tool_choice
        pieces = _whole(self._pieces(request))
        return behind(Filled(said) if self._fills_in else Repeated(said), pieces) if said else pieces

    @abstractmethod
    def _asked(self, messages: Sequence[Any], tools: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Messages and tools as fields of the request."""

    @abstractmethod
    def _pieces(self, request: dict[str, Any]) -> AsyncGenerator[Piece, None]:
        """One attempt."""


async def _whole(pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
    """The same, where a character of two UTF-16 units came in halves, as some servers cut emoji."""
    half = ""
    async with aclosing(pieces):
        async for piece in pieces:
            if not isinstance(piece, str):
                yield piece
                continue
            text = half + piece
            half = text[-1] if "\ud800" <= text[-1:] <= "\udbff" else ""
            if text := wellformed(text.removesuffix(half)):
                yield text
