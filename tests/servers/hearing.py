"""What the stand-ins for streaming recognisers share: a toy language heard word by word, with faults."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from .faults import Fault, heard
from .provider import Line, Provider


class HearingProvider(Provider):
    """Hears words made by `faults.spoken`: each while it is spoken, all of them when they are asked for.

    Attributes:
        result_s: How long a result takes, s.
        finalized: The texts given each time they were asked for, empty ones too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.result_s = 0.0
        self.finalized: list[str] = []


class HearingLine(Line):
    """One connection to a recogniser.

    Attributes:
        garbage: What is sent instead of the protocol.
    """

    garbage: dict[str, Any]

    def __init__(self, provider: HearingProvider, request: web.Request) -> None:
        super().__init__(provider, request)
        self._provider = provider
        self._rate = int(self.query["sample_rate"])
        self._sound = bytearray()  # since the last final result
        self._told = 0  # words of it
        self._results: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    def result(self, text: str, *, final: bool) -> dict[str, Any]:
        """A result as it is on the wire."""
        raise NotImplementedError

    async def opened(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._answer())

    def closed(self) -> None:
        assert self._task is not None
        self._task.cancel()

    def hear(self, sound: bytes) -> None:
        """Take sound; a result follows when it makes another word."""
        self._sound += sound
        words = heard(bytes(self._sound), self._rate)
        if len(words) > self._told:
            self._told = len(words)
            self._results.put_nowait(self.result(" ".join(words), final=False))

    def finalize(self) -> None:
        """Give what was heard, for good."""
        text = " ".join(heard(bytes(self._sound), self._rate))
        self._sound.clear()
        self._told = 0
        self._provider.finalized.append(text)
        self._provider.note()
        self._results.put_nowait(self.result(text, final=True))

    async def _answer(self) -> None:
        while True:
            result = await self._results.get()
            await asyncio.sleep(self._provider.result_s)
            fault = self._provider.faults.take()
            if fault is Fault.CUT:
                self.cut()
            if fault is Fault.GARBAGE:
                await self.send(self.garbage)
            if fault is not Fault.HANG:
                await self.send(result)
