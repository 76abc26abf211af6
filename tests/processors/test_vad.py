"""The VAD processor: when it says that speech begins and ends."""

from __future__ import annotations

import pytest

from bargein.pipeline.frames import (
    UPSTREAM,
    ErrorFrame,
    InputAudioRawFrame,
    UserPausedFrame,
    UserResumedFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest, regex
from bargein.processors.vad import VAD, PossibleSpeechFrame

from .fakes import FakeVAD

CHUNK_MS = 32


def audio(chunks: int, speech: bool) -> InputAudioRawFrame:
    return InputAudioRawFrame(bytes([speech]) * 1024 * chunks, 16_000, 1)


async def test_speech_counts_after_start_ms_and_ends_after_stop_ms() -> None:
    async with PipelineTest(VAD(FakeVAD(), start_ms=96, stop_ms=200)) as test:
        test.send(audio(10, False))
        test.send(audio(2, True))
        assert not test.received(VADUserStartedSpeakingFrame)
        test.send(audio(1, True))
        started = await test.expect(VADUserStartedSpeakingFrame, start_secs=0.096)
        sibling = await test.expect(VADUserStartedSpeakingFrame, UPSTREAM)
        assert started.broadcast_sibling_id == sibling.id
        test.send(audio(6, False))  # 192 ms
        assert not test.received(VADUserStoppedSpeakingFrame)
        test.send(audio(1, False))
        await test.expect(VADUserStoppedSpeakingFrame, stop_secs=0.2)
        await test.expect(VADUserStoppedSpeakingFrame, UPSTREAM)


async def test_a_click_and_a_short_gap_change_nothing() -> None:
    async with PipelineTest(VAD(FakeVAD(), start_ms=96, stop_ms=200)) as test:
        for _ in range(5):
            test.send(audio(2, True))
            test.send(audio(1, False))
        assert not test.received(VADUserStartedSpeakingFrame)
        test.send(audio(3, True))
        for _ in range(5):
            test.send(audio(6, False))
            test.send(audio(1, True))
        assert not test.received(VADUserStoppedSpeakingFrame)


async def test_audio_of_any_block_size_is_cut_into_chunks_and_passed_on_unchanged() -> None:
    async with PipelineTest(VAD(FakeVAD(), start_ms=96)) as test:
        sent = [InputAudioRawFrame(b"\x01" * size, 16_000, 1) for size in (640, 2, 2000, 430)]
        for frame in sent:
            test.send(frame)
        assert test.received(InputAudioRawFrame) == sent
        assert len(test.received(VADUserStartedSpeakingFrame)) == 1


async def test_audio_of_another_rate_is_refused_with_the_fix() -> None:
    async with PipelineTest(VAD(FakeVAD())) as test:
        test.send(InputAudioRawFrame(b"\0" * 640, 48_000, 2))
        await test.expect(ErrorFrame, UPSTREAM, error=regex("16000 Hz, not 2 channels at 48000 Hz; set"))


@pytest.mark.parametrize("threshold", [0.5, 0.9])
async def test_between_the_thresholds_the_state_stays(threshold: float) -> None:
    class Unsure(FakeVAD):
        def probability(self, chunk: bytes) -> float:
            return threshold if chunk[0] == 1 else threshold - 0.1 if chunk[0] == 2 else 0.0

    async with PipelineTest(VAD(Unsure(), threshold=threshold)) as test:
        test.send(InputAudioRawFrame(b"\x02" * 10240, 16_000, 1))
        assert not test.received(VADUserStartedSpeakingFrame)
        test.send(InputAudioRawFrame(b"\x01" * 10240, 16_000, 1))
        test.send(InputAudioRawFrame(b"\x02" * 10240, 16_000, 1))
        assert len(test.received(VADUserStartedSpeakingFrame)) == 1
        assert not test.received(VADUserStoppedSpeakingFrame)


async def test_a_pause_is_told_at_once_and_taken_back_when_it_was_none() -> None:
    async with PipelineTest(VAD(FakeVAD(), start_ms=96, stop_ms=200)) as test:
        test.send(audio(3, True))
        test.send(audio(2, False))
        await test.expect(UserPausedFrame)
        test.send(audio(1, True))
        await test.expect(UserResumedFrame)
        test.send(audio(7, False))
        await test.expect(UserPausedFrame)
        await test.expect(VADUserStoppedSpeakingFrame)
        test.send(audio(20, False))
        assert len(test.received(UserPausedFrame)) == 2
        assert len(test.received(UserResumedFrame)) == 1


async def test_the_model_forgets_in_long_silence_and_never_in_speech() -> None:
    model = FakeVAD()
    async with PipelineTest(VAD(model)) as test:
        test.send(audio(400, True))
        assert model.resets == 0
        test.send(audio(330, False))  # 10.6 s, 0.2 s of it until the stop
        assert model.resets == 2


async def test_a_first_sign_is_told_before_the_start_and_each_time_it_comes() -> None:
    async with PipelineTest(VAD(FakeVAD(), start_ms=96)) as test:
        test.send(audio(1, True))
        test.send(audio(1, False))
        assert not test.received(PossibleSpeechFrame)
        for _ in range(2):
            test.send(audio(2, True))
            await test.expect(PossibleSpeechFrame, start_secs=0.064)
            test.send(audio(1, False))
        test.send(audio(3, True))
        await test.expect(PossibleSpeechFrame)
        await test.expect(VADUserStartedSpeakingFrame)
        test.send(audio(10, True))
        assert len(test.received(PossibleSpeechFrame)) == 3
