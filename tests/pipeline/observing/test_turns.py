"""What turns and interruptions are reported to have cost, on a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from bargein.pipeline import UPSTREAM, Level, Processor, handles
from bargein.pipeline.frames import (
    BotStoppedSpeakingFrame,
    ErrorFrame,
    LLMContextFrame,
    LLMFullResponseStartFrame,
    SpeechHoldFrame,
    SpeechReleaseFrame,
    SpeechResumedFrame,
    TranscriptionFrame,
    UserStoppedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from bargein.pipeline.observing import InterruptionReport, Listener, PauseReport, TurnReport, Turns
from bargein.pipeline.testing import PipelineTest
from bargein.processors.context import Context

from ...processors.scripted import Bot, bot
from ...servers.openai_server import Token


@dataclass
class Reports(Listener):
    turns: list[TurnReport] = field(default_factory=list)
    interruptions: list[InterruptionReport] = field(default_factory=list)
    pauses: list[PauseReport] = field(default_factory=list)

    def turn(self, report: TurnReport) -> None:
        self.turns.append(report)

    def interruption(self, report: InterruptionReport) -> None:
        self.interruptions.append(report)

    def pause(self, report: PauseReport) -> None:
        self.pauses.append(report)


@asynccontextmanager
async def watched() -> AsyncIterator[tuple[Bot, Reports]]:
    reports = Reports()
    async with bot() as b:
        Turns(b.test.session, reports)
        yield b, reports


async def speak(b: Bot, text: str) -> None:
    """A turn whose last sound is 0.2 s before the VAD's stop, 0.3 before its end, 0.4 before its words."""
    b.test.send(VADUserStoppedSpeakingFrame(stop_secs=0.2))
    await asyncio.sleep(0.1)
    ended = UserStoppedSpeakingFrame()
    b.context.user.push(ended)  # by the turn detector; the recogniser lets it on when it has the words
    await asyncio.sleep(0.1)
    said = TranscriptionFrame(text, "user", "2026")
    said.interruptible = False
    b.test.send(said)
    b.test.send(ended)


async def test_the_parts_add_up_from_the_last_sound_to_the_first() -> None:
    async with watched() as (b, reports):
        b.server.script(["All", " is", " well."])
        await speak(b, "How are you?")
        await b.test.expect(BotStoppedSpeakingFrame)
        (turn,) = reports.turns
        assert (turn.number, turn.asked, turn.response_id) == (1, "How are you?", "r1")
        assert (turn.outcome, turn.answer, turn.heard, turn.tokens) == (
            "finished",
            "All is well.",
            "All is well.",
            3,
        )
        assert turn.latency.total == pytest.approx(sum(turn.latency.parts.values()))
        assert list(turn.latency.parts) == [
            "endpointing",
            "transcription",
            "model",
            "sentence",
            "voice",
            "output",
        ]
        assert turn.latency.total is not None
        assert turn.latency.model is not None
        assert turn.latency.sentence is not None
        assert turn.latency.output is not None
        assert turn.latency.endpointing == pytest.approx(300)
        assert turn.latency.transcription == pytest.approx(100)
        assert turn.latency.model > 9.9  # the server's pause before a piece
        assert turn.latency.sentence == pytest.approx(20)
        assert turn.latency.voice == pytest.approx(100)  # the fake voice's delay
        assert 0 < turn.latency.output <= 20  # the loudspeaker takes blocks of 20 ms
        assert turn.ended - turn.began > turn.latency.total / 1000


async def test_a_written_question_begins_when_it_is_asked() -> None:
    async with watched() as (b, reports):
        await b.test.session.send_text("hi")
        (turn,) = reports.turns
        assert turn.latency.endpointing == turn.latency.transcription == 0
        assert turn.asked == "hi"


