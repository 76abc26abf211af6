"""RTVI messages from and to frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pipecat.frames.frames import LLMMessagesAppendFrame

from bargein import Level, Processor, SpokenAudioFrame, Stage, handles
from bargein.pipeline.frames import (
    UPSTREAM,
    ErrorFrame,
    InterimTranscriptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    SpeechHoldFrame,
    SpeechInterruptedFrame,
    SpeechReleaseFrame,
    TranscriptionFrame,
    TTSStoppedFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest
from bargein.transports.output import AudioOutput
from bargein.transports.rtvi import LABEL, RTVI

pytestmark = pytest.mark.virtual_time

RATE = 24_000
WORD_S = 0.1  # each word is spoken so long


class Client:
    """A client at the other end of a channel."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.on_message: Callable[[dict[str, Any]], None] | None = None

    def send(self, message: dict[str, Any]) -> None:
        assert message["label"] == LABEL
        self.received.append(message)

    def say(self, kind: Any, data: Any = None, message_id: str = "7") -> None:
        assert self.on_message is not None
        self.on_message({"label": LABEL, "type": kind, "id": message_id, "data": data})

    def ask(self, thing: str, **details: Any) -> None:
        self.say("client-message", {"t": thing, "d": details})

    def got(self, kind: str) -> list[dict[str, Any]]:
        return [message.get("data", {}) for message in self.received if message["type"] == kind]

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [data for data in self.got("server-message") if data["type"] == kind]

    def states(self) -> list[str]:
        return [data["state"] for data in self.told("state")]


class Model(Processor):
    """Answers a typed message with three words, one each 10 ms, or with none."""

    def __init__(self, words: tuple[str, ...] = ("One", " two", " three.")) -> None:
        self.words = words

    @handles(LLMMessagesAppendFrame)
    async def answer(self, frame: LLMMessagesAppendFrame) -> None:
        with self.session.respond():
            self.push(LLMFullResponseStartFrame())
            for word in self.words:
                self.push(LLMTextFrame(word))
                await asyncio.sleep(0.01)
            self.push(LLMFullResponseEndFrame())


class Voice(Processor):
    """Speaks each word as `WORD_S` of sound."""

    stage = Stage.SPEECH

    @handles(LLMTextFrame)
    def speak(self, frame: LLMTextFrame) -> None:
        self.push(frame)
        assert self.response is not None
        self.response.text += frame.text
        samples = round(RATE * WORD_S)
        marks = ((samples, len(self.response.text)),)
        self.push(SpokenAudioFrame(b"\1\1" * samples, RATE, 1, self.response.id, marks))

    @handles(LLMFullResponseEndFrame)
    def end(self, frame: LLMFullResponseEndFrame) -> None:
        assert self.response is not None
        self.push(TTSStoppedFrame(context_id=self.response.id))
        self.push(frame)


