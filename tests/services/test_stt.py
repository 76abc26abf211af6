"""Stock Pipecat speech-to-text services, hosted, against servers that speak their providers' protocols."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services import deepgram, websocket_service
from pipecat.services.assemblyai.stt import AssemblyAISTTService
from pipecat.services.deepgram.stt import DeepgramSTTService
from pipecat.services.groq.stt import GroqSTTService
from pipecat.services.openai.stt import OpenAISTTService

from bargein.pipeline import UPSTREAM, Level, SpeechInterruptedFrame
from bargein.pipeline.frames import (
    ErrorFrame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    LLMFullResponseEndFrame,
    LLMTextFrame,
    TranscriptionFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest
from bargein.processors.context import Context
from bargein.processors.llm import LLM

from ..servers.assemblyai_server import AssemblyAIServer
from ..servers.deepgram_server import DeepgramSTTServer
from ..servers.faults import Fault, Faults, spoken
from ..servers.hearing import HearingProvider
from ..servers.openai_audio import KEY, OpenAIAudioServer
from ..servers.openai_server import OpenAIServer
from ..servers.provider import Provider
from .bots import CHUNK, LIBRARY_WARNINGS, closing_client, interrupt, speak, until

pytestmark = [pytest.mark.real_time, *LIBRARY_WARNINGS]


@dataclass(frozen=True)
class Ears:
    """A service and its provider.

    Attributes:
        slow: Makes the provider take so many seconds for a transcript.
        asked: How many transcripts it was asked for.
        faults: Of its transcripts.
    """

    server: Callable[[], Any]
    service: Callable[[Any], FrameProcessor]
    slow: Callable[[Any, float], None]
    asked: Callable[[Any], int]
    faults: Callable[[Any], Faults]


def _slow_uploads(server: OpenAIAudioServer, seconds: float) -> None:
    server.transcription_s = seconds


def _slow_results(server: HearingProvider, seconds: float) -> None:
    server.result_s = seconds


EARS = {
    "assemblyai": Ears(
        AssemblyAIServer,
        lambda server: AssemblyAISTTService(api_key="k", api_endpoint_base_url=f"{server.ws_url}/v3/ws"),
        _slow_results,
        lambda server: len(server.finalized),
        lambda server: server.faults,
    ),
    "deepgram": Ears(
        DeepgramSTTServer,
        lambda server: DeepgramSTTService(api_key="k", base_url=server.ws_url),
        _slow_results,
        lambda server: len(server.finalized),
        lambda server: server.faults,
    ),
    "openai": Ears(
        OpenAIAudioServer,
        lambda server: OpenAISTTService(api_key=KEY, base_url=server.base_url),
        _slow_uploads,
        lambda server: len(server.uploaded),
        lambda server: server.transcription_faults,
    ),
    "groq": Ears(
        OpenAIAudioServer,
        lambda server: GroqSTTService(api_key=KEY, base_url=server.base_url),
        _slow_uploads,
        lambda server: len(server.uploaded),
        lambda server: server.transcription_faults,
    ),
}

ears = pytest.mark.parametrize("ear", EARS.values(), ids=EARS)
levels = pytest.mark.parametrize("level", Level)


@asynccontextmanager
async def listening(ear: Ears) -> AsyncIterator[tuple[PipelineTest, Any]]:
    server = ear.server()
    async with server.serving():
        service = ear.service(server)
        async with closing_client(service), PipelineTest(service) as test:
            yield test, server
            assert test.stats.undead == 0
        if isinstance(server, Provider):
            await until(lambda: server.open == 0)


def _transcripts(test: PipelineTest) -> list[str]:
    return [frame.text for frame in test.received(TranscriptionFrame)]


@ears
async def test_what_is_said_is_transcribed(ear: Ears) -> None:
    async with listening(ear) as (test, server):
        for text in ("ask not what", "tell me the time in London"):
            await speak(test, text)
            await test.expect(TranscriptionFrame, text=text)
        assert _transcripts(test) == ["ask not what", "tell me the time in London"]
        if isinstance(server, HearingProvider):
            assert test.received(InterimTranscriptionFrame)[0].text == "ask"


@ears
@levels
async def test_an_interruption_loses_no_transcript_under_way(ear: Ears, level: Level) -> None:
    """A transcription dropped by the interruption of its own turn: pipecat #5683."""
    async with listening(ear) as (test, server):
        ear.slow(server, 0.05)
        await speak(test, "ask not what")
        await until(lambda: ear.asked(server))
        interrupt(test, level)
        await test.expect(SpeechInterruptedFrame, level=level)
        await test.expect(TranscriptionFrame, text="ask not what")
        ear.slow(server, 0.0)
        await speak(test, "stop please")
        await test.expect(TranscriptionFrame, text="stop please")
        assert _transcripts(test) == ["ask not what", "stop please"]
        if isinstance(server, Provider):
            assert (server.connections, server.open) == (1, 1)


