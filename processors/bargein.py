"""Barge-in: the user speaks, the bot stops."""

from __future__ import annotations

import asyncio

from ..pipeline import Processor, Reason, handles
from ..pipeline.frames import FrameDirection, VADUserStartedSpeakingFrame


class BargeIn(Processor):
    """Interrupts the session whenever the VAD hears the user begin to speak.

    Put it right behind the VAD. The report's milliseconds count from the onset of the speech.
    """

    @handles(VADUserStartedSpeakingFrame)
    def speech_began(self, frame: VADUserStartedSpeakingFrame, direction: FrameDirection) -> None:
        onset = asyncio.get_running_loop().time() - frame.start_secs
        self.session.interrupt(Reason.USER_SPEAKING, cause=onset)
        self.push(frame, direction)
