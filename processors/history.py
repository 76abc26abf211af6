"""How much of a conversation the model is shown: the newest messages that fit, calls with their results."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .contents import parts_of

Message = dict[str, Any]

PICTURE_TOKENS = 1_000  # about what a picture of 640 x 480 takes; providers differ by a factor of ten


def characters(message: Message) -> int:
    """The characters of a message's text and tool calls; pictures have none."""
    texts = (part.get("text", "") for part in parts_of(message.get("content")))
    return sum(map(len, texts)) + len(str(message.get("tool_calls", "")))


def estimate_tokens(message: Message) -> int:
    """A quarter of a message's characters, which is what English text takes with common tokenizers.

    A picture counts as `PICTURE_TOKENS`.
    """
    about = sum(len(str(value)) for name, value in message.items() if name not in ("content", "tool_calls"))
    pictures = sum(1 for part in parts_of(message.get("content")) if part["type"] != "text")
    return math.ceil((about + characters(message)) / 4) + pictures * PICTURE_TOKENS


@dataclass(frozen=True)
class Limits:
    """How long a history may grow.

    Attributes:
        max_messages: Messages, besides the system prompt; None for no limit.
        max_tokens: Tokens of all messages, the system prompt included; None for no limit.
        count_tokens: Counts a message's tokens.

    Raises:
        ValueError: A limit is less than 1.
    """

    max_messages: int | None = None
    max_tokens: int | None = None
    count_tokens: Callable[[Message], int] = estimate_tokens

    def __post_init__(self) -> None:
        for limit in (self.max_messages, self.max_tokens):
            if limit is not None and limit < 1:
                raise ValueError(f"a limit of {limit} leaves nothing to answer; give 1 or more, or None")

    def trim(self, messages: Sequence[Message]) -> list[Message]:
        """The messages without the oldest, so that the rest fits.

        An assistant message with tool calls stays or goes together with their results. What must stay,
        stays even if it is over the limits: the system prompt, the last question of the user, and the
        newest message. After a cut the history begins with a question, because an answer without one
        says little and some models' templates refuse it.
        """
        prompt = next((i for i, m in enumerate(messages) if not _is_instruction(m)), len(messages))
        units = units_of(messages[prompt:])
        question = max((i for i, unit in enumerate(units) if role_of(unit[0]) == "user"), default=-1)
        count = len(messages) - prompt
        tokens = 0 if self.max_tokens is None else sum(map(self.count_tokens, messages))
        kept: list[Message] = list(messages[:prompt])
        for index, unit in enumerate(units):
            begins_well = index == 0 or index > question or role_of(unit[0]) == "user"
            if self._fits(count, tokens) and begins_well:
                return kept + [m for unit in units[index:] for m in unit]
            if index in (question, len(units) - 1):
                kept += unit
                continue
            count -= len(unit)
            tokens -= 0 if self.max_tokens is None else sum(map(self.count_tokens, unit))
        return kept

    def _fits(self, count: int, tokens: int) -> bool:
        return (self.max_messages is None or count <= self.max_messages) and (
            self.max_tokens is None or tokens <= self.max_tokens
        )


def units_of(messages: Sequence[Message]) -> list[list[Message]]:
    """Messages that stay or go together."""
    units: list[list[Message]] = []
    for message in messages:
        if role_of(message) == "tool" and units:
            units[-1].append(message)
        else:
            units.append([message])
    return units


def _is_instruction(message: Message) -> bool:
    return role_of(message) in ("system", "developer")


def role_of(message: Message) -> str:
    """Whose message it is."""
    return str(message["role"])


__all__ = ["Limits", "Message", "characters", "estimate_tokens", "role_of", "units_of"]
