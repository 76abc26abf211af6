"""Stand-ins: the turn goes on, the failed service rests, and everybody is told. In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from bargein.pipeline import UPSTREAM
from bargein.pipeline.frames import (
    ErrorFrame,
    InputAudioRawFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    SpokenAudioFrame,
    TranscriptionFrame,
    TTSStoppedFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest, regex
from bargein.processors.context import Context
from bargein.processors.llm import LLM
from bargein.processors.services.errors import KeyRejected, RequestRejected, ServiceUnavailable
from bargein.processors.services.fallback import REST_S, TAKEOVER_S, FallbackChat
from bargein.processors.services.fallback_speech import FallbackTranscriber, FallbackVoice
from bargein.processors.services.openai_chat import ChatCompletions
from bargein.processors.services.openai_responses import Responses
from bargein.processors.stt import FINISH_S as STT_FINISH_S
from bargein.processors.stt import STT
from bargein.processors.tts import TTS, Sentences

from ...servers.openai_server import OpenAIServer, Trouble, refuse
from ..fakes import FakeChunk, FakeTranscriber, FakeVoice

# Language models ---------------------------------------------------------------------------------------


class Chat:
    """A bot on two language models."""

    def __init__(self, first: OpenAIServer, second: OpenAIServer, model: FallbackChat, llm: LLM) -> None:
        self.first, self.second, self.model = first, second, model
        first.answer = lambda messages: ["first ", "speaks"]
        second.answer = lambda messages: ["second ", "speaks"]
        self.context = Context("")
        self.context.llm_context.add_message({"role": "user", "content": "hi"})
        self.test = PipelineTest(llm)

    async def ask(self) -> str:
        """The answer to a turn."""
        self.test.skip()
        before = len(self.test.received(LLMTextFrame))
        self.test.send(LLMContextFrame(self.context.llm_context))
        await self.test.expect(LLMFullResponseEndFrame, within=100)
        return "".join(f.text for f in self.test.received(LLMTextFrame)[before:])

    async def told(self, pattern: str) -> None:
        """The next notice."""
        await self.test.expect(ErrorFrame, UPSTREAM, error=regex(pattern))


@asynccontextmanager
async def chat(*troubles: Trouble) -> AsyncIterator[Chat]:
    first, second = OpenAIServer(), OpenAIServer()
    first.plan(*troubles)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(first.client())
        two = await stack.enter_async_context(second.client())
        model = FallbackChat(ChatCompletions(one, "one"), Responses(two, "two"))
        talk = Chat(first, second, model, LLM(model))
        async with talk.test:
            yield talk


HANG, CUT, GARBAGE, END = (Trouble("hang"), Trouble("cut"), Trouble("garbage", 0), Trouble("end", 0))


@pytest.mark.parametrize(
    ("trouble", "attempts"),
    [
        (refuse(401), 1),
        (refuse(429, "insufficient_quota"), 1),
        (refuse(429, retry_after="30"), 1),
        (refuse(429, retry_after="0.1"), 3),
        (refuse(500), 3),
        (refuse(503), 3),
        (CUT, 3),
        (GARBAGE, 3),
        (END, 3),
        (HANG, 1),  # the user has waited long enough
        (Trouble("hang", 0), 1),
    ],
)
async def test_the_second_model_answers_the_turn_the_first_could_not(trouble: Trouble, attempts: int) -> None:
    async with chat(*[trouble] * 3) as talk:
        assert await talk.ask() == "second speaks"
        await talk.told(r"^\[in-process one\] .*; in-process two takes over$")
        assert len(talk.first.requests) == attempts
        assert talk.second.requests[0].messages[-1] == {"role": "user", "content": "hi"}
        assert len(talk.test.received(LLMFullResponseStartFrame)) == 1
        assert talk.model.model == "two"


async def test_a_failed_service_rests_and_is_then_tried_again() -> None:
    async with chat(refuse(401)) as talk:
        assert await talk.ask() == "second speaks"
        await talk.told("takes over")
        await talk.test.advance(REST_S - 1)
        assert await talk.ask() == "second speaks"
        assert len(talk.first.requests) == 1
        await talk.test.advance(2)
        assert await talk.ask() == "first speaks"
        assert talk.model.model == "one"


async def test_one_turn_alone_tries_a_service_that_failed() -> None:
    async with chat(refuse(401), HANG) as talk:
        await talk.ask()
        await talk.told("takes over")
        await talk.test.advance(REST_S + 1)
        talk.test.send(LLMContextFrame(talk.context.llm_context))
        await talk.test.advance(1)
        other = [piece async for piece in talk.model.stream([{"role": "user", "content": "me too"}])]
        assert other[:2] == ["second ", "speaks"]
        talk.test.interrupt()  # proves nothing about the first: the next turn tries it
        assert await talk.ask() == "first speaks"


async def test_a_refused_request_is_given_to_the_next_but_tells_nothing_about_the_service() -> None:
    async with chat(refuse(400, "context_length_exceeded")) as talk:
        assert await talk.ask() == "second speaks"
        await talk.told("context_length_exceeded")
        assert await talk.ask() == "first speaks"


async def test_the_second_model_goes_on_with_an_answer_that_broke_off() -> None:
    async with chat(Trouble("cut", 1), CUT, CUT) as talk:
        talk.second.answer = lambda messages: ["first", " and", " second"]
        assert await talk.ask() == "first and second"
        await talk.told(r"^\[in-process one\] the connection failed.*; in-process two takes over$")
        assert talk.second.requests[0].messages[-2] == {"role": "assistant", "content": "first"}
        assert len(talk.test.received(LLMFullResponseStartFrame)) == 1
        assert await talk.ask() == "first and second"
        assert len(talk.first.requests) == 3


async def test_a_model_that_falls_silent_in_its_answer_is_replaced_in_time() -> None:
    async with chat(Trouble("hang", 1)) as talk:
        talk.second.answer = lambda messages: ["first", " and", " second"]
        began = asyncio.get_running_loop().time()
        assert await talk.ask() == "first and second"
        assert asyncio.get_running_loop().time() - began == pytest.approx(TAKEOVER_S, abs=0.01)
        await talk.told(f"nothing within {TAKEOVER_S:g} s; in-process two takes over$")
        assert await talk.first.requests[0].outcome == "closed"


async def test_an_answer_that_nobody_goes_on_with_ends_and_stays_in_the_context() -> None:
    async with chat(Trouble("cut", 1), CUT, CUT) as talk:
        talk.second.plan(CUT, CUT, CUT)
        assert await talk.ask() == "first "
        await talk.told("takes over")
        await talk.told(r"^LLM: ServiceUnavailable: \[in-process two\] the connection failed")
        assert await talk.ask() == "first speaks"


async def test_when_all_fail_the_last_failure_is_told_and_all_are_asked_again() -> None:
    async with chat(refuse(401)) as talk:
        talk.second.plan(refuse(401))
        assert await talk.ask() == ""
        await talk.told("takes over")
        await talk.told(r"^LLM: KeyRejected: \[in-process two\] the key")
        assert await talk.ask() == "first speaks"


async def test_an_interruption_while_the_second_answers_closes_it() -> None:
    async with chat(refuse(401)) as talk:
        talk.second.token_s = 1
        talk.test.send(LLMContextFrame(talk.context.llm_context))
        await talk.test.expect(LLMTextFrame, text="second ")
        await talk.told("takes over")
        talk.test.interrupt()
        assert await talk.second.requests[0].outcome == "closed"
        await talk.test.expect_none(LLMTextFrame, within=10)


async def test_the_last_one_is_waited_for_and_a_silent_one_is_not() -> None:
    async with chat(HANG) as talk:
        talk.second.token_s = 3 * TAKEOVER_S
        began = asyncio.get_running_loop().time()
        talk.test.send(LLMContextFrame(talk.context.llm_context))
        await talk.told(f"nothing within {TAKEOVER_S:g} s; in-process two takes over$")
        assert asyncio.get_running_loop().time() - began == pytest.approx(TAKEOVER_S, abs=0.01)
        assert await talk.first.requests[0].outcome == "closed"
        talk.second.token_s = 1
        await talk.test.expect(LLMTextFrame, text="second ", within=100)


def test_there_must_be_something_to_fall_back_on() -> None:
    with pytest.raises(ValueError, match="at least one"):
        FallbackChat()


# Voices ------------------------------------------------------------------------------------------------


@dataclass
class BrokenVoice:
    """Fails after so many words."""

    failure: Exception
    words: int = 0
    service: str = "Broken voice"
    asked: list[str] = field(default_factory=list)

    async def synthesize(self, text: str) -> AsyncGenerator[FakeChunk, None]:
        self.asked.append(text)
        for _ in range(self.words):
            yield FakeChunk(b"\x02\x02" * 160, 16_000, ())
        raise self.failure


async def say(test: PipelineTest, text: str) -> bytes:
    """What is heard of an answer."""
    test.skip()
    before = len(test.received(SpokenAudioFrame))
    test.session.say(text)
    await test.expect(TTSStoppedFrame, within=100)
    return b"".join(f.audio for f in test.received(SpokenAudioFrame)[before:])


async def test_the_second_voice_speaks_the_sentence_the_first_could_not_begin() -> None:
    broken, voice = BrokenVoice(KeyRejected("Broken voice", "no")), FakeVoice()
    async with PipelineTest(Sentences(), TTS(FallbackVoice(broken, voice))) as test:
        assert set(await say(test, "One two. Three four.")) == {1}
        await test.expect(ErrorFrame, UPSTREAM, error="[Broken voice] no; FakeVoice takes over")
    assert voice.spoken == ["One two.", " Three four."]
    assert broken.asked == ["One two."]


async def test_a_sentence_that_was_begun_is_not_spoken_twice() -> None:
    broken, voice = BrokenVoice(ConnectionResetError("cut"), words=2), FakeVoice()
    async with PipelineTest(Sentences(), TTS(FallbackVoice(broken, voice))) as test:
        audio = await say(test, "One two. Three four.")
        await test.expect(
            ErrorFrame, UPSTREAM, error=regex(r"^TTS: ServiceUnavailable: \[Broken voice\] .*cut")
        )
    assert audio.count(b"\x02") == 2 * 320
    assert voice.spoken == [" Three four."]


async def test_an_interruption_closes_whichever_voice_speaks() -> None:
    for interrupt in (PipelineTest.interrupt, PipelineTest.interrupt_speech):
        voice = FakeVoice()
        both = FallbackVoice(BrokenVoice(OSError("cut")), voice)
        async with PipelineTest(Sentences(), TTS(both)) as test:
            test.session.say("One two three four.")
            await test.expect(SpokenAudioFrame)
            await test.expect(ErrorFrame, UPSTREAM, error=regex("takes over"))
            interrupt(test)
            await test.expect_none(SpokenAudioFrame, within=10)
            assert voice.closed == ["One two three four."]
            assert set(await say(test, "Next.")) == {1}


# Recognisers -------------------------------------------------------------------------------------------


@dataclass
class BrokenTranscriber:
    """Fails at one of its methods."""

    at: str
    failure: Exception = field(default_factory=lambda: ServiceUnavailable("Broken ears", "down"))
    service: str = "Broken ears"
    opened: list[BrokenUtterance] = field(default_factory=list)

    def open(self, on_partial: Callable[[str], None]) -> BrokenUtterance:
        if self.at == "open":
            raise self.failure
        self.opened.append(BrokenUtterance(self, on_partial))
        return self.opened[-1]


@dataclass
class BrokenUtterance:
    owner: BrokenTranscriber
    on_partial: Callable[[str], None]
    given_up: asyncio.Event = field(default_factory=asyncio.Event)

    def feed(self, pcm: bytes) -> None:
        if self.owner.at == "feed" and pcm:
            raise self.owner.failure

    async def snapshot(self) -> str:
        return await self.finish()

    async def finish(self) -> str:
        if self.owner.at == "hang":
            await self.given_up.wait()
            return ""  # as real ones do
        raise self.owner.failure

    def cancel(self) -> None:
        self.given_up.set()


async def turn(test: PipelineTest, frames: int = 5) -> None:
    """A turn of the user: numbered frames of 20 ms."""
    test.send(VADUserStartedSpeakingFrame())
    for number in range(frames):
        test.send(InputAudioRawFrame(bytes([number + 1]) * 640, 16_000, 1))
    test.send(UserStoppedSpeakingFrame())
    await test.expect(UserStoppedSpeakingFrame)


@pytest.mark.parametrize("at", ["open", "feed", "finish", "hang"])
async def test_the_second_recogniser_gets_the_whole_turn(at: str) -> None:
    broken, ears = BrokenTranscriber(at), FakeTranscriber([("hello there", 0.1), ("again", 0.1)])
    async with PipelineTest(STT(FallbackTranscriber(broken, ears))) as test:
        await turn(test)
        assert [f.text for f in test.received(TranscriptionFrame)] == ["hello there"]
        await test.expect(
            ErrorFrame, UPSTREAM, error=regex(r"^\[Broken ears\] .*; FakeTranscriber takes over$")
        )
        await turn(test)
        assert [f.text for f in test.received(TranscriptionFrame)] == ["hello there", "again"]
    whole = b"".join(bytes([n]) * 640 for n in range(1, 6))
    assert [bytes(u.fed) for u in ears.opened] == [whole, whole]
    assert all(u.given_up.is_set() for u in broken.opened)
    assert len(broken.opened) <= 1


async def test_a_recogniser_that_was_given_up_is_no_longer_listened_to() -> None:
    partials: list[str] = []
    broken, ears = BrokenTranscriber("finish"), FakeTranscriber([("hello", 0.0)])
    utterance = FallbackTranscriber(broken, ears).open(partials.append)
    broken.opened[0].on_partial("hel")
    assert await utterance.finish() == "hello"
    broken.opened[0].on_partial("stale")
    ears.opened[0].on_partial("hello")
    assert partials == ["hel", "hello"]


async def test_when_all_recognisers_fail_the_turn_still_ends() -> None:
    for at in ("open", "feed", "finish"):
        ears = FallbackTranscriber(BrokenTranscriber(at), BrokenTranscriber("finish"))
        async with PipelineTest(STT(ears)) as test:
            await turn(test)
            await test.expect(ErrorFrame, UPSTREAM, error=regex("takes over"))
            await test.expect(ErrorFrame, UPSTREAM, error="STT: ServiceUnavailable: [Broken ears] down")
            assert not test.received(TranscriptionFrame)


async def test_a_refused_recording_does_not_put_the_recogniser_to_rest() -> None:
    broken = BrokenTranscriber("finish", RequestRejected("Broken ears", "too short"))
    ears = FakeTranscriber([("one", 0.0), ("two", 0.0)])
    both = FallbackTranscriber(broken, ears)
    for text in ("one", "two"):
        assert await both.open(lambda _: None).finish() == text
    assert len(broken.opened) == 2


@pytest.mark.parametrize("later_s", [0.0, 1.0])
async def test_a_snapshot_and_the_end_of_the_turn_wait_for_the_same_successor(later_s: float) -> None:
    ears = FakeTranscriber([("hello", 0.1)])
    utterance = FallbackTranscriber(BrokenTranscriber("hang"), ears).open(lambda _: None)

    async def finish() -> str:
        await asyncio.sleep(later_s)
        return await utterance.finish()

    assert list(await asyncio.gather(utterance.snapshot(), finish())) == ["hello", "hello"]
    assert len(ears.opened) == 1
    assert 2 * TAKEOVER_S < STT_FINISH_S


async def test_a_turn_that_was_given_up_tells_nothing_about_the_recogniser() -> None:
    broken, ears = BrokenTranscriber("hang"), FakeTranscriber([("one", 0.0), ("two", 0.0)])
    both = FallbackTranscriber(broken, ears, rest_s=10)
    assert await both.open(lambda _: None).finish() == "one"
    await asyncio.sleep(11)
    trial = both.open(lambda _: None)
    text = asyncio.create_task(trial.finish())
    await asyncio.sleep(0.1)
    trial.cancel()
    assert await text == ""
    both.open(lambda _: None)  # one alone tries it again
    assert len(broken.opened) == 3
    assert await both.open(lambda _: None).finish() == "two"
    assert len(broken.opened) == 3
