"""One completion of a language model: its pieces become frames."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from pipecat.frames.frames import (
    LLMThoughtEndFrame,
    LLMThoughtStartFrame,
    LLMThoughtTextFrame,
    MetricsFrame,
)
from pipecat.metrics.metrics import LLMTokenUsage, LLMUsageMetricsData

from ..pipeline.frames import Frame, LLMTextFrame, SourceFrame, ToolInputFrame
from .services.chat import Call, CallBegun, CallInput, Piece, Source, Thought, Usage


class Completion:
    """What has come of one completion.

    Args:
        push: Takes the frames.
        messages: What it answers; its calls get ids that none of them has.
        processor, model: For the metrics.

    Attributes:
        calls: The tool calls it asks for, by names and ids that a later request may have.
    """

    def __init__(
        self, push: Callable[[Frame], None], messages: list[Any], processor: str, model: str
    ) -> None:
        self.calls: list[Call] = []
        self._last_text = ""
        self._push = push
        self._processor, self._model = processor, model
        self._taken = {m.get("tool_call_id") for m in messages if isinstance(m, dict)}
        self._thinks = False
        self._written: list[tuple[str, str]] = []  # ids and names of the calls that were begun

    def take(self, piece: Piece) -> None:
        """Push what a piece is to the pipeline."""
        self._think(isinstance(piece, Thought))
        match piece:
            case str():
                self._last_text = piece
                self._push(LLMTextFrame(piece))
            case Thought():
                self._push(LLMThoughtTextFrame(piece.text))
            case Source():
                self._push(SourceFrame(piece.url, piece.title))
            case CallBegun():
                self._begin(piece.index, piece.id, piece.name)
            case CallInput():
                self._push(ToolInputFrame(*self._written[piece.index], piece.text))
            case Call():
                self._add(piece)
            case Usage():
                self._tell_usage(piece)

    def end(self) -> None:
        """There is no more."""
        self._think(False)

    def _think(self, thinks: bool) -> None:
        if thinks != self._thinks:
            self._thinks = thinks
            self._push(LLMThoughtStartFrame() if thinks else LLMThoughtEndFrame())

    def _begin(self, index: int, given_id: str, given_name: str) -> None:
        if self._last_text and not self._last_text.endswith("\n"):
            self.take("\n")  # so that what was said so far is spoken meanwhile
        # Some servers give no ids, or count from 0 in each answer.
        call_id = given_id if given_id and given_id not in self._taken else f"call_{uuid4().hex[:12]}"
        self._taken.add(call_id)
        # A name that breaks the rule would make each later request invalid.
        name = re.sub(r"[^A-Za-z0-9_-]", "_", given_name)[:64] or "unnamed"
        self._written[index : index + 1] = [(call_id, name)]
        self._push(ToolInputFrame(call_id, name, ""))

    def _add(self, call: Call) -> None:
        index = len(self.calls)
        if index == len(self._written):  # it comes as a whole
            self._begin(index, call.id, call.name)
            self._push(ToolInputFrame(*self._written[index], call.arguments))
        self.calls.append(Call(*self._written[index], call.arguments))

    def _tell_usage(self, usage: Usage) -> None:
        tokens = LLMTokenUsage(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            total_tokens=usage.prompt_tokens + usage.completion_tokens,
            cache_read_input_tokens=usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
        )
        data = LLMUsageMetricsData(processor=self._processor, model=self._model, value=tokens)
        self._push(MetricsFrame([data]))
