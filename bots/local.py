"""The local models that one process shares between its sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from contextvars import Context
from types import TracebackType
from typing import Any, Literal

from loguru import logger
from openai import AsyncOpenAI

from ..processors.local import (
    LlamaServer,
    LocalModelError,
    MoonshineSTT,
    PiperTTS,
    SileroVAD,
    SmartTurn,
)

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
        parts: Which to load: "ears" are voice activity and end of turn.
        opening: How conversations begin, for the language model to have ready.
        stand_ins: Which to load when they are likely to be needed. Models that are in neither have no
            attribute.

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
        stand_ins: Collection[LocalPart] = (),
    ) -> None:
        self._progress = progress
        self._opening = opening
        self._parts = parts
        self._load: dict[LocalPart, Callable[[], Coroutine[Any, Any, float]]] = {}
        self._names: dict[LocalPart, str] = {}
        self._loading: dict[LocalPart, asyncio.Task[None]] = {}  # stand-ins, once it has begun
        self._closing: list[Callable[[], Coroutine[Any, Any, None]]] = []
        if "ears" in parts:
            self.smart_turn = SmartTurn()
            self._add("ears", "voice activity and end of turn", self._start_ears)
        parts = {*parts, *stand_ins}
        if "stt" in parts:
            self.stt = MoonshineSTT()
            self._add("stt", "speech recognition (Moonshine tiny)", self.stt.start, self.stt.close)
        if "tts" in parts:
            self.voice = PiperTTS()
            self._add("tts", "voice (Piper, joe)", self.voice.start, self.voice.close)
        if "llm" in parts:
            self.llama = LlamaServer(slots=slots)
            self.client = AsyncOpenAI(
                base_url=self.llama.base_url,
                api_key="none",
                max_retries=0,
                default_headers=self.llama.headers,
            )
            self._add("llm", "language model (SmolLM2-135M)", self._start_llama, self.llama.close)

    async def __aenter__(self) -> LocalModels:
        try:
            await asyncio.gather(*(self._load_at_once(part) for part in self._load if part in self._parts))
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._loading.values():
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)
        await asyncio.gather(*(close() for close in self._closing))

    def load_stand_ins(self) -> None:
        """Begin to load what is not loaded yet, and was not begun; returns at once."""
        for part in self._load.keys() - self._parts:
            begun = self._loading.get(part)
            if begun is None or (begun.done() and (begun.cancelled() or begun.exception())):
                # In an empty context: it outlives the turn that needs it, and its interruptions.
                work = self._load_in_background(part)
                self._loading[part] = asyncio.create_task(work, name=f"load {part}", context=Context())

    async def loaded(self, part: LocalPart) -> None:
        """Wait until a model is loaded.

        Raises:
            LocalModelError: It cannot be; the next call tries again.
        """
        if part not in self._parts:
            self.load_stand_ins()
            await asyncio.shield(self._loading[part])

    async def _load_at_once(self, part: LocalPart) -> None:
        seconds = await self._load[part]()
        self._progress(f"{self._names[part]} ready in {seconds:.1f} s")

    async def _load_in_background(self, part: LocalPart) -> None:
        logger.info("{} is loaded, to stand in", self._names[part])
        try:
            seconds = await self._load[part]()
        except LocalModelError as error:
            logger.error("{} could not be loaded: {}", self._names[part], error)
            raise
        logger.info("{} ready in {:.1f} s", self._names[part], seconds)

    def _add(
        self,
        part: LocalPart,
        name: str,
        start: Callable[[], Coroutine[Any, Any, None]],
        close: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        async def load() -> float:
            loop = asyncio.get_running_loop()
            began = loop.time()
            await start()
            return loop.time() - began

        self._load[part], self._names[part] = load, name
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
