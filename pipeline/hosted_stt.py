"""Hosting a stock speech-to-text service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import partial

from pipecat.frames.frames import (
    EagerTranscriptionFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    STTMetadataFrame,
)

from .frames import (
    DOWNSTREAM,
    UPSTREAM,
    EndFrame,
    Frame,
    FrameDirection,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from .host import Host
from .stock import LLMUserAggregator, SegmentedSTTService, UserTurnProcessor
from .work import ROOT, Work

# How long a turn's last words are waited for when the service does not say how long it takes, s.
PATIENCE_S = 1.0
# And when it has the turn's last segment and is certain to come back with its words, or without any, s.
# Pipecat's own turn-taking waits as long.
SEGMENT_PATIENCE_S = 5.0


class HostedSTT(Host):
    """Lets the end of a turn pass behind the turn's last transcript, as our own STT does.

    It belongs behind the VAD and `Turn`. A service that hears the end of speech late would otherwise
    leave the turn without words, and the user without an answer. Words that are later than that end the
    turn once more.

    A service that tells turns itself decides where nobody else does: no turn comes from before it, and no
    aggregator of Pipecat's behind it resolves what it proposes. Then it stands for the VAD, too, if there
    is none.
    """

    tasks_inherit = False

    async def start(self) -> None:
        # Whether words are to come. A stream of them: speech or an interim transcript came, and no final
        # one since. Segment by segment: how many segments of speech are not transcribed.
        self._due = 0
        self._segmented = isinstance(self.stock, SegmentedSTTService)
        self._held: UserStoppedSpeakingFrame | None = None
        self._timer: asyncio.TimerHandle | None = None  # while a frame is held
        self._patience = SEGMENT_PATIENCE_S if self._segmented else PATIENCE_S
        self._gave_up = False  # the turn has ended without words, which may still come
        self._came_late = False  # and have
        self._decides = not any(_resolves(host) for host in self.session.processors)
        self._in_turn = False  # that it has decided
        self._has_vad = False  # before it
        self._speaking = False  # as it has told in the place of one
        if isinstance(self.stock, SegmentedSTTService):
            transcribe = partial(self._transcribe, self.stock.run_stt)
            self.stock.run_stt = transcribe  # type: ignore[method-assign]
        await super().start()

    async def stop(self) -> None:
        self._held = None
        self._gave_up = False
        self._release()
        await super().stop()
        vars(self.stock).pop("run_stt", None)

    def _work_of(self, frame: Frame) -> Work:
        """What the user does is part of no answer, so no interruption makes it stale."""
        return ROOT

    def _emit(self, frame: Frame, direction: FrameDirection, new: bool) -> None:
        if self._decides and isinstance(
            frame, ProposedUserStartedSpeakingFrame | ProposedUserStoppedSpeakingFrame
        ):
            if direction is DOWNSTREAM:  # it comes both ways
                self._decide(isinstance(frame, ProposedUserStartedSpeakingFrame))
            return
        if isinstance(frame, STTMetadataFrame):
            if not self._segmented:
                self._patience = frame.ttfs_p99_latency or PATIENCE_S
        elif direction is not DOWNSTREAM:
            pass
        elif isinstance(frame, UserStoppedSpeakingFrame) and self._due:
            self._release()
            self._held = frame
            self._timer = asyncio.get_running_loop().call_later(self._patience, self._give_up)
            return
        elif isinstance(frame, UserStartedSpeakingFrame):
            self._decides = False
        elif isinstance(frame, VADUserStartedSpeakingFrame):
            self._has_vad = True
            self._speech_began()
        elif isinstance(frame, EndFrame):
            self._speech_began()
        elif isinstance(frame, InterimTranscriptionFrame | EagerTranscriptionFrame):
            if not self._segmented:
                self._due = 1
        elif isinstance(frame, VADUserStoppedSpeakingFrame) and self._segmented:
            self._due += 1
        if new and isinstance(frame, TranscriptionFrame) and frame.finalized:
            self._speech_ended()
        super()._emit(frame, direction, new)
        if new and isinstance(frame, TranscriptionFrame):
            self._came_late = self._gave_up
            if not self._segmented:
                self._due = 0
                self._settle()

    def _decide(self, begins: bool) -> None:
        """A turn begins or ends as the service says."""
        if begins == self._in_turn:
            return
        if begins:
            self._speech_began()
            if not self._has_vad:
                self._speaking = True
                self.broadcast(VADUserStartedSpeakingFrame)
            self.broadcast(UserStartedSpeakingFrame)
        else:
            self._speech_ended()
            up, down = UserStoppedSpeakingFrame(), UserStoppedSpeakingFrame()
            up.broadcast_sibling_id, down.broadcast_sibling_id = down.id, up.id
            self.push(up, UPSTREAM)
            self._emit(down, DOWNSTREAM, False)
        self._in_turn = begins

    def _speech_began(self) -> None:
        """What is held belongs to the turn before."""
        self._release()
        self._gave_up = False
        if not self._segmented:
            self._due = 1

    def _speech_ended(self) -> None:
        """In a turn of the service's own: with its last words at the latest."""
        if self._speaking:
            self._speaking = False
            self.broadcast(VADUserStoppedSpeakingFrame)

    async def _transcribe(
        self, transcribe: Callable[[bytes], AsyncGenerator[Frame | None, None]], audio: bytes
    ) -> AsyncGenerator[Frame | None, None]:
        """One segment, to its end: it may have no words, or several transcripts."""
        try:
            async for frame in transcribe(audio):
                yield frame
        finally:
            self._due = max(0, self._due - 1)
            if not self._due:
                self._settle()

    def _settle(self) -> None:
        """No more words are due."""
        self._release()
        if self._came_late and self._gave_up:
            self.push(UserStoppedSpeakingFrame())
        self._gave_up = self._came_late = False

    def _give_up(self) -> None:
        self._gave_up = True
        self._release()

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held is not None:
            held, self._held = self._held, None
            self.push(held)


def _resolves(processor: object) -> bool:
    """Whether it turns what services propose into turns."""
    parts = processor._parts if isinstance(processor, Host) else ()
    return any(isinstance(part, LLMUserAggregator | UserTurnProcessor) for part in parts)
