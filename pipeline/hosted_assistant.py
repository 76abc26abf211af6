"""Hosting Pipecat's assistant aggregator: its context is to hold what was heard."""

from __future__ import annotations

from functools import partial

from .frames import FrameDirection, LLMFullResponseEndFrame, LLMTextFrame
from .host import Host
from .processor import handles
from .response import Response
from .work import Work, current_work


class HostedAssistant(Host):
    """Lets the aggregator write the words that were heard, behind an output of ours.

    Text that will be spoken reaches it for the context only as the words heard. An answer ends for it when
    the last of them has been heard, or when the rest, after a speech-only interruption, has been shown.
    """

    @handles(LLMTextFrame)
    def text(self, frame: LLMTextFrame, direction: FrameDirection) -> None:
        response = self.response
        if response is not None and self.session.voices and not response.silenced:
            frame.append_to_context = False
        self.take(frame, direction)

    @handles(LLMFullResponseEndFrame)
    def end(self, frame: LLMFullResponseEndFrame, direction: FrameDirection) -> None:
        response = self.response
        if response is None or response.finished:
            self.take(frame, direction)
        else:
            response.on_finished.append(partial(self._end, frame, direction, current_work.get()))

    def _end(
        self, frame: LLMFullResponseEndFrame, direction: FrameDirection, work: Work, response: Response
    ) -> None:
        if self._session is not None:
            self._give(frame, direction, work)
