"""Speech to text: partial transcripts while the user speaks, a final one for each turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from ..pipeline import BargeinError, Processor, handles
from ..pipeline.frames import (
    DOWNSTREAM,
    EagerTranscriptionFrame,
    EndFrame,
    Frame,
    FrameDirection,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    RecordingFrame,
    TranscriptionFrame,
    UserPausedFrame,
    UserResumedFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
)
from .services.fallback import Fallback

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
    """Pushes InterimTranscriptionFrames while the user speaks, and a TranscriptionFrame for each turn.

    It belongs behind the VAD and `Turn`. A turn is recognised as a whole: a recogniser that is given its
    pieces between pauses one by one mishears short ones. The work on the final transcript begins as soon
    as the user falls silent; it leaves before the turn's UserStoppedSpeakingFrame does. What the user said
    is never dropped by an interruption: both frames are uninterruptible.
    """

    def __init__(self, transcriber: Transcriber) -> None:
        self._transcriber = transcriber
        if isinstance(transcriber, Fallback):
            transcriber.users.add(self)
        self._pre_roll = bytearray()  # the last PRE_ROLL_MS before the turn
        self._utterance: Utterance | None = None  # open from the first speech of a turn to its end
        self._began = ""  # ISO time at which it was opened
        # While the user is silent in a turn: audio kept back, so that the snapshot stays the last word.
        self._kept_back: bytearray | None = None
        self._finishing: asyncio.Task[None] | None = None  # the last of the chain of final transcripts

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
        if self._utterance is None:
            self._began = datetime.now(UTC).isoformat()
            self._utterance = self._transcriber.open(self._partial)
            self._utterance.feed(bytes(self._pre_roll))
            self._pre_roll.clear()
        self._go_on()
        self.push(frame, direction)

    @handles(UserPausedFrame)
    def pause(self, frame: UserPausedFrame) -> None:
        if self._utterance is not None:
            self._kept_back = bytearray()
            self.spawn(self._look(self._utterance), f"{self.name}.look")
        self.push(frame)

    @handles(UserResumedFrame)
    def resume(self, frame: UserResumedFrame) -> None:
        self._go_on()
        self.push(frame)

    @handles(UserStoppedSpeakingFrame)
    def turn_ended(self, frame: UserStoppedSpeakingFrame, direction: FrameDirection) -> None:
        work = self._finish(self._close(), self._began, self._finishing, frame, direction)
        self._finishing = self.spawn(work, f"{self.name}.finish")

    @handles(RecordingFrame)
    def read(self, frame: RecordingFrame) -> None:
        self.spawn(self._read(frame), f"{self.name}.recording")

    @handles(EndFrame)
    async def end(self, frame: EndFrame) -> None:
        """What was being said when the session ends is transcribed too."""
        await self._finish(self._close(), self._began, self._finishing, frame, DOWNSTREAM)

    def _go_on(self) -> None:
        if self._utterance is not None and self._kept_back is not None:
            self._utterance.feed(bytes(self._kept_back))
        self._kept_back = None

    def _partial(self, text: str) -> None:
        if self._utterance is not None and text:
            frame = InterimTranscriptionFrame(text, "user", self._began)
            frame.interruptible = False
            self.push(frame)

    async def _look(self, utterance: Utterance) -> None:
        text = (await utterance.snapshot()).strip()
        if utterance is self._utterance:
            self._partial(text)
        if text and utterance is self._utterance and self._kept_back is not None:
            self.push(EagerTranscriptionFrame(text, "user", self._began))

    def _close(self) -> Utterance | None:
        """The turn is over: what comes now belongs to the next one."""
        utterance, self._utterance = self._utterance, None
        if self._kept_back is not None:  # the next turn may begin in it
            self._pre_roll, self._kept_back = self._kept_back, None
        return utterance

    async def _finish(
        self,
        utterance: Utterance | None,
        began: str,
        before: asyncio.Task[None] | None,
        last: Frame,
        direction: FrameDirection,
    ) -> None:
        """Push the transcript of a turn, then the frame that ended it; turns in their order."""
        text = ""
        try:
            if utterance is not None:
                text = await self._final(utterance)
        finally:
            if before is not None:
                await asyncio.wait([before])
            if text:
                frame = TranscriptionFrame(text, "user", began, finalized=True)
                frame.interruptible = False
                self.push(frame)
            self.push(last, direction)

    async def _read(self, frame: RecordingFrame) -> None:
        try:
            utterance = self._transcriber.open(lambda _: None)
            utterance.feed(frame.audio)
            # Nobody recognised anything of it while it was spoken.
            text = await self._final(utterance, FINISH_S + len(frame.audio) / 32_000)
        except Exception as error:
            if not frame.transcript.done():
                frame.transcript.set_exception(error)
        else:
            if not frame.transcript.done():
                frame.transcript.set_result(text)

    async def _final(self, utterance: Utterance, limit_s: float = FINISH_S) -> str:
        text: str | None = None
        try:
            async with asyncio.timeout(limit_s):
                text = (await utterance.finish()).strip()
        except TimeoutError as error:
            problem = f"no final transcript within {limit_s:.0f} s; is the recogniser up?"
            raise TranscriptionTimeout(problem) from error
        finally:
            if text is None:  # nobody waits for it any more
                utterance.cancel()
        return text
