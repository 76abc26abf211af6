"""Speech to text: partial transcripts while the user speaks, a final one at each pause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from ..pipeline import BargeinError, Processor, handles
from ..pipeline.frames import (
    EndFrame,
    FrameDirection,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    UserPausedFrame,
    UserResumedFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)

# Audio from before the VAD's start that is transcribed too, so that no onset is cut, ms. The VAD takes
# about 100 ms to be sure; soft onsets begin well before it.
PRE_ROLL_MS = 500


# A final transcript that takes longer is given up, s: the user is waiting.
FINISH_S = 10.0


class TranscriptionTimeout(BargeinError, TimeoutError):
    """Raised when a recogniser does not deliver a final transcript in time."""


class Transcriber(Protocol):
    """A recogniser that is given audio as it is spoken."""

    def open(self, on_partial: Callable[[str], None]) -> Utterance:
        """Begin an utterance; `on_partial` gets its text so far, in the event loop's thread."""
        ...


class Utterance(Protocol):
    """One stretch of speech being recognised."""

    def feed(self, pcm: bytes) -> None:
        """Take 16 kHz mono s16le audio; returns at once."""
        ...

    async def snapshot(self) -> str:
        """The text of all that was fed so far, as good as a final one; more may be fed afterwards."""
        ...

    async def finish(self) -> str:
        """The text of all that was fed; at once when nothing was fed since a snapshot."""
        ...

    def cancel(self) -> None:
        """Give the utterance up."""
        ...


class STT(Processor):
    """Pushes InterimTranscriptionFrames, and a TranscriptionFrame for each stretch between pauses.

    What the user said is never dropped by an interruption: both frames are uninterruptible. All final
    transcripts of a turn leave before its UserStoppedSpeakingFrame does. The work on a final transcript
    begins when the user falls silent, before the VAD is sure of it.
    """

    def __init__(self, transcriber: Transcriber) -> None:
        self._transcriber = transcriber
        self._pre_roll = bytearray()
        self._utterance: Utterance | None = None  # open while the VAD hears speech
        # After a pause began: audio kept back, so that the snapshot taken then stays the last word.
        self._kept_back: bytearray | None = None
        self._finishing: asyncio.Task[None] | None = None  # the last of the chain of final transcripts
        self._began = ""  # ISO time at which the utterance began

    async def stop(self) -> None:
        if self._utterance is not None:
            self._utterance.cancel()

    @handles(InputAudioRawFrame)
    def listen(self, frame: InputAudioRawFrame, direction: FrameDirection) -> None:
        if self._kept_back is not None:
            self._kept_back += frame.audio
        elif self._utterance is not None:
            self._utterance.feed(frame.audio)
        else:
            self._pre_roll += frame.audio
            del self._pre_roll[: -int(PRE_ROLL_MS * frame.sample_rate / 1000) * 2]
        self.push(frame, direction)

    @handles(VADUserStartedSpeakingFrame)
    def begin(self, frame: VADUserStartedSpeakingFrame, direction: FrameDirection) -> None:
        self._began = datetime.now(UTC).isoformat()
        self._utterance = self._transcriber.open(self._partial)
        self._utterance.feed(bytes(self._pre_roll))
        self._pre_roll.clear()
        self.push(frame, direction)

    @handles(UserPausedFrame)
    def pause(self, frame: UserPausedFrame) -> None:
        if self._utterance is not None:
            self._kept_back = bytearray()
            self.spawn(self._prepare(self._utterance), f"{self.name}.prepare")
        self.push(frame)

    @handles(UserResumedFrame)
    def resume(self, frame: UserResumedFrame) -> None:
        if self._utterance is not None and self._kept_back is not None:
            self._utterance.feed(bytes(self._kept_back))
        self._kept_back = None
        self.push(frame)

    @handles(VADUserStoppedSpeakingFrame)
    def close(self, frame: VADUserStoppedSpeakingFrame, direction: FrameDirection) -> None:
        if self._kept_back is not None:  # what comes next may begin in it
            self._pre_roll[:], self._kept_back = self._kept_back, None
        if self._utterance is not None:
            work = self._finish(self._utterance, self._began, self._finishing)
            self._utterance = None
            self._finishing = self.spawn(work, f"{self.name}.finish")
        self.push(frame, direction)

    @handles(UserStoppedSpeakingFrame)
    async def turn_ended(self, frame: UserStoppedSpeakingFrame, direction: FrameDirection) -> None:
        if self._finishing is not None:
            await asyncio.wait([self._finishing])
        self.push(frame, direction)

    @handles(EndFrame)
    async def end(self, frame: EndFrame) -> None:
        """What was being said when the session ends is transcribed too."""
        if self._utterance is not None:
            utterance, self._utterance = self._utterance, None
            await self._finish(utterance, self._began, self._finishing)
        elif self._finishing is not None:
            await asyncio.wait([self._finishing])
        self.push(frame)

    def _partial(self, text: str) -> None:
        if self._utterance is not None and text:
            frame = InterimTranscriptionFrame(text, "user", self._began)
            frame.interruptible = False
            self.push(frame)

    @staticmethod
    async def _prepare(utterance: Utterance) -> None:
        await utterance.snapshot()

    async def _finish(self, utterance: Utterance, began: str, before: asyncio.Task[None] | None) -> None:
        try:
            async with asyncio.timeout(FINISH_S):
                text = (await utterance.finish()).strip()
        except TimeoutError as error:
            raise TranscriptionTimeout(
                f"no final transcript within {FINISH_S} s; is the recogniser up?"
            ) from error
        if before is not None:  # transcripts leave in the order in which they were spoken
            await asyncio.wait([before])
        if text:
            frame = TranscriptionFrame(text, "user", began, finalized=True)
            frame.interruptible = False
            self.push(frame)
