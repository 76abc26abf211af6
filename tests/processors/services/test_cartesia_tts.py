"""Cartesia's voices over the real client: contexts cancelled at both levels, exact words, every fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from cartesia import AsyncCartesia
from openai import AsyncOpenAI

from bargein.pipeline import Level, SpeechInterruptedFrame
from bargein.pipeline.frames import UPSTREAM, BotStoppedSpeakingFrame, ErrorFrame, TTSSpeakFrame, TTSTextFrame
from bargein.pipeline.testing import PipelineTest, regex
from bargein.processors.context import INTERRUPTED_MARK, SPEECH_STOPPED_MARK, Context
from bargein.processors.services import cartesia_tts
from bargein.processors.services.cartesia_tts import CartesiaVoice
from bargein.processors.services.errors import KeyRejected, RateLimited, ServiceUnavailable
from bargein.processors.services.fallback_speech import FallbackVoice
from bargein.processors.services.openai_tts import OpenAIVoice
from bargein.processors.tts import TTS, Sentences, SpeechChunk, Synthesizer
from bargein.transports.output import AudioOutput

from ...servers.cartesia_server import CHARACTER_MS, KEY, SPEECH_RATE, CartesiaServer, Timed
from ...servers.faults import Fault, until
from ...servers.openai_audio import KEY as OPENAI_KEY
from ...servers.openai_audio import OpenAIAudioServer
from ..fakes import playing

pytestmark = pytest.mark.real_time

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen."


@asynccontextmanager
async def speaking(key: str = KEY) -> AsyncIterator[tuple[CartesiaServer, CartesiaVoice]]:
    async with CartesiaServer().serving() as server:
        client = AsyncCartesia(api_key=key, base_url=server.base_url, websocket_base_url=server.websocket_url)
        voice = CartesiaVoice(client, "a-voice", language="en")
        try:
            yield server, voice
        finally:
            await voice.close()
            await client.close()


class Bot:
    """Says texts with a voice; its output is played."""

    def __init__(self, voice: Synthesizer) -> None:
        self.context = Context("Be brief.")
        self.output = AudioOutput(16_000)
        self.played = bytearray()
        self.test = PipelineTest(self.context.assistant, Sentences(), TTS(voice), self.output)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PipelineTest]:
        async with self.test as test, playing(self.output, self.played):
            yield test

    async def heard(self, word: str) -> None:
        """Wait until a word has been heard."""
        while (await self.test.expect(TTSTextFrame)).text.strip() != word:
            pass

    @property
    def answers(self) -> list[str]:
        return [m["content"] for m in self.context.messages if m["role"] == "assistant"]


async def seconds_of(voice: CartesiaVoice, text: str) -> float:
    return sum([len(chunk.pcm) async for chunk in voice.synthesize(text)]) / 2 / SPEECH_RATE


async def collect(speech: AsyncGenerator[SpeechChunk, None], came: list[bytes]) -> None:
    async for chunk in speech:
        came.append(chunk.pcm)  # noqa: PERF401 - what came is wanted although it raises


async def test_all_audio_comes_with_the_times_of_its_words() -> None:
    async with speaking() as (server, voice):
        samples = 0
        words: list[tuple[str, float]] = []
        async for chunk in voice.synthesize("Well, I know three things."):
            for word in chunk.words:
                assert word.end_s <= (samples + len(chunk.pcm) // 2) / SPEECH_RATE + 1e-9
                words.append(("Well, I know three things."[: word.end], word.end_s))
            samples += len(chunk.pcm) // 2
        assert samples == len("Well, I know three things.") * CHARACTER_MS * SPEECH_RATE // 1000
        assert words == [
            ("Well,", 0.12),
            ("Well, I", 0.16),
            ("Well, I know", 0.26),
            ("Well, I know three", 0.38),
            ("Well, I know three things.", 0.52),
        ]
        request = server.contexts[0].request
        assert (request["language"], request["voice"]) == ("en", {"mode": "id", "id": "a-voice"})
        assert await server.contexts[0].outcome == "finished"


async def test_words_read_otherwise_than_written_move_on_with_the_next_one() -> None:
    def as_read(text: str) -> list[list[Timed]]:
        return [[("it", 0, 0.1), ("costs", 0.1, 0.2)], [("twenty", 0.2, 0.3), ("dollars", 0.3, 0.4)],
                [("to", 0.4, 0.5), ("day", 0.5, 0.6)]]  # fmt: skip

    async with speaking() as (server, voice):
        server.timed = as_read
        text = "It costs $20 to-day!"
        ends = [text[: w.end] async for chunk in voice.synthesize(text) for w in chunk.words]
        assert ends == ["It", "It costs", "It costs $20 to", "It costs $20 to-day!"]


async def test_words_told_after_their_audio_are_heard_where_they_are_spoken() -> None:
    async with speaking() as (server, voice):
        server.words_last = True
        bot = Bot(voice)
        async with bot.running() as test:
            test.send(TTSSpeakFrame(LONG))
            await bot.heard("four")
            test.interrupt()
            report = await test.expect(SpeechInterruptedFrame)
            heard_s = sum(1 for b in bot.played[::2] if b) / 16_000
        words = LONG.split(" ")
        heard = report.heard.split(" ")
        assert heard == words[: len(heard)]
        until_next = len(" ".join(words[: len(heard) + 1])) * CHARACTER_MS / 1000
        assert len(report.heard) * CHARACTER_MS / 1000 <= heard_s + 0.02
        assert heard_s <= until_next + 0.1  # a block, and the fade


async def test_all_sentences_of_all_sessions_share_one_socket() -> None:
    async with speaking() as (server, voice):
        server.word_s = 0.01
        took = await asyncio.gather(
            *[seconds_of(voice, text) for text in ("One two.", "Three four.", "Five.")]
        )
        assert took == [
            pytest.approx(len(t) * CHARACTER_MS / 1000) for t in ("One two.", "Three four.", "Five.")
        ]
        assert len(server.connections) == 1
        assert len({context.request["context_id"] for context in server.contexts}) == 3


@pytest.mark.parametrize("level", list(Level))
async def test_an_interruption_cancels_the_context_and_late_audio_is_not_heard(level: Level) -> None:
    async with speaking() as (server, voice):
        server.word_s, server.late = 0.08, True
        bot = Bot(voice)
        async with bot.running() as test:
            test.send(TTSSpeakFrame(LONG))
            await bot.heard("two")
            (test.interrupt if level is Level.FULL else test.interrupt_speech)()
            report = await test.expect(SpeechInterruptedFrame, level=level)
            assert report.heard == "one two"
            await test.advance(0.05)
            sounded = len(bot.played)
            assert await server.contexts[0].outcome == "cancelled"
            assert server.contexts[0].cancelled
            assert server.late_sent > 0
            server.word_s = 0.0
            await test.advance(0.2)
            assert not any(bot.played[sounded:])
            test.skip()
            test.send(TTSSpeakFrame("Yes please."))
            await test.expect(BotStoppedSpeakingFrame)
        assert len(server.connections) == 1
        mark = INTERRUPTED_MARK if level is Level.FULL else SPEECH_STOPPED_MARK
        rest = "" if level is Level.FULL else LONG.removeprefix("one two")
        assert bot.answers == [f"one two{mark}{rest}", "Yes please."]


@pytest.mark.parametrize("level", list(Level))
async def test_an_interruption_before_the_first_audio_cancels_the_context(level: Level) -> None:
    async with speaking() as (server, voice):
        server.speech_faults.plan(Fault.HANG)
        bot = Bot(voice)
        async with bot.running() as test:
            test.send(TTSSpeakFrame(LONG))
            await server.arrived.wait()
            (test.interrupt if level is Level.FULL else test.interrupt_speech)()
            await test.expect(SpeechInterruptedFrame, heard="")
            await until(lambda: server.contexts[0].cancelled)
            test.skip()
            test.send(TTSSpeakFrame("Yes please."))
            await test.expect(BotStoppedSpeakingFrame)
            assert not test.received(ErrorFrame, UPSTREAM)
        assert len(server.connections) == 1


async def test_an_idle_connection_that_was_closed_is_made_again_without_an_error() -> None:
    async with speaking() as (server, voice):
        bot = Bot(voice)
        async with bot.running() as test:
            for text in ("One two.", "Three four."):
                test.send(TTSSpeakFrame(text))
                await test.expect(BotStoppedSpeakingFrame)
                await server.close_idle()
            assert not test.received(ErrorFrame, UPSTREAM)
        assert bot.answers == ["One two.", "Three four."]
        assert len(server.connections) == 2


async def test_a_connection_that_is_lost_before_the_first_audio_is_not_heard() -> None:
    async with speaking() as (server, voice):
        server.speech_faults.plan(Fault.HANG)
        speech = asyncio.create_task(seconds_of(voice, "One two."))
        await server.arrived.wait()
        server.drop_connections()
        assert await speech == pytest.approx(8 * CHARACTER_MS / 1000)
        assert [context.connection for context in server.contexts] == [0, 1]


async def test_nothing_is_said_twice_when_the_connection_is_lost() -> None:
    async with speaking() as (server, voice):
        server.speech_faults.plan(Fault.CUT)
        came: list[bytes] = []
        with pytest.raises(ServiceUnavailable, match="Cartesia speech"):
            await collect(voice.synthesize(LONG), came)
        assert 0 < len(b"".join(came)) <= server.contexts[0].sent
        assert len(server.contexts) == 1
        assert await seconds_of(voice, "One.") > 0


async def test_garbage_is_a_lost_connection() -> None:
    async with speaking() as (server, voice):
        server.speech_faults.plan(Fault.GARBAGE)
        with pytest.raises(ServiceUnavailable, match="no answer"):
            await seconds_of(voice, LONG)
        assert await seconds_of(voice, "One.") > 0
        assert len(server.connections) == 2


async def test_a_context_that_hangs_is_asked_for_on_a_new_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cartesia_tts, "FIRST_AUDIO_S", 0.5)
    async with speaking() as (server, voice):
        server.speech_faults.plan(Fault.HANG)
        assert await seconds_of(voice, "One two.") > 0
        assert [context.connection for context in server.contexts][:2] == [0, 1]
        assert await server.contexts[0].outcome in ("cancelled", "closed")
        await until(lambda: server.connections[0].closed)


async def test_audio_that_stops_in_the_middle_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cartesia_tts, "NEXT_AUDIO_S", 0.1)
    async with speaking() as (server, voice):
        server.speech_faults.plan(Fault.SLOW)
        with pytest.raises(ServiceUnavailable, match=r"no audio within 0\.1 s"):
            await seconds_of(voice, "One two.")
        assert len(server.contexts) == 1


async def test_a_slow_server_is_waited_for() -> None:
    async with speaking() as (server, voice):
        server.speech_faults.plan(Fault.SLOW)
        assert await seconds_of(voice, "One two.") == pytest.approx(8 * CHARACTER_MS / 1000)


@pytest.mark.parametrize("fault", [Fault.BROKEN, Fault.RATE_LIMITED])
async def test_what_may_pass_is_tried_again(fault: Fault) -> None:
    async with speaking() as (server, voice):
        server.connection_faults.plan(fault)
        server.speech_faults.plan(fault)
        assert await seconds_of(voice, "One two.") > 0
        assert len(server.contexts) == 2


@pytest.mark.parametrize(
    ("fault", "error"), [(Fault.BROKEN, ServiceUnavailable), (Fault.RATE_LIMITED, RateLimited)]
)
async def test_what_does_not_pass_is_given_up(fault: Fault, error: type[Exception]) -> None:
    async with speaking() as (server, voice):
        server.speech_faults.plan(*[fault] * 10)
        with pytest.raises(error):
            await seconds_of(voice, "One two.")
        assert 1 < len(server.contexts) < 5


async def test_a_wrong_key_is_not_tried_again_and_not_shown() -> None:
    async with speaking("sk_car_wrong") as (server, voice):
        with pytest.raises(KeyRejected, match="CARTESIA_API_KEY") as raised:
            await seconds_of(voice, "One two.")
        with pytest.raises(KeyRejected):
            await voice.start()
        assert server.refused == [401, 401]
        assert "sk_car" not in str(raised.value)


async def test_started_ahead_the_first_sentence_finds_a_connection() -> None:
    async with speaking() as (server, voice):
        await voice.start()
        await until(lambda: server.connections)
        assert await seconds_of(voice, "One.") > 0
        assert len(server.connections) == 1


async def test_leaving_early_cancels_and_others_go_on() -> None:
    async with speaking() as (server, voice):
        server.word_s = 0.02
        other = asyncio.create_task(seconds_of(voice, LONG))
        await server.arrived.wait()
        async with aclosing(voice.synthesize(LONG)) as speech:
            await anext(speech)
        assert await other == pytest.approx(len(LONG) * CHARACTER_MS / 1000)
        assert [await c.outcome for c in server.contexts] == ["finished", "cancelled"]


@pytest.mark.parametrize("sounded", [False, True])
async def test_closing_the_voice_ends_what_is_being_spoken(sounded: bool) -> None:
    async with speaking() as (server, voice):
        server.word_s = 0.05 if sounded else 1e6
        speech = asyncio.create_task(seconds_of(voice, LONG))
        await until(lambda: server.contexts and (server.contexts[0].sent or not sounded))
        await voice.close()
        with pytest.raises(ServiceUnavailable, match="closed"):
            await speech
        assert len(server.contexts) == 1, "it is not asked for again"


@pytest.mark.parametrize("level", list(Level))
async def test_another_voice_takes_over_and_is_interrupted_like_the_first(level: Level) -> None:
    async with speaking("sk_car_wrong") as (server, broken), OpenAIAudioServer().serving() as other:
        client = AsyncOpenAI(api_key=OPENAI_KEY, base_url=other.base_url)
        other.chunk_s = 0.02
        bot = Bot(FallbackVoice(broken, OpenAIVoice(client)))
        async with bot.running() as test:
            test.send(TTSSpeakFrame(LONG))
            await test.expect(ErrorFrame, UPSTREAM, error=regex("OpenAI speech takes over"))
            while not any(bot.played):
                await test.advance(0.02)
            (test.interrupt if level is Level.FULL else test.interrupt_speech)()
            await test.expect(SpeechInterruptedFrame, level=level)
            assert await other.spoken[0].outcome == "closed"
        assert server.refused == [401]
        await client.close()


async def test_a_failure_is_told_and_the_next_sentence_is_spoken() -> None:
    async with speaking() as (server, voice):
        server.speech_faults.plan(Fault.CUT)
        bot = Bot(voice)
        async with bot.running() as test:
            test.send(TTSSpeakFrame("One two three. Four five six."))
            await test.expect(ErrorFrame, UPSTREAM, error=regex("Cartesia speech"))
            await bot.heard("six.")
