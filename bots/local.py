"""The local models that one process shares between its sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any

from openai import AsyncOpenAI

from ..processors.context import Context
from ..processors.local import LlamaServer, MoonshineSTT, PiperTTS, SileroVAD, SmartTurn

INSTRUCTIONS = (
    "You are a friendly voice assistant. Answer in plain spoken English, in one to three short sentences, "
    "without lists or markup."
)


def new_context() -> Context:
    """A conversation that has not begun."""
    return Context(INSTRUCTIONS)


class LocalModels:
    """Loads the models on entering, ends their processes on leaving.

    Args:
        progress: Called with a line of text for each step.
        slots: Conversations the language model can answer at a time.

    Raises:
        LocalModelMissing: A package of the extra `[local]` is not installed.
    """

    def __init__(self, progress: Callable[[str], None] = lambda line: None, slots: int = 2) -> None:
        self._progress = progress
        self.stt = MoonshineSTT()
        self.voice = PiperTTS()
        self.smart_turn = SmartTurn()
        self.llama = LlamaServer(slots=slots)
        self.client = AsyncOpenAI(
            base_url=self.llama.base_url,
            api_key="none",
            max_retries=0,
            default_headers=self.llama.headers,
        )

    async def __aenter__(self) -> LocalModels:
        try:
            await asyncio.gather(
                self._load("speech recognition (Moonshine tiny)", self.stt.start()),
                self._load("voice (Piper, joe)", self.voice.start()),
                self._load("language model (SmolLM2-135M)", self._start_llama()),
                self._load("voice activity and end of turn", self._start_ears()),
            )
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.close()
        await asyncio.gather(self.stt.close(), self.voice.close(), self.llama.close())

    async def _start_llama(self) -> None:
        await self.llama.start()
        await self.llama.warm(new_context().messages)

        # The client imports much on its first request, for 0.1 s: now, not in somebody's conversation.
        await self.client.models.list()

    async def _start_ears(self) -> None:
        SileroVAD()  # loads what all instances share
        await self.smart_turn.start()

    async def _load(self, name: str, loading: Coroutine[Any, Any, None]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await loading
        self._progress(f"{name} ready in {loop.time() - began:.1f} s")
