"""A bot made of stock services alone: it is spoken to, answers, and is talked over at both levels."""

from __future__ import annotations

import asyncio

import pytest
from pipecat.services.deepgram.stt import DeepgramSTTService
from pipecat.services.elevenlabs.tts import ElevenLabsTTSService
from pipecat.services.openai.llm import OpenAILLMService

from bargein.pipeline import Level
from bargein.pipeline.frames import UserStoppedSpeakingFrame
from bargein.pipeline.testing import PipelineTest
from bargein.processors.context import INTERRUPTED_MARK, SPEECH_STOPPED_MARK, Context
from bargein.transports.output import AudioOutput

from ..servers.deepgram_server import DeepgramSTTServer
from ..servers.elevenlabs_server import ElevenLabsServer
from ..servers.openai_server import OpenAIServer
from ..servers.speech import voice_of
from .bots import (
    LIBRARY_WARNINGS,
    NEXT,
    RATE,
    Bot,
    Loudspeaker,
    Tap,
    closing_client,
    outcomes,
    speak,
    tokens,
)

pytestmark = [pytest.mark.real_time, *LIBRARY_WARNINGS]


ANSWER = "Well, now listen. " + " ".join(f"Then number {n} came." for n in range(10))


@pytest.mark.parametrize("level", Level)
async def test_a_bot_of_stock_services_is_talked_over(level: Level) -> None:
    ears, brain, mouth = DeepgramSTTServer(), OpenAIServer(), ElevenLabsServer()
    async with ears.serving(), brain.serving(), mouth.serving():
        context, tap, output = Context(), Tap(), AudioOutput(RATE)
        llm = OpenAILLMService(
            api_key="k", base_url=brain.base_url, settings=OpenAILLMService.Settings(model="m")
        )
        test = PipelineTest(
            DeepgramSTTService(api_key="k", base_url=ears.ws_url),
            context.user,
            llm,
            context.assistant,
            ElevenLabsTTSService(
                api_key="k", url=mouth.ws_url, settings=ElevenLabsTTSService.Settings(voice="v")
            ),
            tap,
            output,
        )
        bot = Bot(test, brain, context, Loudspeaker(output))
        async with closing_client(llm), test, bot.speaker.playing():
            brain.script(tokens(ANSWER), tokens(NEXT))
            brain.token_s, mouth.chunk_s = 0.02, 0.04
            await speak(test, "tell me the time")
            test.send(UserStoppedSpeakingFrame())
            await bot.speaker.until_played(250)

            speaking = asyncio.create_task(speak(test, "stop please"))
            report = await bot.interrupt(level)
            assert report.heard
            assert ANSWER.startswith(report.heard)
            await speaking
            tap.audio.clear()
            bot.speaker.played.clear()
            brain.token_s = mouth.chunk_s = 0.0
            test.send(UserStoppedSpeakingFrame())
            await bot.said()

            assert tap.audio == voice_of(NEXT, RATE)
            assert bot.speaker.has_played(voice_of(NEXT, RATE))
            assert [m["role"] for m in context.messages[1:]] == ["user", "assistant", "user", "assistant"]
            first = context.messages[2]["content"]
            if level is Level.FULL:
                assert first == report.heard.rstrip() + INTERRUPTED_MARK
            else:
                assert first.replace(SPEECH_STOPPED_MARK, "").split() == ANSWER.split()
            assert (context.messages[1]["content"], context.messages[3]["content"]) == (
                "tell me the time",
                "stop please",
            )
            ends = await outcomes(r.outcome for r in brain.requests)
            assert ends == ["closed" if level is Level.FULL else "finished", "finished"]
            ends = await outcomes(s.outcome for s in mouth.spoken)
            assert "cancelled" in ends
            assert ends[-1] == "finished"
            assert (ears.connections, ears.open) == (1, 1)
        assert test.stats.undead == 0
