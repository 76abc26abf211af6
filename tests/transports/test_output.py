"""The output: rates, channels, bot-speaking frames, and holds."""

from __future__ import annotations

import numpy as np
import pytest

from bargein import Processor, SpokenAudioFrame, handles
from bargein.pipeline.frames import (
    UPSTREAM,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    OutputAudioRawFrame,
    SpeechHoldFrame,
    SpeechReleaseFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from bargein.pipeline.testing import PipelineTest
from bargein.transports.output import AudioOutput
from bargein.transports.playout import DRY_MS


def sine(rate: int, seconds: float = 1.0) -> bytes:
    t = np.arange(int(rate * seconds)) / rate
    return (8000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16).tobytes()


@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000, 48_000])
async def test_audio_of_any_rate_is_played_at_the_output_rate(rate: int) -> None:
    output = AudioOutput(16_000)
    async with PipelineTest(output) as test:
        for start in range(0, 2 * rate, rate // 5):
            test.send(TTSAudioRawFrame(sine(rate)[start : start + rate // 5], rate, 1))
        test.send(TTSStoppedFrame())
        samples = np.frombuffer(output.playout.read(20_000), np.int16).astype(float)
        wanted = np.frombuffer(sine(16_000), np.int16).astype(float)
        last = np.flatnonzero(np.abs(samples) > 200)[-1]
        assert last == pytest.approx(16_000, abs=40)
        assert np.corrcoef(samples[200:15_800], wanted[200:15_800])[0, 1] > 0.999


async def test_marks_that_come_behind_the_last_sound_do_not_start_the_voice() -> None:
    output = AudioOutput(16_000)
    async with PipelineTest(output) as test:
        test.send(SpokenAudioFrame(b"", 16_000, 1, "r1", ((0, 5),)))
        output.playout.read(320)
        assert not test.received(BotStartedSpeakingFrame)
        test.send(SpokenAudioFrame(b"", 16_000, 1, "r1", ((0, 9),)))
        test.send(TTSAudioRawFrame(sine(16_000), 16_000, 1))
        output.playout.read(320)
        await test.expect(BotStartedSpeakingFrame)


async def test_stereo_is_mixed_down() -> None:
    output = AudioOutput(16_000)
    async with PipelineTest(output) as test:
        stereo = np.tile(np.array([1000, 3000], np.int16), 320)
        test.send(OutputAudioRawFrame(stereo.tobytes(), 16_000, 2))
        assert set(np.frombuffer(output.playout.read(320), np.int16)) == {2000}


async def test_speaking_is_told_when_it_sounds_not_when_it_is_made() -> None:
    output = AudioOutput(16_000)
    async with PipelineTest(output) as test:
        test.send(TTSAudioRawFrame(sine(16_000), 16_000, 1))
        assert not test.received(BotStartedSpeakingFrame)
        output.playout.read(320)
        await test.expect(BotStartedSpeakingFrame)
        await test.expect(BotStartedSpeakingFrame, UPSTREAM)
        test.send(TTSStoppedFrame())
        output.playout.read(15_000)
        assert not test.received(BotStoppedSpeakingFrame)
        output.playout.read(1_000)
        await test.expect(BotStoppedSpeakingFrame)
        await test.expect(BotStoppedSpeakingFrame, UPSTREAM)


async def test_a_held_voice_goes_on_where_it_was() -> None:
    output = AudioOutput(16_000)
    async with PipelineTest(output) as test:
        test.send(TTSAudioRawFrame(b"\x01\x10" * 3200, 16_000, 1))
        output.playout.read(320)
        test.send(SpeechHoldFrame())
        await test.expect(SpeechHoldFrame)
        output.playout.read(320)
        assert set(output.playout.read(3200)) == {0}
        test.send(SpeechReleaseFrame())
        samples = np.frombuffer(output.playout.read(3200), np.int16)
        assert np.count_nonzero(samples) == pytest.approx(2880, abs=2)


async def test_a_voice_that_waits_for_more_to_say_is_not_speaking() -> None:
    output = AudioOutput(16_000)
    async with PipelineTest(output) as test:
        with test.session.respond() as response:
            test.send(OutputAudioRawFrame(b"\1\1" * 1_600, 16_000, 1))
            output.playout.read(1_600)
            await test.expect(BotStartedSpeakingFrame)
            output.playout.read(16 * (DRY_MS - 10))
            await test.expect_none(BotStoppedSpeakingFrame, within=1)
            output.playout.read(16 * 10)
            await test.expect(BotStoppedSpeakingFrame)
            assert not response.finished
            test.send(OutputAudioRawFrame(b"\1\1" * 1_600, 16_000, 1))
            output.playout.read(1_600)
            await test.expect(BotStartedSpeakingFrame)


async def test_resampling_loses_no_word() -> None:
    """The resampler keeps the end of each frame back, and with it the place of its last word."""
    output = AudioOutput(16_000)

    class Words(Processor):
        @handles(TTSStartedFrame)
        def speak(self, frame: TTSStartedFrame) -> None:
            with self.session.respond() as response:
                response.text = "one two"
                for end in (3, 7):
                    self.push(SpokenAudioFrame(sine(24_000, 0.2), 24_000, 1, response.id, ((4_800, end),)))
                self.push(TTSStoppedFrame())

    async with PipelineTest(Words(), output) as test:
        test.send(TTSStartedFrame())
        output.playout.read(3_198)
        assert not test.received(TTSTextFrame)
        output.playout.read(2)
        await test.expect(TTSTextFrame, text="one")
        output.playout.read(3_200)
        await test.expect(TTSTextFrame, text=" two")


async def test_the_last_word_of_a_sentence_does_not_wait_for_the_next_sentence() -> None:
    output = AudioOutput(16_000)

    class Words(Processor):
        @handles(TTSStartedFrame)
        def speak(self, frame: TTSStartedFrame) -> None:
            with self.session.respond() as response:
                response.text = "One. Two."
                audio = sine(24_000, 0.2)
                self.push(SpokenAudioFrame(audio, 24_000, 1, response.id, ((4_800, 4),)))
                self.push(SpokenAudioFrame(b"", 24_000, 1, response.id, ((0, 4),)))

    async with PipelineTest(Words(), output) as test:
        test.send(TTSStartedFrame())
        output.playout.read(3_200)
        await test.expect(TTSTextFrame, text="One.")
