"""Stock services that tell turns themselves, hosted: each turn is answered, and once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from pipecat.services.assemblyai.stt import AssemblyAISTTService
from pipecat.services.deepgram.flux.stt import DeepgramFluxSTTService
from pipecat.services.openai.stt import OpenAIRealtimeSTTService

from bargein.pipeline.frames import (
    InputAudioRawFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMTextFrame,
    TranscriptionFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from bargein.pipeline.stock import STTService
from bargein.pipeline.testing import PipelineTest
from bargein.processors.context import Context
from bargein.processors.llm import LLM

from ..servers.faults import spoken
from ..servers.openai_server import OpenAIServer
from ..servers.turn_telling_servers import (
    AssemblyAITurnsServer,
    FluxServer,
    RealtimeVADServer,
    TurnTellingServer,
)
from .bots import CHUNK, LIBRARY_WARNINGS, speak, until

pytestmark = [pytest.mark.real_time, *LIBRARY_WARNINGS]

SILENCE = bytes(2 * 16_000)  # 1 s


@dataclass(frozen=True)
class Ears:
    """A service and its provider."""

    server: Callable[[], TurnTellingServer]
    service: Callable[[TurnTellingServer], STTService]


EARS = {
    "assemblyai": Ears(
        AssemblyAITurnsServer,
        lambda server: AssemblyAISTTService(
            api_key="k",
            api_endpoint_base_url=f"{server.ws_url}/v3/ws",
            vad_force_turn_endpoint=False,
            settings=AssemblyAISTTService.Settings(model="u3-rt-pro"),
        ),
    ),
    "flux": Ears(
        FluxServer, lambda server: DeepgramFluxSTTService(api_key="k", url=f"{server.ws_url}/v2/listen")
    ),
    "openai": Ears(
        RealtimeVADServer,
        lambda server: OpenAIRealtimeSTTService(
            api_key="k", base_url=f"{server.ws_url}/v1/realtime", turn_detection={"type": "server_vad"}
        ),
    ),
}

ears = pytest.mark.parametrize("ear", EARS.values(), ids=EARS)


@dataclass
class Bot:
    """It listens, and answers in writing."""

    test: PipelineTest
    server: TurnTellingServer
    context: Context

    async def hear(self, sound: bytes) -> None:
        for at in range(0, len(sound), CHUNK):
            self.test.send(InputAudioRawFrame(sound[at : at + CHUNK], 16_000, 1))
            await asyncio.sleep(0.001)

    @property
    def conversation(self) -> list[str]:
        return [message["content"] for message in self.context.messages[1:]]


@asynccontextmanager
async def listening(ear: Ears) -> AsyncIterator[Bot]:
    server, model, context = ear.server(), OpenAIServer(), Context()
    model.script(["One."], ["Two."], ["Three."])
    async with server.serving(), model.client() as client:
        bot = PipelineTest(ear.service(server), context.user, LLM(client, "m"), context.assistant)
        async with bot as test:
            await until(lambda: server.open)
            yield Bot(test, server, context)
            assert test.stats.undead == 0
        await until(lambda: server.open == 0)


@ears
@pytest.mark.parametrize("text_s", [0.0, 0.05])
async def test_a_turn_of_the_services_own_is_answered_once(ear: Ears, text_s: float) -> None:
    async with listening(ear) as bot:
        bot.server.text_s = text_s
        for text in ("ask not what", "tell me the time"):
            await bot.hear(spoken(text) + SILENCE)
            await bot.test.expect(UserStartedSpeakingFrame)
            await bot.test.expect(TranscriptionFrame, text=text)
            await bot.test.expect(UserStoppedSpeakingFrame)
            await bot.test.expect(LLMFullResponseEndFrame)
        assert bot.conversation == ["ask not what", "One.", "tell me the time", "Two."]
        assert bot.server.turns == ["ask not what", "tell me the time"]
        assert len(bot.test.received(UserStoppedSpeakingFrame)) == 2


@ears
@pytest.mark.parametrize("first", ["ours", "the service's"])
async def test_a_turn_that_both_tell_is_answered_once(ear: Ears, first: str) -> None:
    async with listening(ear) as bot:
        for text in ("ask not what", "tell me the time"):
            await speak(bot.test, text)
            if first == "ours":
                bot.test.send(UserStoppedSpeakingFrame())
            await bot.hear(SILENCE)
            await bot.test.expect(TranscriptionFrame, text=text)
            if first != "ours":
                bot.test.send(UserStoppedSpeakingFrame())
            await bot.test.expect(LLMFullResponseEndFrame)
        assert bot.conversation == ["ask not what", "One.", "tell me the time", "Two."]
        assert [frame.text for frame in bot.test.received(LLMTextFrame)] == ["One.", "Two."]
        assert not bot.test.received(LLMContextFrame), "each went to the model"