class Player(AudioOutput):
    """Plays in real time to nobody."""

    async def start(self) -> None:
        await super().start()
        self.spawn(self.play_on())

    async def play_on(self) -> None:
        while True:
            self.playout.read(RATE // 50)
            await asyncio.sleep(0.02)


class Bot:
    """A session of model, RTVI and voice, and its client."""

    def __init__(self, model: Processor | None = None) -> None:
        self.client = Client()
        self.output = Player(RATE)
        rtvi = RTVI(self.client, self.output.playout)
        self.test = PipelineTest(model or Model(), rtvi, Voice(), self.output)


async def test_an_answer_from_its_first_word_to_its_last_heard() -> None:
    bot = Bot()
    async with bot.test as test:
        bot.client.say("client-ready", {"version": "2.1.0", "about": {"library": "test"}})
        assert bot.client.received[0]["id"] == "7"
        assert bot.client.got("bot-ready")[0]["version"].startswith("2.")
        bot.client.say("send-text", {"content": " hello "})
        await test.advance(2)
    about = {"response_id": "r1"}
    assert bot.client.got("bot-llm-started") == [{**about, "interruptible": True}]
    text = [(data["text"], data["response_id"]) for data in bot.client.got("bot-llm-text")]
    assert text == [("One", "r1"), (" two", "r1"), (" three.", "r1")]
    assert bot.client.got("bot-llm-stopped") == [{"response_id": "r1"}]
    heard = bot.client.got("bot-tts-text")
    assert [data["heard"] for data in heard] == ["One", "One two", "One two three."]
    assert {data["response_id"] for data in heard} == {"r1"}
    assert bot.client.got("bot-started-speaking") == bot.client.got("bot-stopped-speaking") == [about]
    assert bot.client.told("state") == [
        {"type": "state", "state": state, **about} for state in ("thinking", "speaking", "listening")
    ]


@pytest.mark.parametrize("level", list(Level))
async def test_a_client_interrupts(level: Level) -> None:
    bot = Bot()
    async with bot.test as test:
        bot.client.say("send-text", {"content": "hello"})
        await test.advance(0.15)
        test.skip()
        bot.client.ask("interrupt", level=level, reason="user_clicked_stop")
        await test.expect(SpeechInterruptedFrame, level=level, reason="user_clicked_stop", heard="One")
        await test.advance(1)
    report = bot.client.told("interruption")[-1]
    assert report.pop("ms") >= 0
    assert report == {
        "type": "interruption",
        "level": level.value,
        "reason": "user_clicked_stop",
        "response_id": "r1",
        "cut": ["r1"],
        "heard": "One",
        "unheard": " two three.",
    }
    assert bot.client.states()[-1] == "listening"
    assert bot.client.got("server-response") == [{"t": "interrupt", "d": {}}]
    assert [data["heard"] for data in bot.client.got("bot-tts-text")] == ["One"]


async def test_the_text_goes_on_after_a_speech_only_interruption() -> None:
    bot = Bot()
    async with bot.test as test:
        bot.client.say("send-text", {"content": "hello"})
        await test.advance(0.005)
        bot.client.ask("interrupt", level="speech")
        await test.advance(1)
    assert "".join(data["text"] for data in bot.client.got("bot-llm-text")) == "One two three."
    assert bot.client.told("interruption")[-1]["reason"] == "client_request"
    assert bot.client.states() == ["thinking", "listening"]


async def test_typed_text_replaces_what_was_being_said() -> None:
    bot = Bot()
    async with bot.test as test:
        bot.client.say("send-text", {"content": "hello"})
        await test.advance(0.15)
        bot.client.say("send-text", {"content": "wait"})
        await test.advance(1)
    assert [data["response_id"] for data in bot.client.got("bot-llm-started")] == ["r1", "r2"]
    assert bot.client.told("interruption")[-1]["response_id"] == "r1"
    assert bot.client.got("bot-tts-text")[-1] == {
        "text": " three.",
        "response_id": "r2",
        "heard": "One two three.",
    }


async def test_all_answers_that_were_cut_are_told() -> None:
    bot = Bot()
    async with bot.test as test:
        for _ in range(2):  # the second is made while the first is spoken
            bot.test.session.send_text("hello")
            await test.advance(0.05)
        bot.client.ask("interrupt")
        await test.advance(1)
    report = bot.client.told("interruption")[-1]
    assert (report["response_id"], report["cut"]) == ("r1", ["r1", "r2"])
    assert bot.client.told("state")[-1] == {"type": "state", "state": "listening", "response_id": "r1"}


async def test_an_answer_that_no_interruption_ends_is_told() -> None:
    class Stubborn(Processor):
        @handles(LLMMessagesAppendFrame)
        def answer(self, frame: LLMMessagesAppendFrame) -> None:
            with self.session.respond(interruptible=False):
                for part in (LLMFullResponseStartFrame(), LLMTextFrame("Stay."), LLMFullResponseEndFrame()):
                    part.interruptible = False
                    self.push(part)

    bot = Bot(Stubborn())
    async with bot.test as test:
        bot.client.say("send-text", {"content": "hello"})
        await test.advance(0.01)
        bot.client.ask("interrupt")
        await test.advance(1)
    assert bot.client.got("bot-llm-started") == [{"response_id": "r1", "interruptible": False}]
    report = bot.client.told("interruption")[-1]
    assert (report["response_id"], report["cut"]) == (None, [])


async def test_a_held_voice_is_told() -> None:
    bot = Bot()
    async with bot.test as test:
        bot.client.say("send-text", {"content": "hello"})
        await test.advance(0.15)
        test.send(SpeechHoldFrame())
        await test.expect(SpeechHoldFrame)
        test.send(SpeechReleaseFrame())
        await test.expect(SpeechReleaseFrame)
    for kind in ("hold", "release"):
        assert bot.client.told(kind) == [{"type": kind, "response_id": "r1"}]


async def test_an_answer_without_a_word_ends_the_thinking() -> None:
    bot = Bot(Model(()))
    async with bot.test as test:
        bot.client.say("send-text", {"content": "hello"})
        await test.advance(1)
    assert bot.client.states() == ["thinking", "listening"]


async def test_what_the_user_says_is_told_once() -> None:
    class Forwarder(Processor):
        @handles(TranscriptionFrame, InterimTranscriptionFrame)
        def forward(self, frame: TranscriptionFrame) -> None:
            self.push(frame)

    class Microphone(Processor):
        def speak(self) -> None:
            self.broadcast(UserStartedSpeakingFrame)
            self.push(InterimTranscriptionFrame("good", "user", "t1"))
            self.push(TranscriptionFrame("Good day.", "user", "t2"))
            self.broadcast(UserStoppedSpeakingFrame)

    client, microphone = Client(), Microphone()
    async with PipelineTest(Forwarder(), microphone, Forwarder(), Forwarder(), RTVI(client)):
        microphone.speak()
    assert client.got("user-transcription") == [
        {"text": "good", "user_id": "user", "timestamp": "t1", "final": False},
        {"text": "Good day.", "user_id": "user", "timestamp": "t2", "final": True},
    ]
    assert len(client.got("user-started-speaking")) == len(client.got("user-stopped-speaking")) == 1


async def test_errors_reach_the_client_and_end_the_thinking() -> None:
    class Broken(Processor):
        @handles(LLMMessagesAppendFrame)
        async def fail(self, frame: LLMMessagesAppendFrame) -> None:
            with self.session.respond():
                self.push(LLMFullResponseStartFrame())
                raise RuntimeError("no model")

    bot = Bot(Broken())
    async with bot.test as test:
        bot.client.say("send-text", {"content": "hello"})
        await test.expect(ErrorFrame, UPSTREAM)
    (error,) = bot.client.got("error")
    assert "no model" in error["error"]
    assert error["fatal"] is False
    assert bot.client.states() == ["thinking", "listening"]


async def test_the_client_says_how_late_it_plays() -> None:
    bot = Bot()
    async with bot.test:
        bot.client.ask("playout", delay_ms=120)
        assert bot.output.playout.delay_ms == 120.0
        for nonsense in (-1, 1e9, "much", None, float("nan"), True):
            bot.client.ask("playout", delay_ms=nonsense)
        assert bot.output.playout.delay_ms == 120.0
    assert len(bot.client.got("error-response")) == 6


async def test_the_client_leaves() -> None:
    bot = Bot()
    async with bot.test as test:
        bot.client.say("disconnect-bot")
        await test.session.finished()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("send-text", {}),
        ("send-text", {"content": 5}),
        ("send-text", None),
        ("send-text", "text"),
        ("client-message", {"t": "interrupt", "d": {"level": "half"}}),
        ("client-message", {"t": "dance"}),
        ("client-message", {"t": ["interrupt"]}),
        ("client-message", []),
        ("unknown", {}),
        (None, {}),
        ({}, {}),
    ],
)
async def test_nonsense_is_answered_with_an_error(kind: Any, data: Any) -> None:
    bot = Bot()
    async with bot.test:
        bot.client.say(kind, data, "42")
        assert bot.client.received[-1]["type"] == "error-response"
        assert bot.client.received[-1]["id"] == "42"


async def test_messages_with_another_label_are_not_for_rtvi() -> None:
    bot = Bot()
    async with bot.test:
        assert bot.client.on_message is not None
        bot.client.on_message({"type": "signalling", "message": {"type": "trackStatus"}})
        bot.client.on_message({})
        assert bot.client.received == []
