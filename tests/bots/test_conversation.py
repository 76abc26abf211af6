"""The default bot on real recordings and real models; only the language model's words are scripted."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest

from bargein.bots import Bot, RunningBot
from bargein.pipeline import Processor, Session, SpeechInterruptedFrame
from bargein.pipeline.frames import Frame, FrameDirection, LLMFullResponseEndFrame, LLMTextFrame, TTSTextFrame
from bargein.processors.context import INTERRUPTED_MARK, SPEECH_STOPPED_MARK, Context
from bargein.processors.local.moonshine import MoonshineSTT
from bargein.processors.local.worker_main import Header
from bargein.transports.file import RATE, FileTransport, Samples, load_recording

from ..servers.openai_server import Messages, OpenAIServer

# In virtual time the clock runs on while the models' processes live, but not while the loop waits for a core.
pytestmark = [pytest.mark.virtual_time, pytest.mark.local_models]

RECOGNITION_S = 0.13  # an utterance of 3 s, on an idle machine

DATA = Path(__file__).parent.parent / "data"
QUESTION = DATA / "sense_and_sensibility_01_austen_64kb-0880.wav"
INTERRUPTION = DATA / "sense_and_sensibility_01_austen_64kb-0890.wav"
LONG_ANSWER = (
    "Every morning the old sailor walked down to the harbor and counted the boats. "
    "There were seven of them, painted green and yellow, and none had left the shore for years. "
    "One day a young girl asked him why he counted boats that never sailed. "
    "He smiled and told her that someone had to remember their names."
)
SHORT_ANSWER = "All right, then tell me more about it."


def answers(messages: Messages) -> list[str]:
    """A long answer to the first question, a short one to those that follow."""
    first = sum(m["role"] == "user" for m in messages) == 1
    return re.findall(r"\s*\S+", LONG_ANSWER if first else SHORT_ANSWER)


class PatientClock:
    """The loop's clock, which stands still while the recogniser takes longer than on an idle machine."""

    def __init__(self, stt: MoonshineSTT) -> None:
        loop = asyncio.get_running_loop()
        self._clock, self._call = loop.time, stt.worker.call
        self._lost = 0.0  # s
        self._pending: list[float] = []  # when requests began that have no reply, ascending
        stt.worker.call = self.call  # type: ignore[method-assign]
        loop.time = self.time  # type: ignore[method-assign]

    def time(self) -> float:
        now = self._clock() - self._lost
        if self._pending and now > self._pending[0] + RECOGNITION_S:
            self._lost += now - (self._pending[0] + RECOGNITION_S)
            now = self._pending[0] + RECOGNITION_S
        return now

    async def call(self, header: Header, body: bytes = b"") -> tuple[Header, bytes]:
        began = self.time()
        self._pending.append(began)
        try:
            return await self._call(header, body)
        finally:
            self.time()
            self._pending.remove(began)


@dataclass
class Conversation:
    running: RunningBot
    stt: MoonshineSTT
    transport: FileTransport
    context: Context
    session: Session
    frames: list[tuple[float, Frame]] = field(default_factory=list)  # s into the recording

    def observe(self, frame: Frame, direction: FrameDirection, processor: Processor) -> None:
        self.frames.append((self.transport.seconds, frame))

    @property
    def said(self) -> list[str]:
        return [m["content"] for m in self.context.messages if m["role"] == "assistant"]

    async def transcribe(self, samples: Samples) -> str:
        utterance = self.stt.open(lambda text: None)
        utterance.feed(samples.tobytes())
        return await utterance.finish()


@asynccontextmanager
async def conversation(recording: Path) -> AsyncIterator[Conversation]:
    async with OpenAIServer().serving() as server:
        server.answer = answers
        server.token_s = 0.01
        llm = {"service": "openai", "model": "scripted", "base_url": server.base_url}
        bot = Bot(name="scripted", stt="local", llm=llm, tts="local")
        async with bot.open(max_sessions=1) as running:
            stt = running.shared.of(running.bot.declaration.stt)
            assert isinstance(stt, MoonshineSTT)
            PatientClock(stt)
            transport, context = FileTransport(load_recording(recording)), bot.new_context()
            with running.pipeline(transport.input, transport.output, context=context) as pipeline:
                async with Session(pipeline) as session:
                    talk = Conversation(running, stt, transport, context, session)
                    session.observe(talk.observe)
                    yield talk


