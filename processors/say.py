"""A given text as an answer of the bot."""

from __future__ import annotations

from ..pipeline.frames import (
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSSpeakFrame,
)
from .wellformed import wellformed


def as_answer(
    frame: TTSSpeakFrame,
) -> tuple[LLMFullResponseStartFrame, LLMTextFrame, LLMFullResponseEndFrame]:
    """The frames of an answer that consists of this text; uninterruptible if the frame is."""
    start, end = LLMFullResponseStartFrame(), LLMFullResponseEndFrame()
    text = LLMTextFrame(wellformed(frame.text))
    text.append_to_context = frame.append_to_context
    start.interruptible = text.interruptible = end.interruptible = frame.interruptible
    return start, text, end
