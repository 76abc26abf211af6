"""End of turn: the model's verdict, and the silence that decides when it errs."""

from __future__ import annotations

import asyncio

from bargein.pipeline.frames import (
    UPSTREAM,
    InputAudioRawFrame,
    UserPausedFrame,
    UserResumedFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest
from bargein.processors.turn import Turn

from .fakes import FakeEndOfTurn


async def test_a_complete_turn_ends_at_once() -> None:
    model = FakeEndOfTurn([0.9])
    async with PipelineTest(Turn(model)) as test:
        test.send(VADUserStartedSpeakingFrame())
        await test.expect(UserStartedSpeakingFrame)
        await test.expect(UserStartedSpeakingFrame, UPSTREAM)
        test.send(InputAudioRawFrame(b"\x05" * 640, 16_000, 1))
        test.send(VADUserStoppedSpeakingFrame())
        await test.expect(UserStoppedSpeakingFrame, within=0.1)
        await test.expect(UserStoppedSpeakingFrame, UPSTREAM)
    assert model.heard == [b"\x05" * 640]


async def test_a_pause_inside_a_turn_does_not_end_it() -> None:
    async with PipelineTest(Turn(FakeEndOfTurn([0.1, 0.9]), silence_ms=1500)) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.send(VADUserStoppedSpeakingFrame())
        await test.advance(1.4)
        test.send(VADUserStartedSpeakingFrame())
        await test.expect_none(UserStoppedSpeakingFrame, within=5)
        test.send(VADUserStoppedSpeakingFrame())
        await test.expect(UserStoppedSpeakingFrame)
        assert len(test.received(UserStartedSpeakingFrame)) == 1


async def test_silence_ends_the_turn_whatever_the_model_says() -> None:
    for verdict in (0.0, RuntimeError("broken model")):
        async with PipelineTest(Turn(FakeEndOfTurn([verdict]), silence_ms=1500)) as test:
            test.send(VADUserStartedSpeakingFrame())
            test.send(VADUserStoppedSpeakingFrame())
            await test.expect_none(UserStoppedSpeakingFrame, within=1.49)
            await test.expect(UserStoppedSpeakingFrame, within=0.02)


async def test_a_model_that_hangs_keeps_no_turn_from_ending() -> None:
    class Hangs(FakeEndOfTurn):
        async def probability(self, pcm: bytes) -> float:
            self.heard.append(pcm)
            await asyncio.sleep(1e9)
            return 1.0

    async with PipelineTest(Turn(Hangs([]), silence_ms=1500)) as test:
        for _ in range(2):
            test.send(VADUserStartedSpeakingFrame())
            test.send(UserPausedFrame())
            await test.advance(0.16)
            test.send(VADUserStoppedSpeakingFrame())
            await test.expect_none(UserStoppedSpeakingFrame, within=1.49)
            await test.expect(UserStoppedSpeakingFrame, within=0.02)


async def test_without_a_model_silence_decides() -> None:
    async with PipelineTest(Turn(silence_ms=700)) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.send(VADUserStoppedSpeakingFrame())
        await test.expect_none(UserStoppedSpeakingFrame, within=0.69)
        await test.expect(UserStoppedSpeakingFrame, within=0.02)


async def test_the_model_looks_at_this_turn_and_at_8_s_at_most() -> None:
    model = FakeEndOfTurn([0.9, 0.9])
    async with PipelineTest(Turn(model)) as test:
        for seconds in (12, 2):
            test.send(VADUserStartedSpeakingFrame())
            for _ in range(seconds):
                test.send(InputAudioRawFrame(b"\x05" * 32_000, 16_000, 1))
            test.send(VADUserStoppedSpeakingFrame())
            await test.expect(UserStoppedSpeakingFrame)
    assert [len(pcm) for pcm in model.heard] == [8 * 32_000, 2 * 32_000]


async def test_an_interruption_does_not_keep_a_turn_from_ending() -> None:
    async with PipelineTest(Turn(FakeEndOfTurn([0.9]))) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.send(VADUserStoppedSpeakingFrame())
        test.interrupt()
        await test.expect(UserStoppedSpeakingFrame)


async def test_a_no_at_the_pause_is_asked_about_again_at_the_stop() -> None:
    """With more of the silence the model may hear that the turn is complete."""
    async with PipelineTest(Turn(FakeEndOfTurn([0.1, 0.9]))) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.send(UserPausedFrame())
        await test.advance(0.1)
        test.send(VADUserStoppedSpeakingFrame())
        await test.expect(UserStoppedSpeakingFrame, within=0.1)


async def test_the_verdict_is_asked_for_when_the_pause_begins() -> None:
    async with PipelineTest(Turn(FakeEndOfTurn([0.1, 0.9]))) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.send(UserPausedFrame())
        await test.advance(0.04)
        test.send(UserResumedFrame())
        test.send(UserPausedFrame())
        await test.advance(0.04)
        test.send(VADUserStoppedSpeakingFrame())
        await test.expect(UserStoppedSpeakingFrame, within=0.001)
