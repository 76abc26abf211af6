"""The context: turns of the user, and answers no longer than they were heard."""

from __future__ import annotations

from pipecat.frames.frames import LLMMessagesAppendFrame

from bargein.pipeline.frames import (
    LLMContextFrame,
    TranscriptionFrame,
    UserStoppedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest
from bargein.processors.context import Context


def said(text: str) -> TranscriptionFrame:
    frame = TranscriptionFrame(text, "user", "0")
    frame.interruptible = False
    return frame


async def test_the_transcripts_of_a_turn_become_one_message_and_one_question() -> None:
    context = Context("Be brief.")
    async with PipelineTest(context.user) as test:
        test.send(said("hello"))
        test.send(said("there"))
        await test.expect_none(LLMContextFrame, within=5)
        test.send(UserStoppedSpeakingFrame())
        frame = await test.expect(LLMContextFrame)
        assert frame.context is context.llm_context
        assert len(test.received(TranscriptionFrame)) == 2  # clients behind see them too
    assert context.messages[1:] == [{"role": "user", "content": "hello there"}]


async def test_a_turn_without_words_asks_nothing() -> None:
    context = Context("Be brief.")
    async with PipelineTest(context.user) as test:
        test.send(UserStoppedSpeakingFrame())
        await test.expect(UserStoppedSpeakingFrame)
        await test.expect_none(LLMContextFrame, within=5)
    assert len(context.messages) == 1


async def test_an_interruption_keeps_what_the_user_said() -> None:
    context = Context("Be brief.")
    async with PipelineTest(context.user) as test:
        test.send(said("wait"))
        test.interrupt()
        test.send(UserStoppedSpeakingFrame())
        await test.expect(LLMContextFrame)
    assert context.messages[1:] == [{"role": "user", "content": "wait"}]


async def test_typed_messages_are_added_and_answered_if_wanted() -> None:
    context = Context("Be brief.")
    async with PipelineTest(context.user) as test:
        test.send(LLMMessagesAppendFrame([{"role": "user", "content": "note"}], run_llm=False))
        await test.expect_none(LLMContextFrame, within=1)
        test.send(LLMMessagesAppendFrame([{"role": "user", "content": "typed"}], run_llm=True))
        await test.expect(LLMContextFrame)
    assert [m["content"] for m in context.messages[1:]] == ["note", "typed"]


def test_the_system_prompt_explains_the_mark() -> None:
    (system,) = Context("Be brief.").messages
    assert system["role"] == "system"
    assert system["content"].startswith("Be brief. ")
    assert "—" in system["content"]
