"""What a language model is to the rest of bargein."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call the model asks for, complete.

    Attributes:
        id: The provider's, or "" where it gives none.
        name: As the model gave it; there may be no such tool.
        arguments: As the model gave them: JSON, if all is well.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a completion cost, in tokens, as the provider counts."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


# One piece of a completion: text as it is generated; calls and the usage come at the end.
Piece = str | Call | Usage

ToolChoice = Literal["auto", "none"]


class ChatModel(Protocol):
    """A language model that streams its answers.

    Attributes:
        model: Its name at the provider.
        service: The provider and the model, as a person would call it, for logs and errors.
    """

    @property
    def model(self) -> str: ...
    @property
    def service(self) -> str: ...

    def stream(
        self,
        messages: Sequence[Any],
        tools: Sequence[dict[str, Any]] = (),
        tool_choice: ToolChoice = "auto",
    ) -> AsyncGenerator[Piece, None]:
        """Complete a conversation; closing the generator closes the connection, at any point.

        Args:
            messages: As in chat completions; not changed.
            tools: As in chat completions (`Tools.schemas`).
            tool_choice: "none" forbids calls although the tools are known.

        Raises:
            ServiceError: No answer came, or it broke off; named by condition.
        """
        ...