@ears
@levels
async def test_an_interruption_while_the_user_speaks_loses_no_sound(ear: Ears, level: Level) -> None:
    async with listening(ear) as (test, _server):
        test.send(VADUserStartedSpeakingFrame())
        sound = spoken("tell me the time in London")
        for at in range(0, len(sound), CHUNK):
            test.send(InputAudioRawFrame(sound[at : at + CHUNK], 16_000, 1))
            if at == len(sound) // CHUNK // 2 * CHUNK:
                interrupt(test, level)
            await asyncio.sleep(0.001)
        test.send(VADUserStoppedSpeakingFrame())
        await test.expect(TranscriptionFrame, text="tell me the time in London")


@ears
async def test_a_turn_is_answered_when_its_transcript_comes_late(ear: Ears) -> None:
    server, model, context = ear.server(), OpenAIServer(), Context()
    async with server.serving(), model.client() as client:
        model.script(["It is noon."])
        ear.slow(server, 0.05)
        service = ear.service(server)
        bot = PipelineTest(service, context.user, LLM(client, "m"))
        async with closing_client(service), bot as test:
            await speak(test, "tell me the time")
            test.send(UserStoppedSpeakingFrame())
            await test.expect(LLMFullResponseEndFrame)
            assert [f.text for f in test.received(LLMTextFrame)] == ["It is noon."]
            assert context.messages[-1] == {"role": "user", "content": "tell me the time"}


@ears
@pytest.mark.parametrize("fault", [Fault.CUT, Fault.GARBAGE])
async def test_a_lost_transcript_does_not_keep_the_next_one(
    ear: Ears, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deepgram.stt, "exponential_backoff_time", lambda attempt: 0.0)
    monkeypatch.setattr(websocket_service, "exponential_backoff_time", lambda attempt, **waits: 0.0)
    async with listening(ear) as (test, server):
        ear.faults(server).plan(fault)
        await speak(test, "ask not what")
        if isinstance(server, Provider) and fault is Fault.CUT:
            await until(lambda: server.connections == 2)
        else:
            await until(lambda: ear.asked(server))
        await speak(test, "stop please")
        await until(lambda: "stop please" in _transcripts(test))
        for error in test.received(ErrorFrame, UPSTREAM):
            await test.expect(ErrorFrame, UPSTREAM, error=error.error)


@ears
async def test_a_session_ends_while_the_provider_hangs(ear: Ears) -> None:
    async with listening(ear) as (test, server):
        ear.faults(server).plan(Fault.HANG, Fault.HANG, Fault.HANG, Fault.HANG)
        await speak(test, "ask not what")
        await until(lambda: ear.asked(server))
        test.interrupt()
        await test.expect_none(TranscriptionFrame, within=0.05)


@pytest.mark.parametrize("fault", [Fault.UNAUTHORIZED, Fault.RATE_LIMITED, Fault.BROKEN])
async def test_a_refused_connection_is_told_and_does_not_end_the_session(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deepgram.stt, "exponential_backoff_time", lambda attempt: 0.0)
    server = DeepgramSTTServer()
    server.refusals.plan(fault)
    async with server.serving():
        async with PipelineTest(DeepgramSTTService(api_key="k", base_url=server.ws_url)) as test:
            await test.expect(ErrorFrame, UPSTREAM, where=lambda error: fault.value in error.error)
            if fault is Fault.BROKEN:  # the others are no use to try again
                await speak(test, "ask not what")
                await test.expect(TranscriptionFrame, text="ask not what")
            else:
                assert server.connections == 0
        await until(lambda: server.open == 0)


@pytest.mark.parametrize("ear", [EARS["openai"], EARS["groq"]], ids=["openai", "groq"])
@pytest.mark.parametrize("fault", [Fault.RATE_LIMITED, Fault.BROKEN])
async def test_a_refused_request_is_repeated(ear: Ears, fault: Fault) -> None:
    async with listening(ear) as (test, server):
        ear.faults(server).plan(fault)
        await speak(test, "ask not what")
        await test.expect(TranscriptionFrame, text="ask not what")
        assert len(server.refused) == 1
