"""The context: turns of the user, and answers no longer than they were heard."""

from __future__ import annotations

from typing import Any

from loguru import logger
from pipecat.frames.frames import LLMMessagesAppendFrame

from bargein.pipeline import SpeechInterruptedFrame
from bargein.pipeline.frames import (
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSSpeakFrame,
    UserStoppedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest
from bargein.processors.context import INTERRUPTED_MARK, Context
from bargein.processors.tts import Sentences


def said(text: str, at: str = "0") -> TranscriptionFrame:
    frame = TranscriptionFrame(text, "user", at)
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
        test.send(LLMMessagesAppendFrame([{"role": "assistant", "content": "note"}], run_llm=False))
        await test.expect_none(LLMContextFrame, within=1)
        test.send(LLMMessagesAppendFrame([{"role": "user", "content": "typed"}], run_llm=True))
        await test.expect(LLMContextFrame)
    assert [m["content"] for m in context.messages[1:]] == ["note", "typed"]


async def test_what_is_said_before_an_answer_was_heard_is_one_question() -> None:
    context = Context("Be brief.")
    async with PipelineTest(context.user) as test:
        for text in ("What is the weather", "in Rome", "tomorrow?"):
            test.send(said(text))
            test.send(UserStoppedSpeakingFrame())
            await test.expect(LLMContextFrame)
            test.interrupt()
        test.send(LLMMessagesAppendFrame([{"role": "user", "content": "Rome, Italy."}], run_llm=True))
        await test.expect(LLMContextFrame)
        assert context.messages[1:] == [
            {"role": "user", "content": "What is the weather in Rome tomorrow? Rome, Italy."}
        ]
        context.messages.append({"role": "assistant", "content": "Warm."})
        test.send(said("Thanks."))
        test.send(UserStoppedSpeakingFrame())
        await test.expect(LLMContextFrame)
    assert [m["content"] for m in context.messages[2:]] == ["Warm.", "Thanks."]


async def test_a_question_reads_in_the_order_in_which_it_was_spoken() -> None:
    """Whatever order the transcripts come in: a later turn's may overtake an earlier one's."""
    context = Context("Be brief.")
    async with PipelineTest(context.user) as test:
        for at, text in ((2, "two"), (3, "three"), (1, "one")):
            test.send(said(text, f"2026-01-01T00:00:0{at}+00:00"))
            test.send(UserStoppedSpeakingFrame())
            await test.expect(LLMContextFrame)
        test.send(LLMMessagesAppendFrame([{"role": "user", "content": "four"}], run_llm=True))
        await test.expect(LLMContextFrame)
    assert context.messages[1:] == [{"role": "user", "content": "one two three four"}]


async def test_a_message_the_application_wrote_is_added_to() -> None:
    context = Context("Be brief.")
    context.messages.append({"role": "user", "content": "My name is Ada."})
    async with PipelineTest(context.user) as test:
        test.send(said("Hello."))
        test.send(UserStoppedSpeakingFrame())
        await test.expect(LLMContextFrame)
    assert context.messages[1:] == [{"role": "user", "content": "My name is Ada. Hello."}]


async def test_pictures_and_what_is_said_of_them_are_one_question() -> None:
    context = Context("Be brief.")
    shown: list[Any] = [{"type": "image_url", "image_url": {"url": f"data:,{n}"}} for n in range(2)]
    async with PipelineTest(context.user) as test:
        test.send(LLMMessagesAppendFrame([{"role": "user", "content": shown[:1]}], run_llm=False))
        test.send(said("What is this,"))
        test.send(UserStoppedSpeakingFrame())
        await test.expect(LLMContextFrame)
        test.send(LLMMessagesAppendFrame([{"role": "user", "content": shown[1:]}], run_llm=False))
        test.send(LLMMessagesAppendFrame([{"role": "user", "content": "and this?"}], run_llm=True))
        await test.expect(LLMContextFrame)
    first, second = ({"type": "text", "text": text} for text in ("What is this,", "and this?"))
    assert context.messages[1:] == [{"role": "user", "content": [shown[0], first, shown[1], second]}]


async def test_a_long_conversation_is_kept_within_its_limits() -> None:
    context = Context("Be brief.", max_messages=4)
    async with PipelineTest(context.user, context.assistant) as test:
        for number in range(10):
            test.send(said(f"question {number}"))
            test.send(UserStoppedSpeakingFrame())
            await test.expect(LLMContextFrame)
            test.send(TTSSpeakFrame(f"answer {number}"))
    assert [m["content"] for m in context.messages[1:]] == [
        "question 8",
        "answer 8",
        "question 9",
        "answer 9",
    ]
    assert context.messages[0]["role"] == "system"


async def test_two_answers_at_once_each_keep_what_was_heard_of_them() -> None:
    """A text said behind an answer that is still being spoken was not heard at all."""
    context = Context("Be brief.")
    async with PipelineTest(context.assistant, Sentences()) as test:
        test.session.voices.append(Silent())
        with test.session.respond() as first:
            for frame in (LLMFullResponseStartFrame(), LLMTextFrame("One two."), LLMFullResponseEndFrame()):
                test.send(frame)
        test.send(TTSSpeakFrame("Three four."))
        assert [m["content"] for m in context.messages[1:]] == ["One two.", "Three four."]
        first.heard_to = 3
        test.interrupt()
        await test.expect(SpeechInterruptedFrame, response_id=first.id)
    assert [m["content"] for m in context.messages[1:]] == ["One" + INTERRUPTED_MARK]


async def test_a_text_that_was_heard_while_an_answer_waits_for_its_tool_stays_as_it_is() -> None:
    context = Context("Be brief.")
    async with PipelineTest(context.assistant) as test:
        test.session.voices.append(Silent())
        with test.session.respond() as waiting:
            test.send(LLMFullResponseStartFrame())
            test.send(LLMTextFrame("One two."))
            waiting.text, waiting.heard_to = "One two.", 8
            with test.session.respond() as said:
                test.send(LLMFullResponseStartFrame())
                test.send(LLMTextFrame("Three four."))
            said.text, said.heard_to = "Three four.", 11
            test.session.finish_response(said)
            test.interrupt()
            await test.expect(SpeechInterruptedFrame, response_id=waiting.id)
    assert [m["content"] for m in context.messages[1:]] == ["One two." + INTERRUPTED_MARK, "Three four."]


class Silent:
    """A voice that never comes to say anything."""

    def cut(self) -> None:
        pass


def test_the_system_prompt_explains_the_mark() -> None:
    (system,) = Context("Be brief.").messages
    assert system["role"] == "system"
    assert system["content"].startswith("Be brief. ")
    assert "—" in system["content"]


async def test_what_is_not_answered_when_the_session_ends_is_told() -> None:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}", level="WARNING")
    try:
        for answered in (False, True):
            context = Context("")
            async with PipelineTest(context.user) as test:
                test.send(said("hello"))
                test.send(UserStoppedSpeakingFrame())
                if answered:
                    context.messages.append({"role": "assistant", "content": "Hi."})
    finally:
        logger.remove(sink)
    assert lines == ["UserContext: the session ended before the user's last input was answered\n"]
