"""OpenAI's speech to text over the real client: whole turns over HTTP, and as they are spoken."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import soxr
from av import AudioResampler
from av import open as open_media
from openai import AsyncOpenAI

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
from bargein.processors.services import openai_stt, streaming_stt
from bargein.processors.services.errors import (
    KeyRejected,
    RateLimited,
    RequestRejected,
    ServiceUnavailable,
)
from bargein.processors.services.fallback_speech import FallbackTranscriber
from bargein.processors.services.openai_stt import OpenAIRealtimeSTT, OpenAISTT
from bargein.processors.services.retry import Backoff
from bargein.processors.stt import STT

from ...servers.faults import Fault, each, spoken, until
from ...servers.openai_audio import KEY, OpenAIAudioServer

pytestmark = pytest.mark.real_time

DATA = Path(__file__).parents[2] / "data"


@asynccontextmanager
async def batch(key: str = KEY) -> AsyncIterator[tuple[OpenAIAudioServer, OpenAISTT]]:
    async with OpenAIAudioServer().serving() as server:
        client = AsyncOpenAI(api_key=key, base_url=server.base_url)
        try:
            yield server, OpenAISTT(client, language="en")
        finally:
            await client.close()


@asynccontextmanager
async def realtime(key: str = KEY) -> AsyncIterator[tuple[OpenAIAudioServer, OpenAIRealtimeSTT]]:
    async with OpenAIAudioServer().serving() as server:
        client = AsyncOpenAI(api_key=key, base_url=server.base_url)
        stt = OpenAIRealtimeSTT(client, language="en")
        try:
            yield server, stt
        finally:
            await stt.close()
            await client.close()


def ignore(text: str) -> None:
    """Take a partial text."""


def audio(text: str) -> InputAudioRawFrame:
    return InputAudioRawFrame(spoken(text), 16_000, 1)


async def partial(test: PipelineTest, text: str) -> None:
    while (await test.expect(InterimTranscriptionFrame)).text != text:
        pass


# Over HTTP -------------------------------------------------------------------------------------------


def recording() -> bytes:
    """11 s of speech, 16 kHz mono s16le."""
    with open_media(str(DATA / "jfk.flac")) as file:
        to_mono = AudioResampler("s16", "mono", 16_000)
        frames = [*file.decode(audio=0), None]
        return b"".join(f.to_ndarray().tobytes() for frame in frames for f in to_mono.resample(frame))


async def test_a_recording_arrives_as_it_is() -> None:
    pcm = recording()
    async with batch() as (server, stt):
        utterance = stt.open(ignore)
        for at in range(0, len(pcm), 640):
            utterance.feed(pcm[at : at + 640])
        await utterance.finish()
        uploaded = server.uploaded[0]
        assert (uploaded.pcm, uploaded.rate) == (pcm, 16_000)
        assert len(pcm) > 10 * 32_000
        assert uploaded.fields == {"model": "gpt-transcribe", "response_format": "json", "language": "en"}


async def test_a_finish_after_a_snapshot_with_nothing_new_makes_no_second_request() -> None:
    async with batch() as (server, stt):
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not"))
        assert await utterance.snapshot() == "ask not"
        assert await utterance.finish() == "ask not"
        assert len(server.uploaded) == 1


async def test_a_finish_waits_for_the_snapshot_under_way() -> None:
    async with batch() as (server, stt):
        server.transcription_s = 0.1
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not"))
        texts = await asyncio.gather(utterance.snapshot(), utterance.finish())
        assert list(texts) == ["ask not", "ask not"]
        assert len(server.uploaded) == 1


async def test_a_snapshot_that_is_out_of_date_is_given_up() -> None:
    async with batch() as (server, stt):
        server.transcription_s = 0.1
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not"))
        snapshot = asyncio.create_task(utterance.snapshot())
        await until(lambda: server.uploaded)
        utterance.feed(spoken("what your country"))
        assert await utterance.finish() == "ask not what your country"
        assert await snapshot == ""
        assert await server.uploaded[0].outcome == "closed"


async def test_cancel_closes_the_request_at_the_server() -> None:
    async with batch() as (server, stt):
        server.transcription_faults.plan(Fault.HANG)
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not"))
        finish = asyncio.create_task(utterance.finish())
        await until(lambda: server.uploaded)
        utterance.cancel()
        assert await finish == ""
        assert await server.uploaded[0].outcome == "closed"


async def test_a_finish_that_is_cancelled_leaves_no_request() -> None:
    async with batch() as (server, stt):
        server.transcription_faults.plan(Fault.HANG)
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not"))
        finish = asyncio.create_task(utterance.finish())
        await until(lambda: server.uploaded)
        finish.cancel()
        await asyncio.wait([finish])
        assert await server.uploaded[0].outcome == "closed"


async def test_too_little_sound_is_no_request() -> None:
    async with batch() as (server, stt):
        utterance = stt.open(ignore)
        utterance.feed(bytes(3000))
        assert await utterance.finish() == ""
        assert server.uploaded == []


@pytest.mark.parametrize("fault", [Fault.BROKEN, Fault.RATE_LIMITED, Fault.CUT, Fault.GARBAGE])
async def test_what_may_pass_is_asked_again(fault: Fault) -> None:
    async with batch() as (server, stt):
        server.transcription_faults.plan(fault)
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not"))
        assert await utterance.finish() == "ask not"


async def test_a_hanging_request_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_stt, "ANSWER_S", 0.5)
    async with batch() as (server, stt):
        server.transcription_faults.plan(Fault.HANG)
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not"))
        assert await utterance.finish() == "ask not"
        assert await server.uploaded[0].outcome == "closed"


@pytest.mark.parametrize(
    ("fault", "error"), [(Fault.BROKEN, ServiceUnavailable), (Fault.RATE_LIMITED, RateLimited)]
)
async def test_a_failure_keeps_the_sound_for_the_next_call(fault: Fault, error: type[Exception]) -> None:
    async with batch() as (server, stt):
        server.transcription_faults.plan(fault, fault, fault)
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not"))
        with pytest.raises(error):
            await utterance.snapshot()
        assert await utterance.finish() == "ask not"


async def test_a_wrong_key_is_told_and_not_shown() -> None:
    async with batch("sk-wrong") as (server, stt):
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not"))
        with pytest.raises(KeyRejected, match="OPENAI_API_KEY") as raised:
            await utterance.finish()
        assert server.refused == [401]
        assert "sk-" not in str(raised.value)


@pytest.mark.parametrize("level", list(Level))
async def test_a_batch_turn_survives_an_interruption(level: Level) -> None:
    async with batch() as (server, stt):
        server.transcription_s = 0.1
        async with PipelineTest(STT(stt)) as test:
            test.send(VADUserStartedSpeakingFrame())
            test.send(audio("ask not"))
            test.send(UserPausedFrame())
            (test.interrupt if level is Level.FULL else test.interrupt_speech)()
            test.send(UserStoppedSpeakingFrame())
            await test.expect(TranscriptionFrame, text="ask not", finalized=True)
        assert len(server.uploaded) == 1


# As it is spoken -------------------------------------------------------------------------------------


async def test_partials_come_as_words_are_spoken() -> None:
    async with realtime() as (server, stt):
        partials: list[str] = []
        utterance = stt.open(partials.append)
        for sound in each("ask not what your"):
            utterance.feed(sound)
        await until(lambda: partials and partials[-1] == "ask not what")
        assert await utterance.finish() == "ask not what your"
        assert server.connections[0].of("session.update")[0]["session"]["audio"]["input"][
            "transcription"
        ] == {"model": "gpt-realtime-whisper", "language": "en"}


async def test_a_recording_arrives_whole_at_the_rate_of_the_api() -> None:
    pcm = recording()
    async with realtime() as (server, stt):
        utterance = stt.open(ignore)
        for at in range(0, len(pcm), 640):
            utterance.feed(pcm[at : at + 640])
            if at % 64_000 == 0:
                await asyncio.sleep(0)
        await utterance.finish()
        appended = server.connections[0].of("input_audio_buffer.append")
    sound = np.frombuffer(b"".join(base64.b64decode(event["audio"]) for event in appended), np.int16)
    back = soxr.resample(sound.astype(np.float32), 24_000, 16_000)
    given = np.frombuffer(pcm, np.int16)
    assert len(sound) == pytest.approx(len(given) * 1.5, abs=2)
    assert np.corrcoef(back[: len(given)], given[: len(back)])[0, 1] > 0.99


async def test_a_turn_with_pauses_is_joined_and_commits_only_what_is_new() -> None:
    async with realtime() as (server, stt):
        partials: list[str] = []
        utterance = stt.open(partials.append)
        utterance.feed(spoken("ask not"))
        assert await utterance.snapshot() == "ask not"
        utterance.feed(spoken("what your country"))
        assert await utterance.snapshot() == "ask not what your country"
        assert await utterance.finish() == "ask not what your country"
        assert server.connections[0].transcripts == ["ask not", "what your country"]
        assert "ask not what your" in partials


async def test_one_connection_serves_turn_after_turn() -> None:
    async with realtime() as (server, stt):
        for words in ("ask not", "tell me", "the time in London"):
            utterance = stt.open(ignore)
            utterance.feed(spoken(words))
            assert await utterance.finish() == words
        assert len(server.connections) == 1


async def test_a_turn_begins_while_the_text_of_the_last_one_is_due() -> None:
    """Completions of different items come in any order."""
    async with realtime() as (server, stt):
        server.late_first = True
        first, second = stt.open(ignore), None
        first.feed(spoken("ask not"))
        due = asyncio.create_task(first.finish())
        await until(lambda: server.connections and server.connections[0].transcripts)
        second = stt.open(ignore)
        second.feed(spoken("tell me"))
        assert await second.finish() == "tell me"
        assert await due == "ask not"
        assert len(server.connections) == 1


async def test_sessions_that_speak_at_once_do_not_mix() -> None:
    async with realtime() as (server, stt):
        one, other = stt.open(ignore), stt.open(ignore)
        for first, second in zip(each("ask not what"), each("tell me the"), strict=True):
            one.feed(first)
            other.feed(second)
            await asyncio.sleep(0)
        assert await one.finish() == "ask not what"
        assert await other.finish() == "tell me the"
        assert len(server.connections) == 2


async def test_cancel_clears_the_buffer_and_nothing_of_it_is_heard_again() -> None:
    async with realtime() as (server, stt):
        partials: list[str] = []
        utterance = stt.open(partials.append)
        utterance.feed(spoken("ask not"))
        await until(lambda: partials)
        utterance.cancel()
        partials.clear()
        later = stt.open(partials.append)
        later.feed(spoken("tell me the"))
        assert await later.finish() == "tell me the"
        assert len(server.connections[0].of("input_audio_buffer.clear")) == 1
        assert server.connections[0].transcripts == ["tell me the"]
        assert len(server.connections) == 1
        assert not any("please" in text or "ask" in text for text in partials)


@pytest.mark.parametrize("words", [1, 3])
async def test_no_word_is_lost_when_the_connection_is(words: int) -> None:
    async with realtime() as (server, stt):
        server.realtime_faults.plan(Fault.CUT)
        server.cut_after = words
        utterance = stt.open(ignore)
        for sound in each("ask not what your country can do"):
            utterance.feed(sound)
            await asyncio.sleep(0.01)
        assert await utterance.finish() == "ask not what your country can do"
        assert len(server.connections) == 2


async def test_a_connection_lost_between_a_commit_and_its_text_is_made_up_for() -> None:
    async with realtime() as (server, stt):
        server.transcription_s = 0.2
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not"))
        finish = asyncio.create_task(utterance.finish())
        await until(lambda: server.connections and server.connections[0].transcripts)
        server.drop_connections()
        assert await finish == "ask not"
        assert len(server.connections) == 2


async def test_a_connection_lost_between_turns_is_made_again() -> None:
    async with realtime() as (server, stt):
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not"))
        await utterance.finish()
        server.drop_connections()
        await server.connections[0].closed.wait()
        utterance = stt.open(ignore)
        utterance.feed(spoken("tell me"))
        assert await utterance.finish() == "tell me"


async def test_sound_is_kept_while_the_service_is_down() -> None:
    async with realtime() as (server, stt):
        server.realtime_faults.plan(Fault.BROKEN, Fault.RATE_LIMITED)
        utterance = stt.open(ignore)
        for sound in each("ask not what your"):
            utterance.feed(sound)
            await asyncio.sleep(0.01)
        assert await utterance.finish() == "ask not what your"
        assert server.refused == [500, 429]


async def test_a_service_that_stays_down_is_told_and_asked_again_at_the_next_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streaming_stt, "BACKOFF", Backoff(attempts=2, first_s=0.01))
    async with realtime() as (server, stt):
        server.realtime_faults.plan(*[Fault.BROKEN] * 3)
        utterance = stt.open(ignore)
        await until(lambda: server.refused)
        utterance.feed(spoken("ask not"))
        with pytest.raises(ServiceUnavailable, match="500"):
            await utterance.snapshot()
        utterance.feed(spoken("what"))
        assert await utterance.finish() == "ask not what"


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.GARBAGE])
async def test_a_connection_that_gives_nothing_useful_is_replaced(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming_stt, "SETTLE_S", 0.5)
    async with realtime() as (server, stt):
        server.realtime_faults.plan(fault)
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not"))
        assert await utterance.finish() == "ask not"
        assert len(server.connections) > 1
        await server.connections[0].closed.wait()


async def test_a_wrong_key_is_told_at_once_and_not_shown() -> None:
    async with realtime("sk-wrong") as (server, stt):
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask not"))
        with pytest.raises(KeyRejected, match="OPENAI_API_KEY") as raised:
            await utterance.finish()
        assert set(server.refused) == {401}
        assert "sk-" not in str(raised.value)


async def test_an_utterance_without_sound_is_silent() -> None:
    async with realtime() as (_, stt):
        utterance = stt.open(ignore)
        assert await utterance.snapshot() == ""
        assert await utterance.finish() == ""


async def test_very_short_speech_is_filled_up_to_what_the_server_takes() -> None:
    async with realtime() as (server, stt):
        utterance = stt.open(ignore)
        utterance.feed(spoken("ask")[: 32 * 40])
        assert await utterance.finish() == ""
        assert server.connections[0].transcripts == [""]


async def test_an_error_event_that_blames_the_request_is_not_repeated() -> None:
    error = openai_stt._failure("OpenAI", type("E", (), {"code": "invalid_value", "message": "no"})())
    assert isinstance(error, RequestRejected)
    error = openai_stt._failure("OpenAI", type("E", (), {"code": "invalid_api_key"})())
    assert isinstance(error, KeyRejected)
    error = openai_stt._failure("OpenAI", type("E", (), {"type": "server_error"})())
    assert isinstance(error, ServiceUnavailable)
    error = openai_stt._failure("OpenAI", type("E", (), {"code": "rate_limit_exceeded"})())
    assert isinstance(error, RateLimited)


@pytest.mark.parametrize("level", list(Level))
async def test_a_spoken_turn_survives_an_interruption_and_the_next_one_works(level: Level) -> None:
    async with realtime() as (server, stt), PipelineTest(STT(stt)) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.send(audio("ask"))
        (test.interrupt if level is Level.FULL else test.interrupt_speech)()
        test.send(audio("not what"))
        await partial(test, "ask not")
        test.send(UserPausedFrame())
        await partial(test, "ask not what")
        test.send(UserResumedFrame())
        test.send(audio("your country"))
        test.send(UserStoppedSpeakingFrame())
        await test.expect(TranscriptionFrame, text="ask not what your country")
        test.send(VADUserStartedSpeakingFrame())
        test.send(audio("tell me"))
        (test.interrupt if level is Level.FULL else test.interrupt_speech)()
        test.send(UserStoppedSpeakingFrame())
        await test.expect(TranscriptionFrame, text="tell me")
        assert len(server.connections) == 1
        assert not test.received(ErrorFrame, UPSTREAM)


async def test_a_session_that_is_cancelled_takes_its_sound_back() -> None:
    async with realtime() as (server, stt):
        async with PipelineTest(STT(stt)) as test:
            test.send(VADUserStartedSpeakingFrame())
            test.send(audio("ask not what"))
            await test.expect(InterimTranscriptionFrame)
        await until(lambda: server.connections[0].of("input_audio_buffer.clear"))
        assert server.connections[0].transcripts == []


async def test_whole_turns_over_http_take_over_from_a_connection_that_is_refused() -> None:
    async with realtime() as (server, stt), AsyncOpenAI(api_key=KEY, base_url=server.base_url) as client:
        server.realtime_faults.plan(*[Fault.UNAUTHORIZED] * 10)
        async with PipelineTest(STT(FallbackTranscriber(stt, OpenAISTT(client)))) as test:
            test.send(VADUserStartedSpeakingFrame())
            for word in ("ask", "not", "what"):
                test.send(audio(word))
                await test.advance(0.02)
            test.send(UserStoppedSpeakingFrame())
            await test.expect(ErrorFrame, UPSTREAM, error=regex("OpenAI transcription takes over"))
            await test.expect(TranscriptionFrame, text="ask not what")


async def test_a_failing_service_is_told_in_the_session() -> None:
    async with realtime("sk-wrong") as (_, stt), PipelineTest(STT(stt)) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.send(audio("ask not"))
        test.send(UserStoppedSpeakingFrame())
        await test.expect(ErrorFrame, UPSTREAM, error=regex("the key was rejected"))
        await test.expect(UserStoppedSpeakingFrame)
