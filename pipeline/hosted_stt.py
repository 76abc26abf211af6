"""Hosting a stock speech-to-text service."""

from __future__ import annotations

import asyncio

from pipecat.frames.frames import EagerTranscriptionFrame, STTMetadataFrame

from .frames import (
    DOWNSTREAM,
    EndFrame,
    Frame,
    FrameDirection,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
)
from .host import Host

# How long a turn's last words are waited for when the service does not say how long it takes, s.
PATIENCE_S = 1.0


class HostedSTT(Host):
    """Lets the end of a turn pass behind the turn's last transcript, as our own STT does.

    It belongs behind the VAD and `Turn`. A service that hears the end of speech late would otherwise
    leave the turn without words, and the user without an answer.
    """

    tasks_inherit = False

    async def start(self) -> None:
        self._words_due = False  # speech or an interim transcript came, and no final one since
        self._held: UserStoppedSpeakingFrame | None = None
        self._timer: asyncio.TimerHandle | None = None  # while a frame is held
        self._patience = PATIENCE_S
        await super().start()

    async def stop(self) -> None:
        self._held = None
        self._release()
        await super().stop()

    def _emit(self, frame: Frame, direction: FrameDirection, new: bool) -> None:
        if isinstance(frame, STTMetadataFrame):
            self._patience = frame.ttfs_p99_latency or PATIENCE_S
        elif direction is not DOWNSTREAM:
            pass
        elif isinstance(frame, UserStoppedSpeakingFrame) and self._words_due:
            self._release()
            self._held = frame
            self._timer = asyncio.get_running_loop().call_later(self._patience, self._release)
            return
        elif isinstance(frame, VADUserStartedSpeakingFrame | EndFrame):
            self._release()
            self._words_due = True
        elif isinstance(frame, InterimTranscriptionFrame | EagerTranscriptionFrame):
            self._words_due = True
        super()._emit(frame, direction, new)
        if new and isinstance(frame, TranscriptionFrame):
            self._words_due = False
            self._release()

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held is not None:
            held, self._held = self._held, None
            self.push(held)
