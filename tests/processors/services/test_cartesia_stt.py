"""Cartesia's speech to text over the real client: segments joined right, no word lost, every fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from cartesia import AsyncCartesia

from bargein.pipeline import Level
from bargein.pipeline.frames import (
    UPSTREAM,
    ErrorFrame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    UserPausedFrame,
    UserResumedFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest, regex
from bargein.processors.services import streaming_stt
from bargein.processors.services.cartesia_stt import CartesiaSTT
from bargein.processors.services.errors import KeyRejected, ServiceUnavailable
from bargein.processors.stt import STT

from ...servers.cartesia_server import KEY, CartesiaServer
from ...servers.faults import Fault, each, spoken, until

pytestmark = pytest.mark.real_time


@asynccontextmanager
async def listening(key: str = KEY) -> AsyncIterator[tuple[CartesiaServer, CartesiaSTT]]:
    async with CartesiaServer().serving() as server:
        client = AsyncCartesia(api_key=key, base_url=server.base_url)
        stt = CartesiaSTT(client, language="en")
        try:
            yield server, stt
        finally:
            await stt.close()
            await client.close()


def ignore(text: str) -> None:
    """Take a partial text."""


def audio(text: str) -> InputAudioRawFrame:
    return InputAudioRawFrame(spoken(text), 16_000, 1)


async def test_final_and_interim_chunks_are_joined_as_they_are() -> None:
    async with listening() as (server, stt):
        partials: list[str] = []
        utterance = stt.open(partials.append)
        for sound in each("ask not what your country can"):
            utterance.feed(sound)
        await until(lambda: partials and partials[-1] == "ask not what your country")
        assert await utterance.finish() == "ask not what your country can"
        whole = "ask not what your country can"
        assert all(whole.startswith(text) for text in partials)
        assert partials == sorted(partials, key=len)
        assert server.listening[0].query["language"] == "en"


async def test_a_pause_flushes_and_a_finish_with_nothing_new_does_not_flush_again() -> None:
    async with listening() as (server, stt):
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not what"))
        assert await utterance.snapshot() == "ask not what"
        utterance.feed(spoken("your country"))
        assert await utterance.snapshot() == "ask not what your country"
        assert await utterance.finish() == "ask not what your country"
        assert server.listening[0].commands == ["finalize", "finalize"]


async def test_one_connection_serves_turn_after_turn() -> None:
    async with listening() as (server, stt):
        server.transcription_s = 0.05
        due: list[asyncio.Task[str]] = []
        for words in ("ask not", "tell me", "the time in London"):
            utterance = stt.open(ignore)
            utterance.feed(spoken(words))
            due.append(asyncio.create_task(utterance.finish()))
            await asyncio.sleep(0)  # the next turn begins before this one has its text
        assert await asyncio.gather(*due) == ["ask not", "tell me", "the time in London"]
        assert len(server.listening) == 1


async def test_sessions_that_speak_at_once_do_not_mix() -> None:
    async with listening() as (_, stt):
        one, other = stt.open(ignore), stt.open(ignore)
        for first, second in zip(each("ask not what"), each("tell me the"), strict=True):
            one.feed(first)
            other.feed(second)
            await asyncio.sleep(0)
        assert await one.finish() == "ask not what"
        assert await other.finish() == "tell me the"


async def test_cancel_closes_the_connection_and_the_next_turn_has_a_new_one() -> None:
    async with listening() as (server, stt):
        partials: list[str] = []
        utterance = stt.open(partials.append)
        utterance.feed(spoken("ask not what"))
        await until(lambda: partials)
        utterance.cancel()
        await server.listening[0].closed.wait()
        assert server.listening[0].commands == []
        partials.clear()
        later = stt.open(partials.append)
        later.feed(spoken("tell me the"))
        assert await later.finish() == "tell me the"
        assert not any("ask" in text for text in partials)


@pytest.mark.parametrize("words", [1, 4])
async def test_no_word_is_lost_when_the_connection_is(words: int) -> None:
    async with listening() as (server, stt):
        server.stt_faults.plan(Fault.CUT)
        server.cut_after = words
        utterance = stt.open(ignore)
        for sound in each("ask not what your country can do"):
            utterance.feed(sound)
            await asyncio.sleep(0.01)
        assert await utterance.finish() == "ask not what your country can do"
        assert len(server.listening) == 2


async def test_what_had_its_text_is_not_sent_again() -> None:
    async with listening() as (server, stt):
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not what"))
        await utterance.snapshot()
        server.drop_connections()
        await server.listening[0].closed.wait()
        utterance.feed(spoken("your country"))
        assert await utterance.finish() == "ask not what your country"
        assert server.listening[1].received == len(spoken("your country"))


async def test_a_connection_closed_while_idle_is_made_again() -> None:
    async with listening() as (server, stt):
        for words in ("ask not", "tell me"):
            utterance = stt.open(ignore)
            utterance.feed(spoken(words))
            assert await utterance.finish() == words
            await server.close_idle()
        assert len(server.listening) == 2


@pytest.mark.parametrize("fault", [Fault.BROKEN, Fault.RATE_LIMITED])
async def test_sound_is_kept_while_the_service_refuses(fault: Fault) -> None:
    async with listening() as (server, stt):
        server.stt_faults.plan(fault, fault)
        utterance = stt.open(ignore)
        for sound in each("ask not what your"):
            utterance.feed(sound)
            await asyncio.sleep(0.01)
        assert await utterance.finish() == "ask not what your"


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.GARBAGE])
async def test_a_connection_that_gives_nothing_useful_is_replaced(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming_stt, "SETTLE_S", 0.5)
    async with listening() as (server, stt):
        server.stt_faults.plan(fault)
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not"))
        assert await utterance.finish() == "ask not"
        await server.listening[0].closed.wait()


async def test_a_wrong_key_is_told_at_once_and_not_shown() -> None:
    async with listening("sk_car_wrong") as (server, stt):
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not"))
        with pytest.raises(KeyRejected, match="CARTESIA_API_KEY") as raised:
            await utterance.finish()
        assert set(server.refused) == {401}
        assert "sk_car" not in str(raised.value)


async def test_a_finish_that_is_cancelled_takes_its_sound_back() -> None:
    async with listening() as (server, stt):
        server.stt_faults.plan(Fault.HANG)
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not"))
        finish = asyncio.create_task(utterance.finish())
        await until(lambda: server.listening and server.listening[0].commands)
        finish.cancel()
        await asyncio.wait([finish])
        server.drop_connections()
        await server.listening[0].closed.wait()
        later = stt.open(ignore)
        later.feed(spoken("tell me"))
        assert await later.finish() == "tell me"
        assert server.listening[1].received == len(spoken("tell me"))


async def test_closing_ends_what_is_pending() -> None:
    async with listening() as (server, stt):
        server.stt_faults.plan(Fault.HANG)
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not"))
        finish = asyncio.create_task(utterance.finish())
        await until(lambda: server.listening and server.listening[0].commands)
        await stt.close()
        with pytest.raises(ServiceUnavailable, match="closed"):
            await finish


@pytest.mark.parametrize("level", list(Level))
async def test_a_spoken_turn_survives_an_interruption_and_the_next_one_works(level: Level) -> None:
    async with listening() as (server, stt), PipelineTest(STT(stt)) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.send(audio("ask"))
        (test.interrupt if level is Level.FULL else test.interrupt_speech)()
        test.send(audio("not what"))
        test.send(UserPausedFrame())
        while (await test.expect(InterimTranscriptionFrame)).text != "ask not what":
            pass
        test.send(UserResumedFrame())
        test.send(audio("your country"))
        test.send(UserStoppedSpeakingFrame())
        await test.expect(TranscriptionFrame, text="ask not what your country")
        test.send(VADUserStartedSpeakingFrame())
        test.send(audio("tell me"))
        (test.interrupt if level is Level.FULL else test.interrupt_speech)()
        test.send(UserStoppedSpeakingFrame())
        await test.expect(TranscriptionFrame, text="tell me")
        assert len(server.listening) == 1
        assert not test.received(ErrorFrame, UPSTREAM)


async def test_a_session_that_is_cancelled_closes_its_connection() -> None:
    async with listening() as (server, stt):
        async with PipelineTest(STT(stt)) as test:
            test.send(VADUserStartedSpeakingFrame())
            test.send(audio("ask not what"))
            await test.expect(InterimTranscriptionFrame)
        await server.listening[0].closed.wait()
        assert server.listening[0].commands == []


async def test_a_failing_service_is_told_in_the_session() -> None:
    async with listening("sk_car_wrong") as (_, stt), PipelineTest(STT(stt)) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.send(audio("ask not"))
        test.send(UserStoppedSpeakingFrame())
        await test.expect(ErrorFrame, UPSTREAM, error=regex("the key was rejected"))
        await test.expect(UserStoppedSpeakingFrame)
