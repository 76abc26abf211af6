"""Speech to text: no onset is cut, nothing the user said is lost, transcripts come before the turn's end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bargein.pipeline import Processor, handles
from bargein.pipeline.frames import (
    UPSTREAM,
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    TextFrame,
    TranscriptionFrame,
    UserPausedFrame,
    UserResumedFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest, regex
from bargein.processors.stt import FINISH_S, PRE_ROLL_MS, STT

from .fakes import FakeTranscriber, FakeUtterance


def audio(value: int, ms: int = 20) -> InputAudioRawFrame:
    return InputAudioRawFrame(bytes([value]) * (32 * ms), 16_000, 1)


def fed(transcriber: FakeTranscriber, number: int = 0) -> list[tuple[int, int]]:
    """What an utterance was fed: (value, ms) in a row."""
    runs: list[tuple[int, int]] = []
    data = transcriber.opened[number].fed
    for start in range(0, len(data), 32):
        value = data[start]
        if runs and runs[-1][0] == value:
            runs[-1] = (value, runs[-1][1] + 1)
        else:
            runs.append((value, 1))
    return runs


def speak(test: PipelineTest, value: int, ms: int) -> None:
    """The user speaks, and the VAD hears the beginning and the end."""
    test.send(VADUserStartedSpeakingFrame())
    test.send(audio(value, ms))
    test.send(UserPausedFrame())
    test.send(audio(0, 140))
    test.send(VADUserStoppedSpeakingFrame())


async def test_the_pre_roll_is_transcribed_too() -> None:
    transcriber = FakeTranscriber([("hello", 0.1)])
    async with PipelineTest(STT(transcriber)) as test:
        test.send(audio(1, 2000))
        test.send(audio(2, 100))
        speak(test, 3, 60)
        test.send(UserStoppedSpeakingFrame())
        await test.expect(TranscriptionFrame, text="hello", finalized=True)
    assert fed(transcriber) == [(1, PRE_ROLL_MS - 100), (2, 100), (3, 60)]


async def test_a_turn_with_pauses_is_one_utterance() -> None:
    """Given "ask not" alone, a tiny recogniser hears "as not"."""
    transcriber = FakeTranscriber([("ask not what", 0.1)])
    async with PipelineTest(STT(transcriber)) as test:
        speak(test, 3, 60)
        test.send(audio(0, 400))
        speak(test, 4, 80)
        test.send(UserStoppedSpeakingFrame())
        await test.expect(TranscriptionFrame, text="ask not what")
    assert fed(transcriber) == [(3, 60), (0, 540), (4, 80)]


async def test_partials_come_while_the_user_speaks_and_at_each_pause() -> None:
    transcriber = FakeTranscriber([("hello you", 0.1)])
    async with PipelineTest(STT(transcriber)) as test:
        test.send(VADUserStartedSpeakingFrame())
        transcriber.opened[0].on_partial("hello")
        await test.expect(InterimTranscriptionFrame, text="hello")
        test.send(UserPausedFrame())
        await test.expect(InterimTranscriptionFrame, text="hello you")
        test.send(UserStoppedSpeakingFrame())
        transcriber.opened[0].on_partial("too late")
        await test.expect(TranscriptionFrame, text="hello you")
        assert len(test.received(InterimTranscriptionFrame)) == 2


async def test_the_transcript_comes_before_the_end_of_its_turn_and_turns_in_order() -> None:
    """The first turn's final takes longer than the second's."""
    async with PipelineTest(STT(FakeTranscriber([("one", 0.5), ("two", 0.1)]))) as test:
        for value in (1, 2):
            speak(test, value, 60)
            test.send(UserStoppedSpeakingFrame())
        for text in ("one", "two"):
            await test.expect(TranscriptionFrame, text=text)
            await test.expect(UserStoppedSpeakingFrame)
        kinds = (TranscriptionFrame, UserStoppedSpeakingFrame)
        order = [getattr(f, "text", "end") for f in test.received(Frame) if isinstance(f, kinds)]
        assert order == ["one", "end", "two", "end"]


async def test_an_interruption_loses_nothing_the_user_said() -> None:
    """pipecat #5683: a transcription was dropped by the interruption of its own turn."""
    async with PipelineTest(STT(FakeTranscriber([("wait", 0.3)]))) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.interrupt()
        test.send(UserStoppedSpeakingFrame())
        await test.advance(0.1)
        test.interrupt()
        await test.expect(TranscriptionFrame, text="wait")


