"""Pipecat's own turn-taking in our pipelines, on a recording: Silero, Smart Turn, context aggregators."""

from __future__ import annotations

import asyncio
import warnings
from pathlib import Path

import av
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import LLMMessagesAppendFrame, LLMRunFrame
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.audio.vad_processor import VADProcessor

from bargein import SpeechInterruptedFrame
from bargein.pipeline.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    InputAudioRawFrame,
    LLMContextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest
from bargein.processors.turn import Turn
from bargein.transports.output import AudioOutput

from ..processors.fakes import playing
from .stock_processors import StockModel, StockVoice
from .test_host_stt import StockEar

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from pipecat.processors.aggregators.llm_response_universal import (
        LLMContextAggregatorPair,
        LLMUserAggregatorParams,
    )

JFK = Path(__file__).parents[1] / "data" / "jfk.flac"
CHUNK_MS = 20


def recording(seconds: float) -> bytes:
    """The beginning of the recording, as 16 kHz mono s16le."""
    resampler = av.AudioResampler("s16", "mono", 16_000)
    with av.open(str(JFK)) as file:
        frames = [out for frame in file.decode(audio=0) for out in resampler.resample(frame)]
    return b"".join(frame.to_ndarray().tobytes() for frame in frames)[: int(seconds * 32_000)]


async def speak(test: PipelineTest, pcm: bytes) -> None:
    """Say a recording at its pace."""
    for start in range(0, len(pcm), 32 * CHUNK_MS):
        test.send(InputAudioRawFrame(pcm[start : start + 32 * CHUNK_MS], 16_000, 1))
        await asyncio.sleep(CHUNK_MS / 1000)


async def test_pipecats_vad_drives_our_turns() -> None:
    vad = VADProcessor(vad_analyzer=SileroVADAnalyzer())
    async with PipelineTest(vad, Turn(silence_ms=600)) as test:
        await speak(test, recording(3.0) + bytes(64_000))
        for frame_type in (
            VADUserStartedSpeakingFrame,
            UserStartedSpeakingFrame,
            VADUserStoppedSpeakingFrame,
            UserStoppedSpeakingFrame,
        ):
            await test.expect(frame_type)
        sounds = b"".join(frame.audio for frame in test.received(InputAudioRawFrame))
        assert sounds == recording(3.0) + bytes(64_000)


async def test_a_bot_of_pipecats_own_parts_is_interrupted_by_our_engine() -> None:
    context = LLMContext([{"role": "system", "content": "Be brief."}])
    params = LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    pair = LLMContextAggregatorPair(context, user_params=params)
    model = StockModel(["That is a long answer. It goes on and on. It has no end. It never will.", "I see."])
    output, played = AudioOutput(16_000), bytearray()
    ear = StockEar(["ask not what your country", "never mind"])
    test = PipelineTest(ear, pair.user(), model, StockVoice(), output, pair.assistant())
    async with playing(output, played), test:
        # Speech, and the silence in which Smart Turn decides.
        asking = asyncio.create_task(speak(test, recording(3.2) + bytes(5 * 32_000)))
        await test.expect(BotStartedSpeakingFrame, within=10)
        asking.cancel()
        assert context.messages[-1] == {"role": "user", "content": "ask not what your country"}
        reports = len(test.received(SpeechInterruptedFrame))
        test.skip()
        await test.advance(1)
        await speak(test, recording(3.2) + bytes(3 * 32_000))
        await test.expect(SpeechInterruptedFrame)
        await test.expect(BotStartedSpeakingFrame, within=10)
        await test.expect(BotStoppedSpeakingFrame, within=10)
        assert len(test.received(SpeechInterruptedFrame)) == reports + 1
        await test.advance(1)
        roles = [message["role"] for message in context.messages if isinstance(message, dict)]
        assert roles == ["system", "user", "assistant", "user", "assistant"]
        said = [m["content"] for m in context.messages if isinstance(m, dict) and m["role"] == "assistant"]
        assert said[1] == "I see."
        assert "That is a long answer." in str(said[0])
        assert "no end" not in str(said[0])


async def test_pipecats_context_frames_work() -> None:
    context = LLMContext()
    pair = LLMContextAggregatorPair(context)
    async with PipelineTest(pair.user()) as test:
        test.send(LLMMessagesAppendFrame([{"role": "user", "content": "Hi."}]))
        test.send(LLMRunFrame())
        asked = await test.expect(LLMContextFrame)
        assert asked.context.messages == [{"role": "user", "content": "Hi."}]
