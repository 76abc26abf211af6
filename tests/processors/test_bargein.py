"""Barge-in: the user speaks, everything stops."""

from __future__ import annotations

import pytest

from bargein.pipeline import Level, SpeechInterruptedFrame
from bargein.pipeline.frames import VADUserStartedSpeakingFrame
from bargein.pipeline.testing import PipelineTest
from bargein.processors.bargein import BargeIn


async def test_speech_interrupts_and_the_report_counts_from_its_onset() -> None:
    async with PipelineTest(BargeIn()) as test:
        await test.advance(1)
        test.send(VADUserStartedSpeakingFrame(start_secs=0.096))
        report = await test.expect(SpeechInterruptedFrame, level=Level.FULL, reason="user_speaking")
        assert report.ms == pytest.approx(96)
        await test.expect(VADUserStartedSpeakingFrame)
        assert test.stats.interruptions == 1
