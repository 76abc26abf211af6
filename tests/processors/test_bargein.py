"""The whole bot in virtual time, spoken over: held, released, interrupted, and every word accounted for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import numpy as np
import pytest
from pipecat.frames.frames import (
    FunctionCallFromLLM,
    FunctionCallResultFrame,
    FunctionCallsStartedFrame,
    UserBackchannelFrame,
)

from bargein.pipeline import UPSTREAM, Level, Processor, SpeechInterruptedFrame, handles
from bargein.pipeline.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    SpeechHoldFrame,
    SpeechReleaseFrame,
    SpeechResumedFrame,
    TTSSpeakFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest
from bargein.processors.bargein import LEAD_S, SPEAKS_ON_S, SPEEDS, BargeIn
from bargein.processors.context import INTERRUPTED_MARK, SPEECH_STOPPED_MARK, Context
from bargein.processors.policies import MuteDuringTools, Policies, Resume, SpeechOnly
from bargein.processors.stt import STT
from bargein.processors.tts import TTS, Sentences
from bargein.processors.turn import Turn
from bargein.processors.vad import VAD
from bargein.transports.output import AudioOutput

from .fakes import FakeTranscriber, FakeVAD, FakeVoice, playing

ANSWER = ["One two three four.", " Five six seven eight.", " Nine ten eleven twelve."]
TEXT = "".join(ANSWER)

# 20 ms of a low sound and of a high one: together no hum. No byte that FakeVAD sees is 0.
SYLLABLES = [
    (8000 * np.sin(2 * np.pi * hertz / 16_000 * np.arange(320))).astype(np.int16) | 1 for hertz in (300, 3000)
]


class ScriptedLLM(Processor):
    """Answers with one text after the other, a piece each 100 ms."""

    def __init__(self, answers: list[list[str]], delay_s: float) -> None:
        self.answers = answers
        self.delay_s = delay_s
        self.asked: list[list[str]] = []  # what the user had said, at each request

    @handles(LLMContextFrame)
    async def answer(self, frame: LLMContextFrame) -> None:
        messages = cast("list[dict[str, str]]", frame.context.messages)
        self.asked.append([m["content"] for m in messages if m["role"] == "user"])
        with self.session.respond():
            self.push(LLMFullResponseStartFrame())
            await asyncio.sleep(self.delay_s)
            for piece in self.answers.pop(0):
                await asyncio.sleep(0.1)
                self.push(LLMTextFrame(piece))
            self.push(LLMFullResponseEndFrame())


class Retrieval(Processor):
    """Stands between the user's turn and the model, and takes its time."""

    @handles(LLMContextFrame)
    async def look_up(self, frame: LLMContextFrame) -> None:
        await asyncio.sleep(1)
        self.push(frame)


