"""Words that are none: nothing of them may make a later request invalid, or hold the conversation up."""

from __future__ import annotations

from typing import Any

import pytest
from pipecat.frames.frames import LLMMessagesAppendFrame

from bargein.pipeline import UPSTREAM, InputRejected, SpeechInterruptedFrame
from bargein.pipeline.frames import (
    BotStoppedSpeakingFrame,
    ErrorFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSTextFrame,
    UserStoppedSpeakingFrame,
)

from .scripted import Bot, bot


def hear(b: Bot, *texts: str) -> None:
    for text in texts:
        frame = TranscriptionFrame(text, "user", "0", finalized=True)
        frame.interruptible = False
        b.test.send(frame)
    b.test.send(UserStoppedSpeakingFrame())


@pytest.mark.parametrize("blank", ["", "  ", "\n\t"])
async def test_blank_texts_and_transcripts_ask_nothing(blank: str) -> None:
    async with bot() as b:
        with pytest.raises(InputRejected, match="no words"):
            await b.test.session.send_text(blank, priority=True)
        assert b.test.stats.interruptions == 0
        hear(b, blank)
        b.ask(blank)
        await b.test.expect_none(LLMTextFrame, within=5)
        assert b.server.requests == []
        hear(b, blank, "hello", blank)
        await b.test.expect(BotStoppedSpeakingFrame)
        assert b.messages[0] == {"role": "user", "content": "hello"}


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
async def test_an_answer_without_words_leaves_none(blank: str) -> None:
    async with bot() as b:
        b.server.script([blank, blank], ["Yes."])
        b.ask()
        await b.test.expect(LLMFullResponseEndFrame)
        await b.test.advance(1)
        assert not b.test.session.responding
        b.ask("are you there?")
        await b.test.expect(LLMTextFrame, text="Yes.")
        await b.test.expect(BotStoppedSpeakingFrame)
        contents = [m["content"] for m in b.messages]
        assert contents == ["hi are you there?", "Yes."]


async def test_blank_pieces_at_the_start_of_an_answer_belong_to_it() -> None:
    async with bot() as b:
        b.server.script(["", " \n", "One two ", "three four five."])
        b.ask()
        await b.heard("two")
        b.test.interrupt()
        await b.test.expect(SpeechInterruptedFrame)
        assert b.messages[-1]["content"].strip() == "One two—"


async def test_a_blank_text_to_say_says_nothing() -> None:
    async with bot() as b:
        b.test.session.say("")
        b.test.session.say("  ")
        await b.test.advance(1)
        assert not b.test.session.responding
        b.test.session.say("Hello.")
        await b.test.expect(BotStoppedSpeakingFrame)
        assert b.messages == [{"role": "assistant", "content": "Hello."}]


@pytest.mark.parametrize("text", ["half \ud83d of it", "\ud83d\ude00 whole", "null \x00 byte"])
async def test_text_that_cannot_be_sent_spoils_no_request(text: str) -> None:
    """A client's JSON may hold half a surrogate pair; UTF-8 may not."""
    async with bot() as b:
        b.server.script(["Hm."], [f"I say {text}"], ["Fine."])
        b.test.session.send_text(text)
        await b.test.expect(LLMTextFrame, text="Hm.")
        hear(b, text)
        await b.test.expect(BotStoppedSpeakingFrame)
        b.test.session.say(text)
        await b.test.expect(BotStoppedSpeakingFrame)
        b.ask("and?")
        await b.test.expect(LLMTextFrame, text="Fine.")
        assert not b.test.received(ErrorFrame, UPSTREAM)
        for message in b.context.messages:
            message["content"].encode()


async def test_what_is_shown_and_not_spoken_counts_as_heard() -> None:
    """A client that wants text alone, on a bot that has a voice."""
    async with bot() as b:
        shown = LLMTextFrame("Shown, ")
        shown.skip_tts = True
        with b.test.session.respond():
            b.test.send(LLMFullResponseStartFrame())
            b.test.send(shown)
            b.test.interrupt()
        assert b.messages[-1]["content"] == "Shown,—"


HARD = [
    "👩‍👩‍👧‍👦 a family, 🇩🇪 a flag. Then more 👍🏽 words.",
    "מה שלומך היום? טוב מאוד, תודה רבה לך.",
    "اليوم هو الأحد. وغدا الاثنين إن شاء الله.",
    "今天天气很好。我们去公园散步吧！你觉得怎么样？",  # noqa: RUF001
    "e\u0301tude a\u0308rgert Zoe\u0308. Ça va très bien.",
    "It costs $3.50, i.e. 1,000.25 yen at 10:30 a.m. See https://example.org/a.b?c=d. Done.",
    "**Bold**, `code()` and [a link](https://x.org). 1. First\n2. Second\n```py\nprint('a.b')\n```\nEnd.",
]


@pytest.mark.parametrize("text", HARD)
@pytest.mark.parametrize("after_s", [0.3, 0.9, 1.7, 2.6])
async def test_what_was_heard_of_any_script_is_a_beginning_of_the_text(text: str, after_s: float) -> None:
    async with bot() as b:
        b.server.answer = lambda messages: list(text)
        b.server.token_s = 0
        b.ask()
        await b.test.advance(after_s)
        b.test.interrupt()
        report = await b.test.expect(SpeechInterruptedFrame)
        heard = "".join(frame.text for frame in b.test.received(TTSTextFrame))
        assert text.startswith(heard)
        if heard == text:  # it was over
            assert b.messages[-1]["content"] == text
            return
        assert report.heard == heard
        if heard.strip():
            assert b.messages[-1]["content"] == heard.rstrip() + "—"
        else:
            assert b.messages[-1]["role"] == "user"


async def test_a_message_of_parts_that_has_no_text_is_kept() -> None:
    async with bot() as b:
        parts: list[Any] = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
        b.test.send(LLMMessagesAppendFrame([{"role": "user", "content": parts}], run_llm=True))
        await b.test.expect(LLMTextFrame)
        assert b.messages[0]["content"] == parts
