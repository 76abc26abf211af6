"""Who sends a text learns what became of it."""

from __future__ import annotations

import asyncio

import pytest

from bargein.pipeline import UPSTREAM, InputRejected, Processor, handles
from bargein.pipeline.frames import ErrorFrame, LLMContextFrame, LLMFullResponseStartFrame
from bargein.pipeline.testing import PipelineTest
from bargein.processors.context import Context

from .scripted import bot


async def test_the_answer_comes_when_it_has_been_said() -> None:
    async with bot() as b:
        b.server.script(["All", " is", " well."])
        answer = await b.test.session.send_text("how are you?")
        assert (answer.text, answer.heard, answer.finished) == ("All is well.", "All is well.", True)
        assert not b.output.playout.busy


async def test_an_answer_that_was_cut_off_says_what_was_heard() -> None:
    async with bot() as b:
        b.server.script(["All", " is", " well", " today."])
        answered = b.test.session.send_text("how are you?")
        await b.heard("is")
        assert not answered.done()
        b.test.interrupt()
        answer = await answered
        assert answer.text == "All is well today."
        assert answer.heard == "All is"


async def test_texts_that_are_answered_together_get_the_same_answer() -> None:
    async with bot() as b:
        b.server.script(["First", " answer", " to", " this."], ["Second."])
        first = b.test.session.send_text("one")
        await b.heard("First")
        second, third = b.test.session.send_text("two"), b.test.session.send_text("three")
        assert (await first).heard == "First answer to this."
        assert await second is await third is not await first
        assert (await second).heard == "Second."
        assert [m["content"] for m in b.messages] == ["one", "First answer to this.", "two three", "Second."]


async def test_what_is_asked_while_the_model_thinks_belongs_to_the_question() -> None:
    async with bot() as b:
        b.server.token_s = 0.5
        b.server.script(["One."], ["Both."])
        first = b.test.session.send_text("one")
        await asyncio.sleep(0.25)
        second = b.test.session.send_text("two")
        assert await first is await second
        assert (await second).text == "Both."
        assert [m["content"] for m in b.messages] == ["one two", "Both."]
        assert [await r.outcome for r in b.server.requests] == ["closed", "finished"]


async def test_what_the_application_says_is_the_answer_to_nothing() -> None:
    async with bot() as b:
        b.server.script(["Hello", " there", " you."], ["Fine."])
        first = b.test.session.send_text("hi")
        await b.heard("Hello")
        b.test.session.say("One moment.")
        second = b.test.session.send_text("how are you?")
        assert (await first).text == "Hello there you."
        assert (await second).text == "Fine."


class Broken(Processor):
    """A model that begins to answer and fails."""

    @handles(LLMContextFrame)
    async def answer(self, frame: LLMContextFrame) -> None:
        with self.session.respond():
            self.push(LLMFullResponseStartFrame())
            raise ValueError("no model")


async def test_what_failed_while_the_answer_was_made_is_told() -> None:
    context = Context("Be brief.")
    async with PipelineTest(context.user, Broken(), context.assistant) as test:
        with pytest.raises(ValueError, match="no model"):
            await test.session.send_text("hi")
        await test.expect(ErrorFrame, direction=UPSTREAM)


async def test_a_text_that_comes_too_late_is_rejected() -> None:
    async with PipelineTest(Context("Be brief.").user) as test:
        answered = test.session.send_text("hi")
        await asyncio.sleep(1)
        assert not answered.done()
    with pytest.raises(InputRejected, match="ended before this text was answered"):
        await answered


async def test_an_answer_that_is_not_over_when_the_session_ends_is_what_was_heard() -> None:
    async with bot() as b:
        b.server.script(["All", " is", " well", " today."])
        answered = b.test.session.send_text("hi")
        await b.heard("is")
    assert (await answered).heard == "All is"


async def test_nobody_need_wait() -> None:
    async with PipelineTest(Context("Be brief.").user) as test:
        test.session.send_text("hi")