class Conversation:
    """A bot, and a user who says one text after the other."""

    def __init__(
        self,
        *said: str,
        answers: list[list[str]] | None = None,
        policies: Policies | None = None,
        delay_s: float = 0.0,
        stt_s: float = 0.1,
        turn_ms: float = 100,
        before_llm: tuple[Processor, ...] = (),
        second: FakeTranscriber | None = None,
    ) -> None:
        self.context = Context("Be brief.")
        self.transcriber = FakeTranscriber([(text, stt_s) for text in said])
        self.bargein = BargeIn(policies, second=second)
        self.llm = ScriptedLLM(answers or [ANSWER, ["Well then."], ["Well then."]], delay_s)
        self.output = AudioOutput(16_000)
        self.played = bytearray()
        self.test = PipelineTest(
            VAD(FakeVAD()),
            Turn(silence_ms=turn_ms),
            STT(self.transcriber),
            self.bargein,
            self.context.user,
            *before_llm,
            self.llm,
            self.context.assistant,
            Sentences(),
            TTS(FakeVoice()),
            self.output,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PipelineTest]:
        async with self.test as test, playing(self.output, self.played):
            yield test

    async def sound(self, ms: int, speech: bool) -> None:
        for number in range(ms // 20):
            audio = SYLLABLES[number // 3 % 2].tobytes() if speech else bytes(640)
            self.test.send(InputAudioRawFrame(audio, 16_000, 1))
            await asyncio.sleep(0.02)

    async def say(self, ms: int, silence_ms: int = 600) -> None:
        await self.sound(ms, True)
        await self.sound(silence_ms, False)

    async def ask(self) -> None:
        """The first turn, up to the bot's first sound."""
        await self.say(500, 400)
        await self.test.expect(BotStartedSpeakingFrame)

    async def heard(self, word: str) -> None:
        while (await self.test.expect(TTSTextFrame)).text.strip() != word:
            pass

    @property
    def words(self) -> str:
        return "".join(frame.text for frame in self.test.received(TTSTextFrame))

    def messages(self, role: str) -> list[str]:
        return [m["content"] for m in self.context.messages if m["role"] == role]

    @property
    def audible_s(self) -> float:
        return sum(1 for b in self.played if b) / 2 / 16_000


@pytest.mark.parametrize("backchannel", ["Mm-hmm.", "Okay.", "Right.", "Uh-huh, yeah."])
async def test_a_backchannel_is_released_and_not_a_word_is_lost_or_doubled(backchannel: str) -> None:
    talk = Conversation("hello", backchannel)
    async with talk.running() as test:
        await talk.ask()
        await talk.heard("two")
        await talk.say(400)
        await test.expect(SpeechHoldFrame)
        await test.expect(SpeechReleaseFrame, reason="backchannel")
        await test.expect(UserBackchannelFrame, text=backchannel)
        await test.expect(BotStoppedSpeakingFrame)
        await test.expect_none(LLMContextFrame, within=5)
        assert len(test.received(SpeechHoldFrame)) == len(test.received(SpeechReleaseFrame)) == 1
        assert len(test.received(UserStartedSpeakingFrame)) == 1  # of the first turn
        assert test.stats.interruptions == 0
    assert talk.words == TEXT
    assert talk.messages("user") == ["hello"]
    assert talk.messages("assistant") == [TEXT]
    assert talk.audible_s == pytest.approx(len(TEXT) / 20, abs=0.05)


async def test_a_hum_misheard_as_a_word_is_read_again_and_released() -> None:
    second = FakeTranscriber([("No, no.", 0.05), ("Mm-hmm", 0.05)])
    talk = Conversation("hello", "No.", second=second)
    async with talk.running() as test:
        await talk.ask()
        await talk.heard("two")
        await talk.say(400)
        await test.expect(UserBackchannelFrame)
        await test.expect(BotStoppedSpeakingFrame)
        assert len(test.received(SpeechReleaseFrame)) == 1
        assert test.stats.interruptions == 0
    assert talk.words == TEXT
    assert talk.messages("user") == ["hello"]
    # The question before was not read again: the bot was silent.
    for utterance, speed in zip(second.opened, SPEEDS, strict=True):
        assert utterance.cancelled
        heard = np.frombuffer(utterance.fed, np.int16)
        assert np.abs(heard[: int(LEAD_S * 16_000 / speed) - 1000]).max() < 100
        assert np.count_nonzero(np.abs(heard) > 500) == pytest.approx(6400 / speed, rel=0.05)


async def test_a_turn_that_is_over_before_the_second_reading_is_waits_for_it() -> None:
    talk = Conversation(
        "hello", "Louder.", stt_s=0.01, turn_ms=0, second=FakeTranscriber([("Later.", 0.1)] * 2)
    )
    async with talk.running() as test:
        await talk.ask()
        await talk.heard("two")
        await talk.say(400)
        await test.expect(SpeechInterruptedFrame, reason="user_speaking")
        assert not test.received(SpeechReleaseFrame)
        await test.advance(3)
        assert len(test.received(UserStoppedSpeakingFrame)) == 2
    assert talk.messages("user") == ["hello", "Louder."]


async def test_the_user_speaks_on_while_a_turn_that_is_over_waits() -> None:
    second = FakeTranscriber([("Later.", 0.2)] * 2 + [("", 0.2)] * 4)
    talk = Conversation("hello", "Louder.", "Speak louder.", stt_s=0.01, turn_ms=0, second=second)
    async with talk.running() as test:
        await talk.ask()
        await talk.heard("two")
        await talk.say(400, 260)
        await talk.say(1300)
        await test.expect(SpeechInterruptedFrame, reason="user_speaking")
        await test.advance(3)
    assert talk.messages("user") == ["hello", "Louder. Speak louder."]


async def test_long_speech_is_not_read_again() -> None:
    second = FakeTranscriber([])
    talk = Conversation("hello", "Tell me about Friday instead.", second=second)
    async with talk.running() as test:
        await talk.ask()
        await talk.heard("two")
        await talk.say(1100)
        await test.expect(SpeechInterruptedFrame)
    assert not second.opened


async def test_a_hum_is_released_before_it_has_ended_whatever_its_words() -> None:
    talk = Conversation("hello", "No.")
    async with talk.running() as test:
        await talk.ask()
        await talk.heard("two")
        for _ in range(25):
            test.send(InputAudioRawFrame(SYLLABLES[0].tobytes(), 16_000, 1))
            await asyncio.sleep(0.02)
        assert len(test.received(SpeechReleaseFrame)) == 1
        await talk.sound(600, False)
        await test.expect(BotStoppedSpeakingFrame)
        assert test.stats.interruptions == 0
    assert talk.words == TEXT


@pytest.mark.parametrize("ms", [80, 120, 300])
async def test_a_noise_is_released(ms: int) -> None:
    talk = Conversation("hello", "", "")
    async with talk.running() as test:
        await talk.ask()
        await talk.heard("two")
        await talk.say(ms)
        await test.expect(BotStoppedSpeakingFrame)
        assert len(test.received(SpeechHoldFrame)) == len(test.received(SpeechReleaseFrame)) == 1
        assert test.stats.interruptions == 0
    assert talk.words == TEXT
    assert talk.messages("user") == ["hello"]


async def test_the_voice_is_silent_100_ms_after_an_onset_and_goes_on_soon_after_its_end() -> None:
    talk = Conversation("hello", "okay")
    async with talk.running():
        await talk.ask()
        await talk.heard("two")
        at = len(talk.played)
        await talk.say(400)
        ms = [any(talk.played[i : i + 32]) for i in range(at, len(talk.played), 32)]
        held = ms.index(False)
        assert held <= 64 + 32 + 20 + 15  # two chunks, one not filled at the onset, a block, the fade
        assert not any(ms[held:400])
        assert any(ms[400:700])


async def test_an_interruption_yields_and_every_word_of_it_is_answered() -> None:
    talk = Conversation("hello", "Tell me about Friday instead.")
    async with talk.running() as test:
        await talk.ask()
        await talk.heard("three")
        await talk.say(1500)
        report = await test.expect(SpeechInterruptedFrame, level=Level.FULL, reason="user_speaking")
        assert report.heard + report.unheard == TEXT[: len(report.heard + report.unheard)]
        assert report.ms == pytest.approx(1200, abs=100)  # the minimum duration; silent since the hold
        await test.expect(BotStoppedSpeakingFrame)
        assert not test.received(SpeechReleaseFrame)
        assert test.stats.interruptions == 1
    assert talk.messages("user") == ["hello", "Tell me about Friday instead."]
    assert talk.messages("assistant")[0] == report.heard + INTERRUPTED_MARK
    assert talk.llm.asked[1] == ["hello", "Tell me about Friday instead."]


async def test_a_short_command_interrupts_when_its_word_is_known() -> None:
    talk = Conversation("hello", "Stop.")
    async with talk.running() as test:
        await talk.ask()
        await talk.heard("three")
        await talk.say(300)
        await test.expect(SpeechInterruptedFrame, reason="user_speaking", response_id="r1")
    assert talk.messages("user") == ["hello", "Stop."]


async def test_words_of_a_partial_transcript_interrupt_and_all_of_them_go_on() -> None:
    talk = Conversation("hello", "Okay, but what about Friday?")
    async with talk.running() as test:
        await talk.ask()
        await talk.heard("two")
        await talk.sound(700, True)
        talk.transcriber.opened[1].on_partial("Okay, but what")
        await test.expect(SpeechInterruptedFrame)
        await test.expect(UserStartedSpeakingFrame)
        await test.expect(InterimTranscriptionFrame, text="Okay, but what")
        await talk.sound(400, False)
        await test.advance(3)
    assert talk.messages("user")[1] == "Okay, but what about Friday?"


async def test_a_backchannel_that_was_the_beginning_is_not_lost() -> None:
    talk = Conversation("hello", "Okay.", "But what about Friday?")
    async with talk.running() as test:
        await talk.ask()
        await talk.say(300, 500)
        await test.expect(SpeechReleaseFrame)
        await talk.say(1300, 500)
        await test.expect(SpeechInterruptedFrame)
    assert talk.messages("user") == ["hello", "Okay. But what about Friday?"]


async def test_a_backchannel_long_ago_was_none_of_it() -> None:
    talk = Conversation("hello", "Okay.", "But what about Friday?", answers=[ANSWER * 3, ["Well."]])
    async with talk.running() as test:
        await talk.ask()
        await talk.say(300, int(SPEAKS_ON_S * 1000))
        await talk.say(1300, 500)
        await test.expect(SpeechInterruptedFrame)
    assert talk.messages("user") == ["hello", "But what about Friday?"]


async def test_nothing_is_interrupted_when_nothing_is_under_way() -> None:
    talk = Conversation("hello", "how are you", answers=[["Yes."], ["Good."]])
    async with talk.running() as test:
        await talk.ask()
        await test.expect(BotStoppedSpeakingFrame)
        await talk.say(1500)
        await test.expect(BotStoppedSpeakingFrame)
        assert test.stats.interruptions == 0
        assert not test.received(SpeechHoldFrame)
    assert talk.messages("user") == ["hello", "how are you"]


async def test_a_pause_in_a_turn_is_no_reason_to_interrupt() -> None:
    talk = Conversation("I would like a pizza", turn_ms=500)
    async with talk.running() as test:
        await talk.say(800, 280)
        await talk.say(800, 500)
        await test.expect(BotStartedSpeakingFrame)
        assert test.stats.interruptions == 0
    assert talk.messages("user") == ["I would like a pizza"]


async def test_speech_while_the_bot_thinks_stops_it_and_both_inputs_are_answered() -> None:
    talk = Conversation("hello", "and goodbye", delay_s=2)
    async with talk.running() as test:
        await talk.say(500, 600)
        await talk.say(800, 600)
        await test.expect(SpeechInterruptedFrame, response_id="r1", heard="")
        await test.expect(BotStoppedSpeakingFrame)
    assert " ".join(talk.llm.asked[1]) == "hello and goodbye"
    assert talk.messages("assistant") == [TEXT]


async def test_between_the_end_of_a_turn_and_the_model_an_answer_is_under_way_too() -> None:
    """What stands before the model takes 1 s; no response has begun when the user speaks on."""
    talk = Conversation("hello", "and goodbye", before_llm=(Retrieval(),))
    async with talk.running() as test:
        await talk.say(500, 500)
        await talk.say(600, 500)
        await test.expect(SpeechInterruptedFrame, response_id=None)
        await test.expect(BotStoppedSpeakingFrame)
    assert [" ".join(said) for said in talk.llm.asked] == ["hello and goodbye"]


async def test_a_reply_paused_before_its_first_frame_does_not_vanish() -> None:
    """livekit #5038: held while it was made, a reply was never heard."""
    talk = Conversation("hello", "mm-hmm", delay_s=0.3)
    async with talk.running() as test:
        await talk.say(500, 400)
        await talk.say(400)
        await test.expect(SpeechHoldFrame)
        await test.expect(SpeechReleaseFrame)
        await test.expect(BotStoppedSpeakingFrame)
        assert not test.received(SpeechInterruptedFrame)
    assert talk.words == TEXT
    assert talk.audible_s == pytest.approx(len(TEXT) / 20, abs=0.05)


async def test_after_an_interruption_the_bot_is_not_stuck_speaking() -> None:
    """livekit #3418: still "speaking", so the next speech interrupted nothing."""
    talk = Conversation("hello", "Stop.", "and now?", answers=[ANSWER, ["Oh."], ["Yes."]])
    async with talk.running() as test:
        await talk.ask()
        await talk.heard("three")
        await talk.say(300)
        await test.expect(BotStoppedSpeakingFrame, UPSTREAM)
        await test.expect(BotStoppedSpeakingFrame, UPSTREAM)
        holds = len(test.received(SpeechHoldFrame))
        await talk.say(1500)
        await test.expect(BotStoppedSpeakingFrame, UPSTREAM)
        assert len(test.received(SpeechHoldFrame)) == holds
        assert len(test.received(BotStartedSpeakingFrame)) == len(test.received(BotStoppedSpeakingFrame)) == 3
    assert talk.messages("user") == ["hello", "Stop.", "and now?"]


@pytest.mark.parametrize("stt_s", [0.05, 0.3, 1.5])
async def test_no_transcript_is_dropped_by_its_own_interruption(stt_s: float) -> None:
    """pipecat #5683: the interruption of a turn dropped the turn's transcription."""
    talk = Conversation("hello", "Tell me about Friday.", stt_s=stt_s)
    async with talk.running() as test:
        await talk.say(500, 3000)
        await talk.heard("two")
        await talk.say(1400, 3000)
        await test.expect(SpeechInterruptedFrame)
        await test.advance(3)
    assert talk.messages("user") == ["hello", "Tell me about Friday."]


async def test_words_heard_before_the_hold_are_kept_whenever_it_comes() -> None:
    """pipecat #4996: a system frame overtook words that had been heard, and they were lost."""
    for step in range(0, 30, 2):
        talk = Conversation("hello", "Stop it now.")
        async with talk.running() as test:
            await talk.ask()
            await talk.sound(20 * step + 20, False)
            await talk.say(600, 400)
            report = await test.expect(SpeechInterruptedFrame, response_id="r1")
            ends = [i for i in range(1, len(TEXT) + 1) if i == len(TEXT) or TEXT[i] == " "]
            # The fade of 15 ms sounds beyond what counts as heard.
            audible = [
                max(e for e in [0, *ends] if e / 20 <= s) for s in (talk.audible_s, talk.audible_s - 0.015)
            ]
            assert len(report.heard) in audible
            assert talk.words.startswith(report.heard)
        kept = [report.heard + INTERRUPTED_MARK] if report.heard else []
        # The answer to the interruption may have begun by now.
        assert [said for said in talk.messages("assistant") if said != "Well then."] == kept


async def test_stopped_by_a_click_while_held_the_next_answer_sounds() -> None:
    talk = Conversation("hello", "what else?")
    async with talk.running() as test:
        await talk.ask()
        await talk.sound(200, True)
        await test.expect(SpeechHoldFrame)
        test.session.interrupt("user_clicked_stop")
        await talk.sound(600, True)
        await talk.sound(400, False)
        await test.expect(SpeechInterruptedFrame, reason="user_clicked_stop")
        await test.expect(BotStartedSpeakingFrame)
        await test.expect(BotStoppedSpeakingFrame)
        assert test.stats.interruptions == 1
    assert " ".join(talk.messages("user")) == "hello what else?"


async def test_after_a_false_alarm_the_bot_says_the_rest() -> None:
    talk = Conversation("hello", "", policies=Policies(resume=Resume(1000, prefix="As I was saying, ")))
    async with talk.running() as test:
        await talk.ask()
        await talk.heard("seven")
        await talk.say(1400, 1500)
        report = await test.expect(SpeechInterruptedFrame)
        await test.expect(BotStoppedSpeakingFrame)
    assert report.heard + report.unheard == TEXT
    assert [frame.reason for frame in test.received(SpeechResumedFrame)] == ["no word followed"]
    assert talk.words == report.heard + "As I was saying, " + report.unheard.lstrip()
    assert talk.messages("user") == ["hello"]
    assert len(talk.llm.asked) == 1


async def test_critical_speech_is_neither_held_nor_cut_and_what_is_said_meanwhile_is_answered() -> None:
    talk = Conversation("Hey, listen to me!", answers=[["Well then."]])
    async with talk.running() as test:
        critical = TTSSpeakFrame("This call is recorded. Your rights are the following.")
        critical.interruptible = False
        test.send(critical)
        await test.expect(BotStartedSpeakingFrame)
        await talk.say(1200, 600)
        await talk.heard("then.")
        assert not test.received(SpeechHoldFrame)
        assert test.stats.interruptions == 0
    assert talk.words == "This call is recorded. Your rights are the following.Well then."
    assert talk.messages("user") == ["Hey, listen to me!"]


async def test_speech_only_by_policy_leaves_the_text() -> None:
    policies = Policies(speaking=tuple(SpeechOnly(policy) for policy in Policies().speaking))
    talk = Conversation("hello", "Stop talking.", policies=policies)
    async with talk.running() as test:
        await talk.ask()
        await talk.heard("two")
        await talk.say(400)
        await test.expect(SpeechInterruptedFrame, level=Level.SPEECH)
        await test.expect_none(TTSTextFrame, where=lambda frame: "twelve" in frame.text, within=5)
    heard, mark, rest = talk.messages("assistant")[0].partition(SPEECH_STOPPED_MARK)
    assert mark
    assert heard + rest == TEXT


async def test_muted_while_a_tool_runs() -> None:
    mute = MuteDuringTools()
    policies = Policies(speaking=(mute, *Policies().speaking), thinking=(mute, *Policies().thinking))
    talk = Conversation("hello", "hurry up please", "are you there", policies=policies, delay_s=4)
    async with talk.running() as test:
        await talk.say(500, 500)
        call = FunctionCallFromLLM("weather", "c1", {}, context=None)
        talk.llm.push(FunctionCallsStartedFrame([call]), UPSTREAM)
        await talk.say(1200, 600)
        assert test.stats.interruptions == 0
        talk.llm.push(FunctionCallResultFrame("weather", "c1", {}, "fine"), UPSTREAM)
        await talk.say(1200, 600)
        await test.expect(SpeechInterruptedFrame)
    assert " ".join(talk.messages("user")) == "hello are you there"


async def test_two_backchannels_at_once_are_released_once_each() -> None:
    talk = Conversation("hello", "mm-hmm", "okay", stt_s=0.5)
    async with talk.running() as test:
        await talk.say(500, 1200)
        await talk.heard("two")
        await talk.say(300, 300)
        await talk.say(300, 1200)  # begins before the first transcript is there
        await test.expect(BotStoppedSpeakingFrame)
        assert len(test.received(SpeechHoldFrame)) == len(test.received(SpeechReleaseFrame))
        assert test.stats.interruptions == 0
    assert talk.words == TEXT


async def test_every_stretch_of_speech_reaches_the_turn_as_a_whole_or_not_at_all() -> None:
    talk = Conversation(
        "hello", "okay", "Stop it.", "", "Fine, go on then.", answers=[ANSWER, ANSWER, ["Bye."]]
    )
    async with talk.running() as test:
        await talk.ask()
        for ms in (300, 700, 200, 900):
            await talk.say(ms, 2500)
        await test.advance(10)
        turns = [
            type(frame)
            for frame in test.received(Frame)
            if isinstance(frame, UserStartedSpeakingFrame | UserStoppedSpeakingFrame)
        ]
        assert turns == [UserStartedSpeakingFrame, UserStoppedSpeakingFrame] * (len(turns) // 2)
    assert talk.messages("user") == ["hello", "Stop it.", "Fine, go on then."]
