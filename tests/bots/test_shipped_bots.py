"""Each shipped bot, from its file, in a scripted conversation."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from pipecat.frames.frames import FunctionCallInProgressFrame, FunctionCallResultFrame

from bargein.bots import load_bot, shipped_bots
from bargein.bots.catalog import Service
from bargein.bots.parts import ServicePart, every
from bargein.pipeline import Level, SpeechInterruptedFrame
from bargein.pipeline.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    LLMFullResponseEndFrame,
    SpeechHoldFrame,
    SpeechReleaseFrame,
    TTSTextFrame,
)
from bargein.processors.context import INTERRUPTED_MARK, SPEECH_STOPPED_MARK

from ..servers.openai_server import Messages, Token, tool_calls
from .scripted import Conversation, conversation

STORY = " ".join(f"Sentence number {number} of the story is told." for number in range(1, 13))
MONDAY, TUESDAY = "2030-01-07", "2030-01-08"


def pieces(text: str) -> list[Token]:
    return list(re.findall(r"\s*\S+", text))


def reports(talk: Conversation) -> list[SpeechInterruptedFrame]:
    return [f for f in talk.frames if isinstance(f, SpeechInterruptedFrame) and f.response_id]


def test_all_of_them_are_here() -> None:
    assert set(shipped_bots()) == {
        "assistant", "narrator", "phone", "receptionist", "storyteller", "transcriber", "typist",
    }  # fmt: skip


@pytest.mark.parametrize("name", shipped_bots())
def test_each_can_do_without_keys(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for key in ("OPENAI_API_KEY", "CARTESIA_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    parts = every(load_bot(name).declaration.parts)
    services: list[tuple[Service, ...]] = [part.services for part in parts if isinstance(part, ServicePart)]
    assert services
    assert all(found[-1].key_name is None for found in services)


async def test_the_assistant_answers_and_yields() -> None:
    bot = load_bot("assistant")
    async with conversation(bot, "What is this?", "No, wait, tell me about something else.") as talk:
        talk.server.script(pieces(STORY), ["All right."])
        await talk.say()
        await talk.until(TTSTextFrame, 12)
        await talk.say(2.0)
        await talk.quiet()
        (report,) = reports(talk)
        assert (report.level, report.reason) == (Level.FULL, "user_speaking")
        first, second = talk.said
        assert first == report.heard + INTERRUPTED_MARK
        assert STORY.startswith(report.heard)
        assert second == "All right."
        assert talk.channel.texts("user-transcription")[0] == "What is this?"
        questions = [m["content"] for m in talk.messages if m["role"] == "user"]
        assert questions == ["What is this?", "No, wait, tell me about something else."]


async def test_the_storyteller_goes_on_after_a_hum() -> None:
    async with conversation(load_bot("storyteller"), "Tell me a story.", "Mm-hmm.") as talk:
        talk.server.script(pieces(STORY))
        await talk.say()
        await talk.until(TTSTextFrame, 12)
        await talk.say(0.4)
        await talk.until(BotStoppedSpeakingFrame)
        held = [f for f in talk.frames if isinstance(f, SpeechHoldFrame)]
        released = [f for f in talk.frames if isinstance(f, SpeechReleaseFrame)]
        assert len(held) == len(released) == 1
        assert reports(talk) == []
        assert talk.said == [STORY]
        heard = [f.text for f in talk.frames if isinstance(f, TTSTextFrame)]
        assert "".join(heard) == STORY


async def test_the_storyteller_resumes_when_nobody_meant_anything() -> None:
    async with conversation(load_bot("storyteller"), "Tell me a story.", "") as talk:
        talk.server.script(pieces(STORY))
        await talk.say()
        await talk.until(TTSTextFrame, 12)
        await talk.say(1.6)  # a long noise in which there are no words
        await talk.until(BotStoppedSpeakingFrame, 2)
        heard = talk.said[0].removesuffix(INTERRUPTED_MARK)
        assert talk.said[1].startswith("As I was saying, ")
        assert talk.said[1].removeprefix("As I was saying, ") == STORY[len(heard) :].lstrip()


async def test_speech_over_the_narrator_stops_its_voice_alone() -> None:
    bot = load_bot("narrator")
    async with conversation(bot, "Explain the sea.", "And now explain the mountains to me.") as talk:
        talk.server.script(pieces(STORY), ["Mountains are high."])
        talk.server.token_s = 0.1  # the text is still coming when the voice stops
        await talk.say()
        await talk.until(TTSTextFrame, 8)
        await talk.say(2.0)
        await talk.until(LLMFullResponseEndFrame, 2)
        await talk.quiet()
        assert [report.level for report in reports(talk)] == [Level.SPEECH]
        heard, mark, rest = talk.said[0].partition(SPEECH_STOPPED_MARK)
        assert mark
        assert heard.rstrip() + " " + rest.lstrip() == STORY
        assert "".join(talk.channel.texts("bot-llm-text")).startswith(STORY)  # the page has all of it
        assert talk.said[1] == "Mountains are high."
        assert talk.voice.spoken[-1].strip() == "Mountains are high."


async def test_the_transcriber_writes_down_and_says_nothing() -> None:
    async with conversation(load_bot("transcriber"), "The first thing.", "The second thing.") as talk:
        await talk.say()
        await asyncio.sleep(3)
        await talk.say()
        await asyncio.sleep(3)
        assert talk.channel.texts("user-transcription") == ["The first thing.", "The second thing."]
        assert talk.server.requests == []
        assert not any(isinstance(frame, BotStartedSpeakingFrame) for frame in talk.frames)
        assert not any(talk.played)


async def test_the_typist_answers_in_writing() -> None:
    async with conversation(load_bot("typist")) as talk:
        talk.server.script(["Four", "."], ["You asked for", " a sum."])
        await talk.write("What is two and two?")
        await talk.write("What did I ask for?")
        assert talk.said == ["Four.", "You asked for a sum."]
        assert "".join(talk.channel.texts("bot-llm-text")) == "Four.You asked for a sum."
        assert talk.server.requests[1].messages[-2]["content"] == "Four."
        assert not any(talk.played)


async def test_an_interruption_of_the_typist_leaves_what_was_written() -> None:
    async with conversation(load_bot("typist")) as talk:
        talk.server.script(pieces(STORY), ["Yes."])
        talk.server.token_s = 0.1
        talk.channel.send_text("Write a story.")
        await asyncio.sleep(2)
        talk.session.interrupt("user_clicked_stop")
        await talk.write("Are you there?")
        assert talk.server.requests[0].outcome.result() == "closed"
        assert talk.said[-1] == "Yes."


class TestReceptionist:
    @pytest.fixture(autouse=True)
    def calendar(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        path = tmp_path / "calendar.sqlite3"
        monkeypatch.setenv("BARGEIN_CALENDAR", str(path))
        return path

    def appointments(self, calendar: Path) -> list[tuple[str, str, str]]:
        with closing(sqlite3.connect(calendar)) as connection:
            return connection.execute("SELECT * FROM appointments ORDER BY day, time").fetchall()

    async def test_books_moves_and_cancels(self, calendar: Path) -> None:
        async with conversation(load_bot("receptionist")) as talk:
            book = f'{{"name": "Mira", "day": "{MONDAY}", "time": "09:30"}}'
            move = f'{{"name": "mira", "from_day": "{MONDAY}", "to_day": "{TUESDAY}", "to_time": "16:30"}}'
            talk.server.script(
                tool_calls(("free_times", f'{{"day": "{MONDAY}"}}')),
                tool_calls(("book", book)),
                ["You are booked."],
                tool_calls(("move", move)),
                ["It is moved."],
                tool_calls(("cancel", f'{{"name": "Mira", "day": "{TUESDAY}"}}')),
                ["It is cancelled."],
            )
            await talk.write("An appointment on Monday morning, please. I am Mira.")
            assert self.appointments(calendar) == [(MONDAY, "09:30", "Mira")]
            await talk.write("Could I come on Tuesday instead, at half past four?")
            assert self.appointments(calendar) == [(TUESDAY, "16:30", "mira")]
            await talk.write("I cannot come at all.")
            assert self.appointments(calendar) == []
            assert talk.said == ["You are booked.", "It is moved.", "It is cancelled."]
            assert '"09:00"' in talk.results[0]
            assert talk.results[1:] == [
                f"Booked for Mira on {MONDAY} at 09:30.",
                f"Moved from {MONDAY} at 09:30 to {TUESDAY} at 16:30.",
                f"Cancelled, {TUESDAY} at 16:30.",
            ]

    async def test_takes_no_time_twice_and_none_out_of_hours(self, calendar: Path) -> None:
        async with conversation(load_bot("receptionist")) as talk:
            calls = [
                ("book", f'{{"name": "A", "day": "{MONDAY}", "time": "{t}"}}') for t in ("10:00", "08:30")
            ]
            taken = ("book", f'{{"name": "B", "day": "{MONDAY}", "time": "10:00"}}')
            move = ("move", f'{{"name":"B","from_day":"{TUESDAY}","to_day":"{MONDAY}","to_time":"10:00"}}')
            there = ("book", f'{{"name": "B", "day": "{TUESDAY}", "time": "10:00"}}')
            talk.server.script(*(tool_calls(c) for c in (*calls, taken, there)), tool_calls(move), ["Well."])
            await talk.write("A difficult caller.")
            booked, closed, full, _, stays = talk.results
            assert booked == f"Booked for A on {MONDAY} at 10:00."
            assert closed == f"There are no appointments on Monday, {MONDAY}, at 08:30."
            assert full == f"{MONDAY} at 10:00 is taken."
            assert stays == f"{MONDAY} at 10:00 is taken. The appointment on {TUESDAY} at 10:00 stays."
            assert self.appointments(calendar) == [(MONDAY, "10:00", "A"), (TUESDAY, "10:00", "B")]

    @pytest.mark.real_time
    async def test_a_booking_that_is_interrupted_is_kept_and_a_look_up_is_finished(
        self, calendar: Path
    ) -> None:
        async with conversation(load_bot("receptionist")) as talk:
            both = [
                ("book", f'{{"name": "Mira", "day": "{MONDAY}", "time": "09:30"}}'),
                ("free_times", f'{{"day": "{TUESDAY}"}}'),
            ]
            talk.server.script(tool_calls(*both), ["Yes, at half past nine."])
            with closing(sqlite3.connect(calendar, isolation_level=None)) as somebody_else:
                somebody_else.execute("BEGIN EXCLUSIVE")
                talk.channel.send_text("Monday at half past nine, for Mira.")
                await talk.until(FunctionCallInProgressFrame, 2)
                await asyncio.sleep(0.5)  # both wait for the calendar
                talk.session.interrupt("user_clicked_stop")
                assert "discarded" in talk.results[1]
                somebody_else.execute("COMMIT")
            await talk.until(FunctionCallResultFrame, 2)
            assert talk.results[0] == f"Booked for Mira on {MONDAY} at 09:30."
            assert self.appointments(calendar) == [(MONDAY, "09:30", "Mira")]
            await talk.write("Did that work?")
            asked: Messages = talk.server.requests[-1].messages
            assert asked[-1]["content"] == "Did that work?"
            assert [m["content"] for m in asked if m["role"] == "tool"] == talk.results
            assert sum(isinstance(f, FunctionCallResultFrame) for f in talk.frames) == 2