async def test_an_interruption_loses_no_transcript_that_waits_for_a_busy_processor() -> None:
    """pipecat #5683 once more: a frame in a queue is dropped unless it says that it must not be."""

    class Busy(Processor):
        @handles(TextFrame)
        async def look(self, frame: TextFrame) -> None:
            await asyncio.sleep(3)
            self.push(frame)

    async with PipelineTest(STT(FakeTranscriber([("hello", 0.1)])), Busy()) as test:
        test.send(TextFrame("keeps it busy"))
        speak(test, 1, 60)
        test.send(UserStoppedSpeakingFrame())
        await test.advance(1)
        test.interrupt()
        await test.expect(TextFrame, text="hello")


async def test_what_is_being_said_when_the_session_ends_is_transcribed() -> None:
    async with PipelineTest(STT(FakeTranscriber([("bye", 0.3)]))) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.session.end()
        await test.expect(TranscriptionFrame, text="bye")
        await test.expect(EndFrame)


async def test_an_empty_transcript_is_no_transcript() -> None:
    async with PipelineTest(STT(FakeTranscriber([(" ", 0.1)]))) as test:
        speak(test, 1, 60)
        test.send(UserStoppedSpeakingFrame())
        await test.expect(UserStoppedSpeakingFrame)
        await test.expect_none(TranscriptionFrame, within=1)


async def test_a_recogniser_that_hangs_does_not_hold_the_turn_for_ever() -> None:
    transcriber = FakeTranscriber([("never", 1e9), ("next", 0.1)])
    async with PipelineTest(STT(transcriber)) as test:
        speak(test, 1, 60)
        test.send(UserStoppedSpeakingFrame())
        await test.expect(UserStoppedSpeakingFrame, within=FINISH_S + 1)
        await test.expect(ErrorFrame, UPSTREAM, error=regex("no final transcript within"))
        assert transcriber.opened[0].cancelled
        speak(test, 1, 60)
        test.send(UserStoppedSpeakingFrame())
        await test.expect(TranscriptionFrame, text="next")


async def test_an_open_utterance_is_given_up_when_the_session_is_cancelled() -> None:
    transcriber = FakeTranscriber([("gone", 0.1)])
    async with PipelineTest(STT(transcriber)) as test:
        test.send(VADUserStartedSpeakingFrame())
    assert transcriber.opened[0].cancelled


async def test_a_transcript_that_is_awaited_when_the_session_is_cancelled_is_given_up() -> None:
    transcriber = FakeTranscriber([("gone", 5)])
    async with PipelineTest(STT(transcriber)) as test:
        speak(test, 1, 60)
        test.send(UserStoppedSpeakingFrame())
        await test.advance(0.1)
        test.session.cancel()
    assert transcriber.opened[0].cancelled


async def test_a_recogniser_that_is_cancelled_by_somebody_else_is_an_error_and_ends_the_turn() -> None:
    class Cancelled(FakeTranscriber):
        def open(self, on_partial: Callable[[str], None]) -> FakeUtterance:
            utterance = super().open(on_partial)
            utterance.finish = self._finish  # type: ignore[method-assign]
            return utterance

        async def _finish(self) -> str:
            raise asyncio.CancelledError("its connection was closed")

    async with PipelineTest(STT(Cancelled([("lost", 0.1)]))) as test:
        speak(test, 1, 60)
        test.send(UserStoppedSpeakingFrame())
        await test.expect(UserStoppedSpeakingFrame, within=1)
        await test.expect(ErrorFrame, UPSTREAM, error=regex("its connection was closed"))


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
        test.send(UserStoppedSpeakingFrame())
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
        test.send(UserStoppedSpeakingFrame())
        await test.expect(TranscriptionFrame)
    assert fed(transcriber) == [(1, 20), (2, 20), (3, 20)]


async def test_the_silence_at_the_end_of_a_turn_is_the_pre_roll_of_the_next() -> None:
    transcriber = FakeTranscriber([("one", 0.1), ("two", 0.1)])
    async with PipelineTest(STT(transcriber)) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.send(UserPausedFrame())
        test.send(audio(4, 140))
        test.send(UserStoppedSpeakingFrame())
        test.send(audio(5, 60))
        test.send(VADUserStartedSpeakingFrame())
        test.send(UserStoppedSpeakingFrame())
        await test.expect(TranscriptionFrame, text="one")
        await test.expect(TranscriptionFrame, text="two")
    assert fed(transcriber, 1) == [(4, 140), (5, 60)]