def onset(samples: Samples) -> int:
    """Where a recording begins to sound: the first of three 10 ms blocks in a row over -40 dB of its peak."""
    blocks = np.abs(samples[: len(samples) // 160 * 160].astype(int)).reshape(-1, 160).max(axis=1)
    loud = blocks > blocks.max() / 100 * 5
    return 160 * int(np.flatnonzero(loud[:-2] & loud[1:-1] & loud[2:])[0])


def sounds(samples: Samples) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """For each 10 ms whether there is any sound in it."""
    blocks = np.abs(samples[: len(samples) // 160 * 160].astype(int)).reshape(-1, 160)
    return np.asarray(blocks.max(axis=1) > 100)


def heard_words(talk: Conversation) -> int:
    return sum(isinstance(f, TTSTextFrame) for _, f in talk.frames)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


async def test_another_voice_stops_the_bot_and_is_answered() -> None:
    async with conversation(QUESTION) as talk:
        interruption = load_recording(INTERRUPTION)
        talk.transport.input.after_bot_starts(1.5, interruption)
        await talk.transport.run(talk.session)
        _, bot = talk.transport.channels
        bot_sounds = sounds(bot)
        began = 10 * int(np.flatnonzero(bot_sounds)[0])  # ms
        voice = began + 1500 + 1000 * onset(interruption) // RATE
        # Silent 350 ms after the voice began, and as long as it goes on.
        spoken_until = began + 1500 + 1000 * len(interruption) // RATE
        assert bot_sounds[began // 10 : began // 10 + 100].any()
        assert not bot_sounds[voice // 10 + 35 : spoken_until // 10].any()
        # The context holds what is in the recording up to there, word for word.
        first, second = talk.said
        heard = first.removesuffix(INTERRUPTED_MARK)
        assert first == heard + INTERRUPTED_MARK
        assert LONG_ANSWER.startswith(heard)
        recorded = words(await talk.transcribe(bot[: spoken_until * RATE // 1000]))
        # A word that was cut in two may be recognised or not; a tiny recogniser may err on another.
        assert abs(len(recorded) - len(words(heard))) <= 2
        assert SequenceMatcher(None, recorded, words(heard)).ratio() >= 0.75
        # The second input was understood and answered aloud.
        assert "selfish" in talk.context.messages[3]["content"]
        assert second == SHORT_ANSWER
        assert bot_sounds[spoken_until // 10 :].sum() > 50
        reports = [f for _, f in talk.frames if isinstance(f, SpeechInterruptedFrame) and f.response_id]
        assert [(r.reason, r.heard) for r in reports] == [("user_speaking", heard)]


async def test_speech_only_stops_the_voice_while_the_text_goes_on() -> None:
    async with conversation(QUESTION) as talk:
        stopped_at = 0.0

        def stop_in_the_middle() -> None:
            nonlocal stopped_at
            if not stopped_at and heard_words(talk) == 12:
                stopped_at = talk.transport.seconds
                talk.session.interrupt_speech("user_clicked_stop")

        talk.transport.input.after_bot_starts(4, load_recording(INTERRUPTION))
        await talk.transport.run(talk.session, on_block=stop_in_the_middle)
        _, bot = talk.transport.channels
        bot_sounds = sounds(bot)
        stop = int(stopped_at * 100)
        second = next(t for t, f in talk.frames if isinstance(f, LLMTextFrame) and t > stopped_at + 1)
        assert not bot_sounds[stop + 4 : int(second * 100)].any()  # 15 ms fade, 20 ms block
        assert bot_sounds[int(second * 100) :].sum() > 50
        first, answer = talk.said
        heard, mark, rest = first.partition(SPEECH_STOPPED_MARK)
        assert mark
        assert heard + rest == LONG_ANSWER
        assert 0 < len(heard) < len(LONG_ANSWER)
        assert answer == SHORT_ANSWER
        assert sum(isinstance(f, LLMFullResponseEndFrame) for _, f in talk.frames) >= 2