async def test_an_interruption_is_reported_with_what_it_cut_and_saved() -> None:
    async with watched() as (b, reports):
        long: list[Token] = [" word"] * 40
        b.server.script(long, long, ["Yes."])
        await b.test.session.send_text("tell me")
        b.server.token_s = 0.5
        answered = b.test.session.send_text("go on")
        loop = asyncio.get_running_loop()
        await asyncio.sleep(5.2)
        onset = loop.time()
        await asyncio.sleep(0.07)
        b.test.send(SpeechHoldFrame())
        await asyncio.sleep(0.3)
        b.test.session.interrupt("user_speaking", cause=onset)
        await answered
        (cut,) = reports.interruptions
        assert (cut.level, cut.reason, cut.response_id) == (Level.FULL, "user_speaking", "r2")
        assert cut.silence_ms == pytest.approx(70)
        assert cut.decision_ms == pytest.approx(370)
        assert cut.saved_tokens == 40 - reports.turns[1].tokens > 20
        assert [t.outcome for t in reports.turns] == ["finished", "interrupted"]
        await b.test.session.send_text("and?")
        assert reports.turns[2].outcome == "finished"


async def test_a_release_is_no_silence() -> None:
    async with watched() as (b, reports):
        b.test.send(SpeechHoldFrame())
        await asyncio.sleep(1)
        b.test.interrupt("user_clicked_stop")
        b.test.interrupt("user_clicked_stop")
        assert [r.silence_ms for r in reports.interruptions] == [0, 0]
        assert [r.response_id for r in reports.interruptions] == [None, None]


async def test_a_pause_is_reported_with_its_reason() -> None:
    async with watched() as (b, reports):
        b.test.send(SpeechReleaseFrame("noise"))  # of nothing
        b.test.send(SpeechHoldFrame())
        await asyncio.sleep(0.3)
        b.test.send(SpeechReleaseFrame("backchannel"))
        await b.test.advance(0.1)
        (pause,) = reports.pauses
        assert (pause.reason, pause.resumed) == ("backchannel", False)
        assert pause.ms == pytest.approx(300)
        b.test.send(SpeechHoldFrame())
        await asyncio.sleep(0.2)
        b.test.interrupt()
        await asyncio.sleep(1)
        assert len(reports.pauses) == 1
        b.test.send(SpeechResumedFrame("no word followed"))
        await b.test.advance(0.1)
        assert (reports.pauses[1].reason, reports.pauses[1].resumed) == ("no word followed", True)
        assert reports.pauses[1].ms == pytest.approx(1200)


async def test_a_voice_that_was_stopped_is_told_from_a_full_interruption() -> None:
    async with watched() as (b, reports):
        b.server.script(["One", " two", " three", " four."], ["One", " two", " three", " four."])
        for whole in (False, True):
            answered = b.test.session.send_text("count")
            await b.heard("two")
            if whole:
                b.server.token_s = 0
            b.test.interrupt_speech()
            await answered
        assert [t.outcome for t in reports.turns] == ["voice interrupted"] * 2
        assert [r.level for r in reports.interruptions] == [Level.SPEECH] * 2
        assert reports.turns[0].answer == "One two three four."


async def test_what_the_end_of_the_session_cuts_off_is_unfinished() -> None:
    async with watched() as (b, reports):
        b.server.script(["One", " two", " three", " four."])
        b.test.session.send_text("count")
        await b.heard("two")
    assert [t.outcome for t in reports.turns] == ["unfinished"]
    assert reports.turns[0].heard == "One two"


class Broken(Processor):
    """A model that begins to answer and fails."""

    @handles(LLMContextFrame)
    async def answer(self, frame: LLMContextFrame) -> None:
        with self.session.respond():
            self.push(LLMFullResponseStartFrame())
            raise ValueError("no model")


async def test_a_failure_is_told() -> None:
    reports, context = Reports(), Context("Be brief.")
    async with PipelineTest(context.user, Broken(), context.assistant) as test:
        Turns(test.session, reports)
        test.session.send_text("hi")
        await test.expect(ErrorFrame, direction=UPSTREAM)
    assert [(t.outcome, t.latency.total) for t in reports.turns] == [("failed", None)]
