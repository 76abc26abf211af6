"""What an application tells a session to say, and to answer."""

from __future__ import annotations

from pipecat.frames.frames import LLMMessagesAppendFrame

from bargein.pipeline import Level, Processor, SpeechInterruptedFrame
from bargein.pipeline.frames import TTSSpeakFrame
from bargein.pipeline.testing import PipelineTest


async def test_say_is_a_frame_for_the_voice() -> None:
    async with PipelineTest(Processor()) as test:
        test.session.say("Hello.")
        frame = await test.expect(TTSSpeakFrame, text="Hello.")
        assert frame.interruptible


async def test_critical_speech_is_uninterruptible() -> None:
    async with PipelineTest(Processor()) as test:
        test.session.say("Fire.", critical=True)
        frame = await test.expect(TTSSpeakFrame, text="Fire.")
        assert not frame.interruptible


async def test_text_is_a_turn_of_the_user_and_is_never_lost() -> None:
    async with PipelineTest(Processor()) as test:
        test.session.send_text("hello")
        frame = await test.expect(LLMMessagesAppendFrame, run_llm=True)
        assert frame.messages == [{"role": "user", "content": "hello"}]
        assert not frame.interruptible
        assert test.stats.interruptions == 0


async def test_priority_interrupts_first() -> None:
    async with PipelineTest(Processor()) as test:
        test.session.send_text("now", priority=True)
        await test.expect(SpeechInterruptedFrame, level=Level.FULL, reason="priority_message")
        await test.expect(LLMMessagesAppendFrame)
