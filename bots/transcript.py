"""A conversation as lines that a person reads while it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable

from pipecat.frames.frames import FunctionCallInProgressFrame

from ..pipeline import Level, Processor, Response, SpeechInterruptedFrame
from ..pipeline.frames import (
    ErrorFrame,
    Frame,
    FrameDirection,
    LLMTextFrame,
    SentenceFrame,
    TranscriptionFrame,
)
from ..pipeline.observing import Once


class Transcript:
    """An observer of a session.

    Args:
        line: Called with each line: what the user said, what the bot said and, where it was cut off,
            what was not heard of that, and what happened besides.
        partial: Called with the answer that is being made, as far as its text is known; "" when it is over.
    """

    def __init__(
        self, line: Callable[[str], None], partial: Callable[[str], None] = lambda text: None
    ) -> None:
        self._line = line
        self._partial = partial
        self._once = Once()
        self._texts: dict[str, str] = {}  # of answers that are not over, by response id
        self._spoken: set[str] = set()  # of those, the ones that are given to a voice

    def __call__(self, frame: Frame, direction: FrameDirection, processor: Processor) -> None:
        if not self._once.first(frame):
            return
        response = processor.response
        match frame:
            case TranscriptionFrame():
                self._line(f"you: {frame.text}")
            case LLMTextFrame() if response is not None and self._open(response):
                self._texts[response.id] += frame.text
                self._partial(self._texts[response.id])
            case SentenceFrame() if response is not None and self._open(response):
                self._spoken.add(response.id)
            case FunctionCallInProgressFrame():
                self._line(f"({frame.function_name} {json.dumps(frame.arguments, ensure_ascii=False)})")
            case SpeechInterruptedFrame():
                what = "interrupted" if frame.level is Level.FULL else "voice stopped"
                self._line(f"({what}: {frame.reason})")
            case ErrorFrame():
                self._line(f"(error: {frame.error})")

    def _open(self, response: Response) -> bool:
        """Whether it is not over; if it is new it is followed from now on."""
        if response.id not in self._texts and not response.finished:
            self._texts[response.id] = ""
            response.on_finished.append(self._finish)
        return response.id in self._texts

    def _finish(self, response: Response) -> None:
        text = self._texts.pop(response.id) or response.text
        if response.id in self._spoken:
            self._spoken.discard(response.id)
            unheard = text.removeprefix(response.heard).strip()
            text = response.heard + (f" [not heard: {unheard}]" if unheard else "")
        self._partial("")
        if text.strip():
            self._line(f"bot: {text.strip()}")
