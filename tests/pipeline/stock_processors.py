"""Stock Pipecat processors and services for tests: what a bot would bring, with a mind of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import fields
from typing import Any

from pipecat.frames.frames import (
    Frame,
    FunctionCallFromLLM,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.settings import LLMSettings, TTSSettings

from bargein.pipeline.stock import InterruptibleTTSService, LLMService, TTSService


class StockPassing(FrameProcessor):
    """Lets everything pass, after `delay_s` for what is no system frame."""

    def __init__(self, delay_s: float = 0.0) -> None:
        super().__init__()
        self.delay_s = delay_s
        self.seen: list[Frame] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.seen.append(frame)
        if isinstance(frame, LLMTextFrame) and self.delay_s:
            await asyncio.sleep(self.delay_s)
        await self.push_frame(frame, direction)


class StockStubborn(FrameProcessor):
    """Takes `work_s` for each text, and pushes it late when it is cancelled meanwhile."""

    def __init__(self, work_s: float = 1.0, swallow_s: float = 3.0) -> None:
        super().__init__()
        self.work_s, self.swallow_s = work_s, swallow_s

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMTextFrame):
            try:
                await asyncio.sleep(self.work_s)
            except asyncio.CancelledError:
                await asyncio.sleep(self.swallow_s)
        await self.push_frame(frame, direction)


class StockReceiver(FrameProcessor):
    """Sends texts away; a receiver of its own pushes the answers, `delay_s` later.

    An interruption it takes to heart only after `forward_s`, right before it passes it on.
    """

    def __init__(self, delay_s: float = 0.5, forward_s: float = 0.0) -> None:
        super().__init__()
        self.delay_s = delay_s
        self.forward_s = forward_s
        self._sent: asyncio.Queue[tuple[float, str]] = asyncio.Queue()
        self._task: asyncio.Task[Any] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, StartFrame):
            self._task = self.create_task(self._receive())
        if isinstance(frame, InterruptionFrame) and self._task is not None:
            await asyncio.sleep(self.forward_s)
            await self.cancel_task(self._task)
            self._sent = asyncio.Queue()
            self._task = self.create_task(self._receive())
        if isinstance(frame, LLMTextFrame):
            loop = asyncio.get_running_loop()
            self._sent.put_nowait((loop.time() + self.delay_s, frame.text))
        else:
            await self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        await super().cleanup()  # type: ignore[no-untyped-call]
        if self._task is not None:
            await self.cancel_task(self._task)

    async def _receive(self) -> None:
        while True:
            at, text = await self._sent.get()
            await asyncio.sleep(max(0.0, at - asyncio.get_running_loop().time()))
            await self.push_frame(LLMTextFrame(text))


class StockVoice(TTSService):
    """A voice like those over HTTP: a character takes 50 ms of audio, made in `delay_s` a word."""

    def __init__(self, delay_s: float = 0.1, **kwargs: Any) -> None:
        super().__init__(
            push_start_frame=True,
            push_stop_frames=True,
            sample_rate=16_000,
            settings=TTSSettings(model="m", voice="v", language=None),
            **kwargs,
        )
        self.delay_s = delay_s
        self.spoken: list[str] = []

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        self.spoken.append(text)
        for word in text.split():
            await asyncio.sleep(self.delay_s)
            yield TTSAudioRawFrame(audio_of(word + " "), 16_000, 1, context_id=context_id)


class StockWordVoice(TTSService):
    """A voice like those over a websocket: a receiver puts audio and words into the context.

    Args:
        late: The words of a sentence come after all of its audio.
        careless: Audio goes on after the context was interrupted, by pushing it directly.
    """

    def __init__(self, delay_s: float = 0.1, *, late: bool = False, careless: bool = False) -> None:
        super().__init__(
            push_text_frames=False,
            sample_rate=16_000,
            settings=TTSSettings(model="m", voice="v", language=None),
        )
        self.delay_s, self.late, self.careless = delay_s, late, careless
        self.spoken: list[str] = []
        self._asked: asyncio.Queue[tuple[str, str | None]] = asyncio.Queue()
        self._receiver: asyncio.Task[Any] | None = None
        self._at: dict[str, float] = {}  # s of audio made, by context

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        self._receiver = self.create_task(self._receive())

    async def cleanup(self) -> None:
        await super().cleanup()  # type: ignore[no-untyped-call]
        if self._receiver is not None:
            await self.cancel_task(self._receiver)

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        self.spoken.append(text)
        if not self.audio_context_available(context_id):
            await self.create_audio_context(context_id)
            await self.append_to_audio_context(context_id, TTSStartedFrame(context_id=context_id))
        self._asked.put_nowait((context_id, text))
        yield None

    async def flush_audio(self, context_id: str | None = None) -> None:
        if context_id is not None:
            self._asked.put_nowait((context_id, None))

    async def _receive(self) -> None:
        while True:
            context_id, text = await self._asked.get()
            if text is None:
                await self.append_to_audio_context(context_id, TTSStoppedFrame(context_id=context_id))
                await self.remove_audio_context(context_id)
                continue
            words: list[tuple[str, float]] = []
            for word in text.split():
                await asyncio.sleep(self.delay_s)
                audio = TTSAudioRawFrame(audio_of(word + " "), 16_000, 1, context_id=context_id)
                at = self._at.get(context_id, 0.0)
                self._at[context_id] = at + len(audio.audio) / 32_000
                words.append((word, at))
                if not self.late:
                    await self.add_word_timestamps([words.pop()], context_id)
                if self.careless and not self.audio_context_available(context_id):
                    await self.push_frame(audio)
                await self.append_to_audio_context(context_id, audio)
            await self.add_word_timestamps(words, context_id)


class StockNamelessVoice(InterruptibleTTSService):
    """A voice over a connection that tells neither words nor ends, nor what its audio belongs to.

    Attributes:
        connections: How many were made; one speaks all it was asked to until it is closed.
    """

    def __init__(self, delay_s: float = 0.1, **kwargs: Any) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            push_start_frame=True,
            push_stop_frames=True,
            pause_frame_processing=True,
            sample_rate=16_000,
            settings=TTSSettings(model="m", voice="v", language=None),
            **kwargs,
        )
        self.delay_s = delay_s
        self.connections = 0
        self._asked: asyncio.Queue[str] = asyncio.Queue()
        self._receiver: asyncio.Task[Any] | None = None

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self._connect()

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        self._asked.put_nowait(text)
        yield None

    async def _connect(self) -> None:
        await super()._connect()  # type: ignore[no-untyped-call]
        await self._connect_websocket()

    async def _disconnect(self) -> None:
        await super()._disconnect()  # type: ignore[no-untyped-call]
        await self._disconnect_websocket()

    async def _connect_websocket(self) -> None:
        self.connections += 1
        self._asked = asyncio.Queue()
        self._receiver = self.create_task(self._receive_messages())

    async def _disconnect_websocket(self) -> None:
        if self._receiver is not None:
            await self.cancel_task(self._receiver)
            self._receiver = None

    async def _receive_messages(self) -> None:
        while True:
            for word in (await self._asked.get()).split():
                await asyncio.sleep(self.delay_s)
                context_id = self.get_active_audio_context_id()
                audio = TTSAudioRawFrame(audio_of(word + " "), 16_000, 1, context_id=context_id)
                await self.append_to_audio_context(context_id, audio)


class StockModel(LLMService):
    """Answers each context with the next of `answers`, a word each `delay_s`.

    An answer may be a call: a name and arguments.
    """

    def __init__(self, answers: Sequence[str | tuple[str, dict[str, Any]]], delay_s: float = 0.05) -> None:
        options: dict[str, Any] = {f.name: None for f in fields(LLMSettings) if f.init}
        super().__init__(settings=LLMSettings(**options))
        self.answers = list(answers)
        self.delay_s = delay_s
        self.asked: list[list[Any]] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMContextFrame):
            await self._answer(frame)
        else:
            await self.push_frame(frame, direction)

    async def _answer(self, frame: LLMContextFrame) -> None:
        self.asked.append([dict(m) if isinstance(m, dict) else m for m in frame.context.messages])
        answer = self.answers.pop(0)
        await self.push_frame(LLMFullResponseStartFrame())
        try:
            if isinstance(answer, tuple):
                call = FunctionCallFromLLM(answer[0], f"call_{len(self.asked)}", answer[1], frame.context)
                await self.run_function_calls([call])
                return
            for word in answer.split(" "):
                await asyncio.sleep(self.delay_s)
                await self._push_llm_text(word + " ")
        finally:
            await self.push_frame(LLMFullResponseEndFrame())


def audio_of(text: str) -> bytes:
    """50 ms of 16 kHz audio for each character."""
    return b"\x01\x01" * (800 * len(text))
