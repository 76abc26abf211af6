"""Speech to text: no onset is cut, nothing the user said is lost, transcripts come before the turn's end."""

from __future__ import annotations

from bargein.pipeline.frames import (
    UPSTREAM,
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    UserPausedFrame,
    UserResumedFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest, regex
from bargein.processors.stt import FINISH_S, PRE_ROLL_MS, STT

from .fakes import FakeTranscriber


def audio(value: int, ms: int = 20) -> InputAudioRawFrame:
    return InputAudioRawFrame(bytes([value]) * (32 * ms), 16_000, 1)


async def test_the_pre_roll_is_transcribed_too() -> None:
    transcriber = FakeTranscriber([("hello", 0.1)])
    async with PipelineTest(STT(transcriber)) as test:
        test.send(audio(1, 2000))
        test.send(audio(2, 100))
        test.send(VADUserStartedSpeakingFrame())
        test.send(audio(3, 60))
        test.send(VADUserStoppedSpeakingFrame())
        test.send(audio(4, 60))
        await test.expect(TranscriptionFrame, text="hello", finalized=True)
    fed = bytes(transcriber.opened[0].fed)
    assert fed == b"\1" * (32 * (PRE_ROLL_MS - 100)) + b"\2" * 3200 + b"\3" * (32 * 60)


async def test_partials_come_while_the_user_speaks() -> None:
    transcriber = FakeTranscriber([("hello you", 0.1)])
    async with PipelineTest(STT(transcriber)) as test:
        test.send(VADUserStartedSpeakingFrame())
        transcriber.opened[0].on_partial("hello")
        await test.expect(InterimTranscriptionFrame, text="hello")
        test.send(VADUserStoppedSpeakingFrame())
        transcriber.opened[0].on_partial("too late")
        await test.expect(TranscriptionFrame, text="hello you")
        assert len(test.received(InterimTranscriptionFrame)) == 1


async def test_all_finals_of_a_turn_come_in_spoken_order_and_before_its_end() -> None:
    """The first final takes longer than the second; the turn ends before either is there."""
    async with PipelineTest(STT(FakeTranscriber([("one", 0.5), ("two", 0.1)]))) as test:
        for _ in range(2):
            test.send(VADUserStartedSpeakingFrame())
            test.send(VADUserStoppedSpeakingFrame())
        test.send(UserStoppedSpeakingFrame())
        await test.expect(UserStoppedSpeakingFrame)
        order = [
            f for f in test.received(Frame) if isinstance(f, TranscriptionFrame | UserStoppedSpeakingFrame)
        ]
        assert [getattr(f, "text", "end") for f in order] == ["one", "two", "end"]


async def test_an_interruption_loses_nothing_the_user_said() -> None:
    """pipecat #5683: a transcription was dropped by the interruption of its own turn."""
    async with PipelineTest(STT(FakeTranscriber([("wait", 0.3)]))) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.interrupt()
        test.send(VADUserStoppedSpeakingFrame())
        await test.advance(0.1)
        test.interrupt()
        await test.expect(TranscriptionFrame, text="wait")


async def test_what_is_being_said_when_the_session_ends_is_transcribed() -> None:
    async with PipelineTest(STT(FakeTranscriber([("bye", 0.3)]))) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.session.end()
        await test.expect(TranscriptionFrame, text="bye")
        await test.expect(EndFrame)


async def test_an_empty_transcript_is_no_transcript() -> None:
    async with PipelineTest(STT(FakeTranscriber([(" ", 0.1)]))) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.send(VADUserStoppedSpeakingFrame())
        await test.expect_none(TranscriptionFrame, within=1)


async def test_a_recogniser_that_hangs_does_not_hold_the_turn_for_ever() -> None:
    async with PipelineTest(STT(FakeTranscriber([("never", 1e9), ("next", 0.1)]))) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.send(VADUserStoppedSpeakingFrame())
        test.send(UserStoppedSpeakingFrame())
        await test.expect(UserStoppedSpeakingFrame, within=FINISH_S + 1)
        await test.expect(ErrorFrame, UPSTREAM, error=regex("no final transcript within"))
        test.send(VADUserStartedSpeakingFrame())
        test.send(VADUserStoppedSpeakingFrame())
        await test.expect(TranscriptionFrame, text="next")


async def test_an_open_utterance_is_given_up_when_the_session_is_cancelled() -> None:
    transcriber = FakeTranscriber([("gone", 0.1)])
    async with PipelineTest(STT(transcriber)) as test:
        test.send(VADUserStartedSpeakingFrame())
    assert transcriber.opened[0].cancelled


async def test_the_final_transcript_is_begun_when_the_pause_begins() -> None:
    transcriber = FakeTranscriber([("hello", 0.2)])
    async with PipelineTest(STT(transcriber)) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.send(audio(3, 60))
        test.send(UserPausedFrame())
        for _ in range(7):
            await test.advance(0.02)
            test.send(audio(0))
        test.send(VADUserStoppedSpeakingFrame())
        await test.expect(TranscriptionFrame, text="hello", within=0.07)


async def test_a_pause_that_was_none_loses_no_audio() -> None:
    transcriber = FakeTranscriber([("hello", 0.2)])
    async with PipelineTest(STT(transcriber)) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.send(audio(1))
        test.send(UserPausedFrame())
        test.send(audio(2))
        test.send(UserResumedFrame())
        test.send(audio(3))
        test.send(UserPausedFrame())
        test.send(audio(4))
        test.send(VADUserStoppedSpeakingFrame())
        await test.expect(TranscriptionFrame)
    assert bytes(transcriber.opened[0].fed) == b"\1" * 640 + b"\2" * 640 + b"\3" * 640


async def test_what_follows_a_stop_keeps_the_silence_before_it_as_pre_roll() -> None:
    transcriber = FakeTranscriber([("one", 0.1), ("two", 0.1)])
    async with PipelineTest(STT(transcriber)) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.send(UserPausedFrame())
        test.send(audio(4, 140))
        test.send(VADUserStoppedSpeakingFrame())
        test.send(audio(5, 60))
        test.send(VADUserStartedSpeakingFrame())
        test.send(VADUserStoppedSpeakingFrame())
        await test.expect(TranscriptionFrame, text="one")
        await test.expect(TranscriptionFrame, text="two")
    assert bytes(transcriber.opened[1].fed) == b"\4" * (32 * 140) + b"\5" * (32 * 60)
