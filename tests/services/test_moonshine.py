"""The stock Moonshine service, hosted, on the weights that its package ships."""

from __future__ import annotations

from pathlib import Path

import pytest

from bargein.pipeline import Level, SpeechInterruptedFrame
from bargein.pipeline.frames import (
    InputAudioRawFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest, regex
from bargein.transports.file import load_recording

from .bots import LIBRARY_WARNINGS, interrupt

pytestmark = [pytest.mark.real_time, pytest.mark.local_models, *LIBRARY_WARNINGS]

RECORDING = Path(__file__).parents[1] / "data" / "sense_and_sensibility_01_austen_64kb-0880.wav"


@pytest.mark.parametrize("level", Level)
async def test_a_recording_is_transcribed_through_an_interruption(
    level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    moonshine_voice = pytest.importorskip("moonshine_voice")
    from pipecat.services.moonshine import stt

    weights = Path(moonshine_voice.__file__).parent / "assets" / "tiny-en"
    tiny = (str(weights), moonshine_voice.ModelArch.TINY)
    monkeypatch.setattr(stt, "get_model_for_language", lambda *wanted: tiny)  # it would download others
    service = stt.MoonshineSTTService(settings=stt.MoonshineSTTService.Settings(model="tiny"))
    async with PipelineTest(service) as test:
        test.send(VADUserStartedSpeakingFrame())
        recording = load_recording(RECORDING).tobytes()
        for at in range(0, len(recording), 640):
            test.send(InputAudioRawFrame(recording[at : at + 640], 16_000, 1))
        test.send(VADUserStoppedSpeakingFrame())
        await test.expect(VADUserStoppedSpeakingFrame)
        interrupt(test, level)
        await test.expect(SpeechInterruptedFrame, level=level)
        await test.expect(TranscriptionFrame, text=regex("(?i)he was not an ill.* young man"), within=120)
        assert len(test.received(TranscriptionFrame)) == 1
