"""A conversation as Pipecat's services read it, with what their providers want to be given back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from pipecat.processors.aggregators.llm_context import LLMContext, LLMContextMessage, LLMSpecificMessage

from .history import Message, role_of, units_of


@dataclass(frozen=True)
class _Note:
    """What one provider wants back: a thought, or the signature of one."""

    message: LLMSpecificMessage
    behind: Message  # its place
    leads: bool  # to what follows it, and is nothing without that


class PipecatContext(LLMContext):
    """Messages in OpenAI's format, and the notes of providers, which are not among them.

    Pipecat's adapters expect the layout of Pipecat's aggregators: each call is a message of its own with
    its result behind it. Of a message with calls most of them drop the text, and Gemini's puts the results
    of several calls where Google does not accept them. So services read the messages in that layout, while
    `messages` are what was written.
    """

    def __init__(self, messages: list[Message]) -> None:
        super().__init__(cast("list[LLMContextMessage]", messages))
        self._notes: list[_Note] = []

    def note(self, message: LLMSpecificMessage, *, leads: bool = False) -> None:
        """Keep what a provider wants back behind what is the last message now.

        Args:
            message: In the provider's own format.
            leads: It belongs before the answer that comes next, and goes with it.
        """
        written = cast("list[Message]", self._messages)
        self._notes = [n for n in self._notes if any(n.behind is m for m in written)]
        self._notes.append(_Note(message, written[-1], leads))

    def begin_answer(self) -> None:
        """Forget what led to an answer of which nothing is left."""
        last = self._messages[-1] if self._messages else None
        self._notes = [n for n in self._notes if not (n.leads and n.behind is last)]

    def get_messages(
        self, llm_specific_filter: str | None = None, *, truncate_large_values: bool = False
    ) -> list[LLMContextMessage]:
        """The messages: laid out for a service if it names its provider, else as they were written."""
        if llm_specific_filter is None:
            return super().get_messages(truncate_large_values=truncate_large_values)
        laid_out = LLMContext(list(self._lay_out(llm_specific_filter)))
        return laid_out.get_messages(llm_specific_filter, truncate_large_values=truncate_large_values)

    def _lay_out(self, provider: str) -> Iterator[Any]:
        units = units_of(cast("list[Message]", self._messages))
        for index, (head, *results) in enumerate(units):
            answered = index + 1 < len(units) and role_of(units[index + 1][0]) == "assistant"
            calls = head.get("tool_calls")
            if not calls:
                yield head
                yield from self._notes_behind(head, provider, leads=answered)
                continue
            if head.get("content"):
                yield {"role": "assistant", "content": head["content"]}
            yield from self._notes_behind(head, provider, leads=True)
            result_of = {result["tool_call_id"]: result for result in results}
            for call in calls:
                yield {"role": "assistant", "tool_calls": [call]}
                if call["id"] in result_of:
                    yield result_of[call["id"]]
            for last in results[-1:]:
                yield from self._notes_behind(last, provider, leads=answered)

    def _notes_behind(self, message: Message, provider: str, *, leads: bool) -> Iterator[LLMSpecificMessage]:
        for note in self._notes:
            if note.behind is message and note.message.llm == provider and (leads or not note.leads):
                yield note.message


__all__ = ["PipecatContext"]
