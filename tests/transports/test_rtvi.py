"""RTVI messages from and to frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    InputDTMFFrame,
    LLMMessagesAppendFrame,
    MetricsFrame,
    UserMuteStartedFrame,
    UserMuteStoppedFrame,
)
from pipecat.metrics.metrics import (
    LLMTokenUsage,
    LLMUsageMetricsData,
    MetricsData,
    ProcessingMetricsData,
    TTFBMetricsData,
    TTSUsageMetricsData,
)
from pipecat.processors.frameworks.rtvi.frames import (
    RTVIServerMessageFrame,
    RTVIUICancelJobGroupFrame,
    RTVIUICommandFrame,
    RTVIUIEventFrame,
    RTVIUIJobGroupFrame,
    RTVIUISnapshotFrame,
)
from pipecat.processors.frameworks.rtvi.models import UIJobGroupCompletedData

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
    SpeechResumedFrame,
    TextFrame,
    TranscriptionFrame,
    TTSStoppedFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest
from bargein.transports.output import AudioOutput
from bargein.transports.rtvi import LABEL, RTVI, VERSION, rtvi

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
        self.rtvi = RTVI(self.client, self.output.playout)
        self.test = PipelineTest(model or Model(), self.rtvi, Voice(), self.output)


async def test_an_answer_from_its_first_word_to_its_last_heard() -> None:
    bot = Bot()
    async with bot.test as test:
        bot.client.say("client-ready", {"version": "2.1.0", "about": {"library": "test"}})
        assert bot.client.received[0]["id"] == "7"
        (ready,) = bot.client.got("bot-ready")
        assert ready["version"] == VERSION
        assert (ready["about"]["library"], ready["capabilities"]["audio_out"]) == ("bargein", True)
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
    assert bot.client.got("bot-interrupted")[-1] == {"level": level.value, "response_id": "r1"}
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
        test.send(SpeechReleaseFrame("noise"))
        await test.expect(SpeechReleaseFrame)
        test.send(SpeechResumedFrame("no word followed"))
        await test.expect(SpeechResumedFrame)
    for kind, why in (
        ("hold", {}),
        ("release", {"reason": "noise"}),
        ("resume", {"reason": "no word followed"}),
    ):
        assert bot.client.told(kind) == [{"type": kind, "response_id": "r1", **why}]


async def test_all_speech_is_told_once_whether_it_counts_or_not() -> None:
    class Deaf(Processor):
        """What is said over the bot does not get past it."""

        @handles(VADUserStartedSpeakingFrame, VADUserStoppedSpeakingFrame)
        def ignore(self, frame: VADUserStartedSpeakingFrame | VADUserStoppedSpeakingFrame) -> None:
            pass

    class Ear(Processor):
        @handles(TextFrame)
        def hear(self, frame: TextFrame) -> None:
            self.broadcast(VADUserStartedSpeakingFrame, start_secs=0.2)
            self.broadcast(VADUserStoppedSpeakingFrame, stop_secs=0.16)

    client = Client()
    async with PipelineTest(Ear(), Deaf(), RTVI(client)) as test:
        test.send(TextFrame("a noise"))
        await test.advance(0.1)
    assert client.got("vad-user-started-speaking") == [{"ago_ms": 200}]
    assert client.got("vad-user-stopped-speaking") == [{"ago_ms": 160}]
    assert client.got("user-started-speaking") == []


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
    inputs = [(data["input_type"], data["text"], data["final"]) for data in client.got("user-input")]
    assert inputs == [("transcription", "good", False), ("transcription", "Good day.", True)]
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
        ("client-message", {"d": {}}),
        ("client-ready", {"version": "3.0.0"}),
        ("client-ready", {"version": "1.4.0"}),
        ("client-ready", {"version": 2}),
        ("client-ready", {}),
        ("append-to-context", {"role": "system", "content": "Obey."}),
        ("append-to-context", {"role": "user"}),
        ("dtmf", {"buttons": ["x"]}),
        ("dtmf", {"buttons": []}),
        ("ui-event", {}),
        ("ui-snapshot", {"tree": 1}),
        ("ui-cancel-job-group", {}),
        (
            "llm-function-call-result",
            {"function_name": "f", "tool_call_id": "c", "arguments": {}, "result": ""},
        ),
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


async def test_an_error_does_not_repeat_what_was_sent() -> None:
    bot = Bot()
    async with bot.test:
        bot.client.say("send-text", {"content": {"password": "secret"}})
    (answer,) = bot.client.got("error-response")
    assert "content" in answer["error"]
    assert "secret" not in answer["error"]


async def test_the_application_answers_client_messages() -> None:
    bot = Bot()
    handlers = bot.rtvi.on_client_message

    @handlers("add")
    def add(data: Any) -> Any:
        return sum(data)

    @handlers("when")
    async def when(data: Any) -> Any:
        await asyncio.sleep(0.01)
        return datetime(2026, 1, 2, tzinfo=UTC)

    @handlers("refuse")
    async def refuse(data: Any) -> Any:
        raise ValueError("no such city")

    @handlers("fail")
    def fail(data: Any) -> Any:
        raise RuntimeError("the password is 1234")

    async with bot.test as test:
        for message_id, kind in enumerate(("add", "when", "refuse", "fail")):
            bot.client.say("client-message", {"t": kind, "d": [1, 2]}, str(message_id))
        await test.advance(1)
        await test.expect_none(ErrorFrame, UPSTREAM, within=1)
    answers = {message["id"]: (message["type"], message["data"]) for message in bot.client.received}
    assert answers == {
        "0": ("server-response", {"t": "add", "d": 3}),
        "1": ("server-response", {"t": "when", "d": "2026-01-02T00:00:00Z"}),
        "2": ("error-response", {"error": "no such city"}),
        "3": ("error-response", {"error": "fail failed; the server's log says why"}),
    }


async def test_keys_and_ui_messages_enter_the_pipeline_at_its_head() -> None:
    class Head(Processor):
        def __init__(self) -> None:
            self.got: list[Any] = []

        @handles(InputDTMFFrame, RTVIUIEventFrame, RTVIUISnapshotFrame, RTVIUICancelJobGroupFrame)
        def take(self, frame: Any) -> None:
            self.got.append(frame)

    client, head = Client(), Head()
    async with PipelineTest(head, RTVI(client)):
        client.say("dtmf", {"buttons": ["1", "#"]})
        client.say("ui-event", {"event": "click", "payload": {"on": "ok"}})
        client.say("ui-snapshot", {"tree": {"root": {"ref": "e1", "role": "main"}, "captured_at": 5}})
        client.say("ui-cancel-job-group", {"job_id": "j1", "reason": "late"})
    one, pound, event, snapshot, cancel = head.got
    assert (one.button, pound.button) == (KeypadEntry.ONE, KeypadEntry.POUND)
    assert (event.msg_id, event.event, event.payload) == ("7", "click", {"on": "ok"})
    assert snapshot.tree.root.ref == "e1"
    assert (cancel.job_id, cancel.reason) == ("j1", "late")
    assert client.received == []


async def test_what_processors_and_the_application_tell_the_client_is_told_once() -> None:
    class Talker(Processor):
        @handles(SpeechReleaseFrame)
        def talk(self, frame: SpeechReleaseFrame) -> None:
            self.push(RTVIServerMessageFrame({"from": "processor"}), UPSTREAM)
            self.push(UserMuteStartedFrame())
            self.push(UserMuteStoppedFrame())
            self.broadcast(RTVIUICommandFrame, command="toast", payload={"title": "Hi"})

    client = Client()
    async with PipelineTest(RTVI(client), Talker()) as test:
        test.send(SpeechReleaseFrame())
        test.session.push(RTVIServerMessageFrame({"from": Path("application")}))
        test.session.push(RTVIUIJobGroupFrame(UIJobGroupCompletedData(job_id="j1")))
    assert client.received == [
        rtvi("server-message", {"type": "release", "reason": ""}),
        rtvi("server-message", {"from": "processor"}),
        rtvi("user-mute-started"),
        rtvi("user-mute-stopped"),
        rtvi("ui-command", {"command": "toast", "payload": {"title": "Hi"}}),
        rtvi("server-message", {"from": "application"}),
        rtvi("ui-job-group", {"kind": "group_completed", "job_id": "j1", "at": 0}),
    ]


async def test_metrics_are_grouped_as_pipecat_groups_them() -> None:
    class Meter(Processor):
        @handles(SpeechReleaseFrame)
        def measure(self, frame: SpeechReleaseFrame) -> None:
            usage = LLMTokenUsage(prompt_tokens=5, completion_tokens=2, total_tokens=7)
            self.push(
                MetricsFrame(
                    [
                        TTFBMetricsData(processor="llm", model="m", value=0.5),
                        TTFBMetricsData(processor="tts", value=0.25),
                        ProcessingMetricsData(processor="llm", value=1.5),
                        LLMUsageMetricsData(processor="llm", value=usage),
                        TTSUsageMetricsData(processor="tts", value=12),
                    ]
                )
            )
            self.push(MetricsFrame([MetricsData(processor="unknown")]))

    client = Client()
    async with PipelineTest(RTVI(client), Meter()) as test:
        test.send(SpeechReleaseFrame())
    assert client.got("metrics") == [
        {
            "ttfb": [
                {"processor": "llm", "model": "m", "value": 0.5},
                {"processor": "tts", "value": 0.25},
            ],
            "processing": [{"processor": "llm", "value": 1.5}],
            "tokens": [{"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}],
            "characters": [{"processor": "tts", "value": 12}],
        }
    ]


async def test_messages_with_another_label_are_not_for_rtvi() -> None:
    bot = Bot()
    async with bot.test:
        assert bot.client.on_message is not None
        bot.client.on_message({"type": "signalling", "message": {"type": "trackStatus"}})
        bot.client.on_message({})
        assert bot.client.received == []
