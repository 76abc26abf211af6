"""OpenAI's speech over the real client: closed at both levels, nothing stale, faults told apart."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from openai import AsyncOpenAI

from bargein.pipeline import Level, SpeechInterruptedFrame
from bargein.pipeline.frames import (
    UPSTREAM,
    BotStoppedSpeakingFrame,
    ErrorFrame,
    TTSSpeakFrame,
    TTSTextFrame,
)
from bargein.pipeline.testing import PipelineTest, regex
from bargein.processors.context import Context
from bargein.processors.services import openai_tts
from bargein.processors.services.errors import KeyRejected, RateLimited, ServiceUnavailable
from bargein.processors.services.openai_tts import OpenAIVoice
from bargein.processors.tts import TTS, Sentences, SpeechChunk
from bargein.transports.output import AudioOutput

from ...servers.faults import Fault
from ...servers.openai_audio import KEY, OpenAIAudioServer, voice_of
from ..fakes import playing

pytestmark = pytest.mark.real_time

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen."


@asynccontextmanager
async def speaking(key: str = KEY) -> AsyncIterator[tuple[OpenAIAudioServer, OpenAIVoice]]:
    async with OpenAIAudioServer().serving() as server:
        client = AsyncOpenAI(api_key=key, base_url=server.base_url)
        try:
            yield server, OpenAIVoice(client, instructions="Speak calmly.")
        finally:
            await client.close()


class Bot:
    """Says texts with a voice; its output is played."""

    def __init__(self, voice: OpenAIVoice) -> None:
        self.context = Context("Be brief.")
        self.output = AudioOutput(16_000)
        self.played = bytearray()
        self.test = PipelineTest(self.context.assistant, Sentences(), TTS(voice), self.output)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PipelineTest]:
        async with self.test as test, playing(self.output, self.played):
            yield test


async def pcm_of(voice: OpenAIVoice, text: str) -> bytes:
    return b"".join([chunk.pcm async for chunk in voice.synthesize(text)])


async def collect(speech: AsyncGenerator[SpeechChunk, None], came: list[bytes]) -> None:
    async for chunk in speech:
        came.append(chunk.pcm)  # noqa: PERF401 - what came is wanted although it raises


async def learn_pace(voice: OpenAIVoice) -> None:
    """Let it speak until its pace is known, so that it matters little how fast the audio comes."""
    for _ in range(15):
        await pcm_of(voice, LONG)


async def test_the_audio_is_the_servers_to_the_sample() -> None:
    async with speaking() as (server, voice):
        assert await pcm_of(voice, "Hello you there.") == voice_of("Hello you there.")
        body = server.spoken[0].body
        assert (body["voice"], body["instructions"], body["response_format"]) == (
            "marin",
            "Speak calmly.",
            "pcm",
        )
        assert await server.spoken[0].outcome == "finished"


async def test_text_without_a_word_asks_for_nothing() -> None:
    async with speaking() as (server, voice):
        assert await pcm_of(voice, " - ") == b""
        assert server.spoken == []


async def test_each_word_is_told_at_its_share_of_the_audio() -> None:
    """The server takes 20 ms a character."""
    async with speaking() as (_, voice):
        await learn_pace(voice)
        words = [word async for chunk in voice.synthesize(LONG) for word in chunk.words]
        assert [LONG[w.start : w.end] for w in words] == LONG.split(" ")
        assert [w.end_s for w in words] == pytest.approx([w.end * 0.02 for w in words], abs=0.05)


async def test_what_was_heard_of_a_sentence_is_known_without_word_times() -> None:
    async with speaking() as (_, voice):
        await learn_pace(voice)
        bot = Bot(voice)
        async with bot.running() as test:
            test.send(TTSSpeakFrame(LONG))
            while "five" not in "".join(f.text for f in test.received(TTSTextFrame)):
                await test.advance(0.02)
            test.interrupt()
            report = await test.expect(SpeechInterruptedFrame)
        heard_s = sum(1 for b in bot.played[::2] if b) / 16_000
        assert len(report.heard) * 0.02 == pytest.approx(heard_s, abs=0.25)


@pytest.mark.parametrize("level", list(Level))
async def test_an_interruption_closes_the_response_at_the_server_and_the_next_turn_speaks(
    level: Level,
) -> None:
    async with speaking() as (server, voice):
        server.chunk_s = 0.02
        bot = Bot(voice)
        async with bot.running() as test:
            test.send(TTSSpeakFrame(LONG))
            await server.arrived.wait()
            while not any(bot.played):
                await test.advance(0.02)
            (test.interrupt if level is Level.FULL else test.interrupt_speech)()
            await test.expect(SpeechInterruptedFrame, level=level)
            assert await server.spoken[0].outcome == "closed"
            assert server.spoken[0].sent < len(voice_of(LONG))
            await test.advance(0.1)
            sounded = len(bot.played)
            await test.advance(0.3)
            assert not any(bot.played[sounded:])
            server.chunk_s = 0.0
            test.skip()
            test.send(TTSSpeakFrame("Yes please."))
            await test.expect(BotStoppedSpeakingFrame)
        assert server.spoken[1].body["input"] == "Yes please."
        assert bot.context.messages[-1]["content"] == "Yes please."


@pytest.mark.parametrize("level", list(Level))
async def test_an_interruption_before_the_first_audio_closes_the_request(level: Level) -> None:
    async with speaking() as (server, voice):
        server.speech_faults.plan(Fault.HANG)
        bot = Bot(voice)
        async with bot.running() as test:
            test.send(TTSSpeakFrame(LONG))
            await server.arrived.wait()
            (test.interrupt if level is Level.FULL else test.interrupt_speech)()
            assert await server.spoken[0].outcome == "closed"
            test.skip()
            test.send(TTSSpeakFrame("Yes please."))
            await test.expect(BotStoppedSpeakingFrame)
        assert len(server.spoken) == 2


@pytest.mark.parametrize("fault", [Fault.BROKEN, Fault.RATE_LIMITED])
async def test_what_may_pass_is_tried_again(fault: Fault) -> None:
    async with speaking() as (server, voice):
        server.speech_faults.plan(fault)
        assert await pcm_of(voice, "Hello.") == voice_of("Hello.")
        assert len(server.refused) == 1


@pytest.mark.parametrize(
    ("fault", "error"), [(Fault.BROKEN, ServiceUnavailable), (Fault.RATE_LIMITED, RateLimited)]
)
async def test_what_does_not_pass_is_given_up(fault: Fault, error: type[Exception]) -> None:
    async with speaking() as (server, voice):
        server.speech_faults.plan(*[fault] * 10)
        with pytest.raises(error, match="OpenAI speech"):
            await pcm_of(voice, "Hello.")
        assert 1 < len(server.refused) < 5


async def test_a_wrong_key_is_not_tried_again_and_not_shown() -> None:
    async with speaking("sk-wrong") as (server, voice):
        with pytest.raises(KeyRejected, match="OPENAI_API_KEY") as raised:
            await pcm_of(voice, "Hello.")
        assert server.refused == [401]
        assert "sk-" not in str(raised.value)


async def test_nothing_is_said_twice_when_the_connection_is_cut() -> None:
    async with speaking() as (server, voice):
        server.speech_faults.plan(Fault.CUT)
        came: list[bytes] = []
        with pytest.raises(ServiceUnavailable):
            await collect(voice.synthesize(LONG), came)
        assert any(came)
        assert voice_of(LONG).startswith(b"".join(came))
        assert len(server.spoken) == 1


async def test_a_server_that_hangs_is_given_up_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_tts, "SILENCE_S", 0.5)
    async with speaking() as (server, voice):
        server.speech_faults.plan(Fault.HANG)
        assert await pcm_of(voice, "Hello.") == voice_of("Hello.")
        assert await server.spoken[0].outcome == "closed"


async def test_a_page_of_text_is_not_played() -> None:
    async with speaking() as (server, voice):
        server.speech_faults.plan(Fault.GARBAGE)
        assert await pcm_of(voice, "Hello.") == voice_of("Hello.")
        server.speech_faults.plan(*[Fault.GARBAGE] * 5)
        with pytest.raises(ServiceUnavailable, match="text/html"):
            await pcm_of(voice, "Hello.")


async def test_a_slow_server_is_waited_for() -> None:
    async with speaking() as (server, voice):
        server.speech_faults.plan(Fault.SLOW)
        assert await pcm_of(voice, "Hello you.") == voice_of("Hello you.")


async def test_leaving_early_closes_the_response() -> None:
    async with speaking() as (server, voice):
        server.chunk_s = 0.02
        async with aclosing(voice.synthesize(LONG)) as speech:
            await anext(speech)
        assert await server.spoken[0].outcome == "closed"


async def test_a_failure_is_told_and_the_next_sentence_is_spoken() -> None:
    async with speaking() as (server, voice):
        server.speech_faults.plan(Fault.CUT)
        bot = Bot(voice)
        async with bot.running() as test:
            test.send(TTSSpeakFrame(LONG))
            await test.expect(ErrorFrame, UPSTREAM, error=regex("OpenAI speech"))
            test.send(TTSSpeakFrame("Yes please."))
            while "Yes please." not in [m["content"] for m in bot.context.messages]:
                await test.advance(0.05)
