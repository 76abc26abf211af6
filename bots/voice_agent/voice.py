"""The bot's voice where there is no client: handed out as it is due to be played."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ...pipeline.frames import InterruptionFrame, SpeechOnlyInterruptionFrame
from ...transports.output import AudioOutput
from ...transports.websocket.pace import Pace

BLOCK_MS = 20


class HandedOut(AudioOutput):
    """Calls a function with each 20 ms of the voice, a little before they are due.

    Args:
        take: Gets mono s16le; from the first sound of a stretch of speech to its last without a gap.
        sample_rate: Hz.
    """

    def __init__(self, take: Callable[[bytes], None], sample_rate: int = 24_000) -> None:
        super().__init__(sample_rate)
        self._hand_out = take
        self._pace = Pace(self.playout, BLOCK_MS)

    async def start(self) -> None:
        await super().start()
        self.spawn(self._play(), f"{self.name}.play")

    def interrupted(self, frame: InterruptionFrame | SpeechOnlyInterruptionFrame) -> None:
        self._pace.clear(asyncio.get_running_loop().time())
        super().interrupted(frame)

    async def _play(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due = self._pace.take(clock())
            if due is None:
                await asyncio.sleep(self._pace.wait_s(clock()))
            else:
                self._hand_out(due[0])
