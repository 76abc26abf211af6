"""What a language model is to the rest of bargein."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of what the model thinks before it answers. It is not spoken."""

    text: str


@dataclass(frozen=True, slots=True)
class Source:
    """Something on the web that the model says it has used."""

    url: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class CallBegun:
    """The model begins to write a tool call. Should it come again, the call is written anew.

    Attributes:
        index: The call's place among those of the completion, from 0.
        id: The provider's, or "" where it gives none.
        name: As the model gave it.
    """

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallInput:
    """The next characters of a call's arguments."""

    index: int
    text: str


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


# One piece of a completion: text as it is generated, and whatever else the provider tells on the way; the
# calls, in their order, and the usage come at the end.
Piece = str | Thought | Source | CallBegun | CallInput | Call | Usage


def is_answer(piece: Piece) -> bool:
    """Whether it cannot be taken back: what only announces an answer may come again, and differently."""
    return not isinstance(piece, Thought | CallBegun | CallInput)


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
            messages: As in chat completions; not changed. If the last one is the assistant's, the answer goes
                on behind it, and does not say it again.
            tools: As in chat completions (`Tools.schemas`).
            tool_choice: "none" forbids calls although the tools are known.

        Raises:
            ServiceError: No answer came, or it broke off; named by condition.
        """
        ...
