"""The local models that one process shares between its sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from types import TracebackType
from typing import Any, Literal

from openai import AsyncOpenAI

from ..processors.local import LlamaServer, MoonshineSTT, PiperTTS, SileroVAD, SmartTurn

INSTRUCTIONS = (
    "You are a friendly voice assistant. Answer in plain spoken English, in one to three short sentences, "
    "without lists or markup."
)

LocalPart = Literal["ears", "stt", "llm", "tts"]


class LocalModels:
    """Loads the models on entering, ends their processes on leaving.

    Args:
        progress: Called with a line of text for each step.
        slots: Conversations the language model can answer at a time.
        parts: Which to load: "ears" are voice activity and end of turn. The others have no attribute.
        opening: How conversations begin, for the language model to have ready.

    Raises:
        LocalModelMissing: A package of the extra `[local]` is not installed.
    """

    stt: MoonshineSTT
    voice: PiperTTS
    smart_turn: SmartTurn
    llama: LlamaServer
    client: AsyncOpenAI

    def __init__(
        self,
        progress: Callable[[str], None],
        slots: int,
        parts: Collection[LocalPart],
        opening: list[dict[str, Any]],
    ) -> None:
        self._progress = progress
        self._opening = opening
        self._loading: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._closing: list[Callable[[], Coroutine[Any, Any, None]]] = []
        if "ears" in parts:
            self.smart_turn = SmartTurn()
            self._add("voice activity and end of turn", self._start_ears)
        if "stt" in parts:
            self.stt = MoonshineSTT()
            self._add("speech recognition (Moonshine tiny)", self.stt.start, self.stt.close)
        if "tts" in parts:
            self.voice = PiperTTS()
            self._add("voice (Piper, joe)", self.voice.start, self.voice.close)
        if "llm" in parts:
            self.llama = LlamaServer(slots=slots)
            self.client = AsyncOpenAI(
                base_url=self.llama.base_url,
                api_key="none",
                max_retries=0,
                default_headers=self.llama.headers,
            )
            self._add("language model (SmolLM2-135M)", self._start_llama, self.llama.close)

    async def __aenter__(self) -> LocalModels:
        try:
            await asyncio.gather(*(load() for load in self._loading))
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(close() for close in self._closing))

    def _add(
        self,
        name: str,
        start: Callable[[], Coroutine[Any, Any, None]],
        close: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        async def load() -> None:
            loop = asyncio.get_running_loop()
            began = loop.time()
            await start()
            self._progress(f"{name} ready in {loop.time() - began:.1f} s")

        self._loading.append(load)
        if close is not None:
            self._closing.append(close)

    async def _start_llama(self) -> None:
        self._closing.append(self.client.close)
        await self.llama.start()
        await self.llama.warm(self._opening)

        # The client imports much on its first request, for 0.1 s: now, not in somebody's conversation.
        await self.client.models.list()

    async def _start_ears(self) -> None:
        SileroVAD()  # loads what all instances share
        await self.smart_turn.start()
