"""How long a conversation may last, with and without anybody saying anything."""

from __future__ import annotations

import asyncio

from loguru import logger
from pipecat.frames.frames import LLMMessagesAppendFrame
from pipecat.processors.frameworks.rtvi.frames import RTVIServerMessageFrame

from ..pipeline import Processor, handles
from ..pipeline.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    FrameDirection,
    StartFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)


class ConversationLimits(Processor):
    """Ends the session, what is being said to its end, when a limit is reached. It belongs first.

    Clients that speak RTVI are told why.

    Args:
        max_duration_s: Since the session began, s; None for no limit.
        idle_timeout_s: Since anybody last said or wrote anything, s; None for no limit.
    """

    def __init__(self, max_duration_s: float | None = None, idle_timeout_s: float | None = None) -> None:
        self._max_duration_s = max_duration_s
        self._idle_timeout_s = idle_timeout_s
        self._active_at = 0.0  # loop time, s
        self._speaking = 0  # of user and bot, how many speak

    @handles(StartFrame)
    def begin(self, frame: StartFrame) -> None:
        self.push(frame)
        self._note()
        if self._max_duration_s is not None:
            self.spawn(self._end_at(self._max_duration_s), f"{self.name}.duration")
        if self._idle_timeout_s is not None:
            self.spawn(self._end_when_idle(self._idle_timeout_s), f"{self.name}.idle")

    @handles(UserStartedSpeakingFrame, BotStartedSpeakingFrame)
    def starts(self, frame: Frame, direction: FrameDirection) -> None:
        self._speaking += 1
        self.push(frame, direction)

    @handles(UserStoppedSpeakingFrame, BotStoppedSpeakingFrame)
    def stops(self, frame: Frame, direction: FrameDirection) -> None:
        self._speaking = max(0, self._speaking - 1)
        self._note()
        self.push(frame, direction)

    @handles(LLMMessagesAppendFrame)
    def writes(self, frame: LLMMessagesAppendFrame) -> None:
        self._note()
        self.push(frame)

    def _note(self) -> None:
        self._active_at = asyncio.get_running_loop().time()

    async def _end_at(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._end(f"it has lasted {seconds:g} s")

    async def _end_when_idle(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        while (left := self._active_at + seconds - loop.time()) > 0:
            await asyncio.sleep(left)
            if self._speaking or self.session.responding:
                self._note()
        self._end(f"nobody has said anything for {seconds:g} s")

    def _end(self, reason: str) -> None:
        logger.info("the conversation ends: {}", reason)
        self.push(RTVIServerMessageFrame({"type": "ending", "reason": reason}))
        self.session.end()
