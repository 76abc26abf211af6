"""Turns of the user: when one begins, and when it is over."""

from __future__ import annotations

import asyncio
from typing import Protocol

from loguru import logger

from ..pipeline import Processor, handles
from ..pipeline.frames import (
    FrameDirection,
    InputAudioRawFrame,
    LikelyEndOfTurnFrame,
    UserPausedFrame,
    UserResumedFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)

# What an end-of-turn model looks at: Smart Turn takes the last 8 s.
HISTORY_S = 8.0


class EndOfTurn(Protocol):
    """A model that hears whether somebody has finished speaking."""

    async def probability(self, pcm: bytes) -> float:
        """How likely the turn in `pcm` (16 kHz mono s16le) is complete, 0 to 1."""
        ...


class Turn(Processor):
    """Pushes UserStartedSpeakingFrame and UserStoppedSpeakingFrame both ways, from the VAD's frames, and
    a LikelyEndOfTurnFrame as soon as the end is probable.

    A pause ends the turn when the model says that it is complete, or after a longer silence in any case:
    no model may keep a user waiting for ever.

    Args:
        model: Hears whether a turn is complete; without it only silence decides.
        threshold: Probability from which a turn is complete.
        silence_ms: Silence, counted from the VAD's stop, that ends a turn whatever the model says.
    """

    def __init__(
        self, model: EndOfTurn | None = None, *, threshold: float = 0.5, silence_ms: float = 1500
    ) -> None:
        self._model = model
        self._threshold = threshold
        self._silence_ms = silence_ms
        self._audio = bytearray()  # what the model will look at, 16 kHz mono s16le
        self._in_turn = False
        # The model's verdict on the audio up to the pause, begun when the pause did.
        self._verdict: asyncio.Task[None] | None = None
        self._complete = False  # that verdict
        self._ending: asyncio.Task[None] | None = None  # waits whether the pause ends the turn

    @handles(InputAudioRawFrame)
    def listen(self, frame: InputAudioRawFrame, direction: FrameDirection) -> None:
        self._audio += frame.audio
        del self._audio[: -int(HISTORY_S * frame.sample_rate) * 2]
        self.push(frame, direction)

    @handles(VADUserStartedSpeakingFrame)
    def speech_began(self, frame: VADUserStartedSpeakingFrame, direction: FrameDirection) -> None:
        self.push(frame, direction)
        self._forget_verdict()
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        if not self._in_turn:
            self._in_turn = True
            self.broadcast(UserStartedSpeakingFrame)

    @handles(UserPausedFrame)
    def pause_began(self, frame: UserPausedFrame) -> None:
        self._judge()
        self.push(frame)

    @handles(UserResumedFrame)
    def pause_ended(self, frame: UserResumedFrame) -> None:
        self._forget_verdict()
        self.push(frame)

    @handles(VADUserStoppedSpeakingFrame)
    def speech_stopped(self, frame: VADUserStoppedSpeakingFrame, direction: FrameDirection) -> None:
        self.push(frame, direction)
        if self._in_turn:
            self._ending = self.spawn(self._end(), f"{self.name}.end")

    def _judge(self) -> None:
        if self._model is not None and self._in_turn:
            work = self._ask(self._model, bytes(self._audio))
            self._verdict = self.spawn(work, f"{self.name}.verdict")

    def _forget_verdict(self) -> None:
        if self._verdict is not None:
            self._verdict.cancel()
            self._verdict = None

    async def _ask(self, model: EndOfTurn, pcm: bytes) -> None:
        self._complete = False
        try:
            self._complete = await model.probability(pcm) >= self._threshold
            if self._complete:
                self.push(LikelyEndOfTurnFrame())
        except Exception as error:
            logger.opt(exception=error).warning("{}: end-of-turn model failed, silence decides", self.name)

    async def _is_complete(self, by: float) -> bool:
        """The verdict, no if there is none by this loop time (s)."""
        verdict = self._verdict
        if verdict is None:
            return False
        await asyncio.wait([verdict], timeout=by - asyncio.get_running_loop().time())
        return verdict.done() and self._complete

    async def _end(self) -> None:
        loop = asyncio.get_running_loop()
        over = loop.time() + self._silence_ms / 1000
        if not await self._is_complete(over):
            self._judge()  # it hears more of the silence now
            if not await self._is_complete(over):
                await asyncio.sleep(over - self._silence_ms / 2000 - loop.time())
                self.push(LikelyEndOfTurnFrame())
                await asyncio.sleep(over - loop.time())
        self._forget_verdict()
        self._in_turn, self._ending = False, None
        self._audio.clear()
        self.broadcast(UserStoppedSpeakingFrame)
