"""What the models behind the `openai` client share: how they are made, and how a request is repeated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from .chat import Piece, ToolChoice
from .openai_client import Timeouts, service_name, with_timeouts
from .retry import Backoff, retrying_stream

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class OpenAIModel(ABC):
    """A `ChatModel` behind the `openai` client.

    A request that fails before anything of the answer came is repeated.

    Args:
        client: The `openai` client, for any base URL; the caller closes it. Its own timeouts and repeated
            attempts do not count.
        model: The model's name at that server.
        timeouts: How long the server may be silent.
        backoff: How failed requests are repeated.
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
        **options: Any,
    ) -> None:
        self.model = model
        self.service = service_name(client, model)
        self._timeouts = timeouts or Timeouts()
        self._client = with_timeouts(client, self._timeouts)
        self._backoff = backoff
        self._options = self._defaults | options

    def stream(
        self,
        messages: Sequence[Any],
        tools: Sequence[dict[str, Any]] = (),
        tool_choice: ToolChoice = "auto",
    ) -> AsyncGenerator[Piece, None]:
        """See `ChatModel.stream`."""
        request = {"model": self.model, "stream": True, **self._options, **self._asked(messages, tools)}
        if tools and tool_choice != "auto":
            request["tool_choice"] = tool_choice
        return retrying_stream(lambda: self._pieces(request), service=self.service, backoff=self._backoff)

    @abstractmethod
    def _asked(self, messages: Sequence[Any], tools: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Messages and tools as fields of the request."""

    @abstractmethod
    def _pieces(self, request: dict[str, Any]) -> AsyncGenerator[Piece, None]:
        """One attempt."""
