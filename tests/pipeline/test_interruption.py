"""What an interruption stops, what it leaves, and how it is told and reported."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from pipecat.frames.frames import InterruptionFrame as PipecatInterruptionFrame

from bargein.pipeline import (
    DOWNSTREAM,
    UPSTREAM,
    InterruptionFrame,
    Level,
    Processor,
    SpeechInterruptedFrame,
    SpeechOnlyInterruptionFrame,
    Stage,
    handles,
)
from bargein.pipeline.frames import (
    DataFrame,
    ErrorFrame,
    Frame,
    FrameDirection,
    LLMTextFrame,
    OutputAudioRawFrame,
    TextFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    UserStartedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest

FOREVER = 1e6


@dataclass
class KeptFrame(DataFrame):
    interruptible: bool = False


class Model(Processor):
    """Answers each text with ten words, one every 0.1 s."""

    @handles(TextFrame)
    async def answer(self, frame: TextFrame) -> None:
        with self.session.respond():
            for number in range(10):
                await asyncio.sleep(0.1)
                self.push(LLMTextFrame(f"{frame.text}{number}"))


class Voice(Processor):
    """Makes 1 s of audio for a text, in 0.05 s, and passes the text on when it has."""

    stage = Stage.SPEECH

    @handles(LLMTextFrame)
    async def speak(self, frame: LLMTextFrame) -> None:
        await asyncio.sleep(0.05)
        self.push(TTSAudioRawFrame(frame.text.encode(), 8000, 1))
        self.push(frame)


class Stuck(Processor):
    @handles(TextFrame, KeptFrame)
    async def wait(self, frame: Frame) -> None:
        await asyncio.sleep(FOREVER)


class Told(Processor):
    """Collects the interruptions and reports it is told of, and pushes them on."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    @handles(PipecatInterruptionFrame, SpeechOnlyInterruptionFrame, SpeechInterruptedFrame)
    def told(self, frame: Frame, direction: FrameDirection) -> None:
        self.frames.append(frame)
        self.push(frame, direction)
        self.push(frame, UPSTREAM if direction is DOWNSTREAM else DOWNSTREAM)


class ToldLater(Told):
    @handles(PipecatInterruptionFrame, SpeechOnlyInterruptionFrame, SpeechInterruptedFrame)
    async def told(self, frame: Frame, direction: FrameDirection) -> None:  # type: ignore[override]
        await asyncio.sleep(1)
        self.frames.append(frame)
        self.push(frame, direction)


def texts(test: PipelineTest) -> list[str]:
    return [frame.text for frame in test.received(TextFrame)]


async def test_a_full_interruption_stops_work_and_drops_queues_everywhere() -> None:
    class Feeder(Processor):
        @handles(DataFrame)
        def feed(self, frame: DataFrame) -> None:
            for _ in range(3):
                self.push(TextFrame("a"))

    async with PipelineTest(Stuck(), Feeder(), Stuck(), Feeder(), Stuck()) as test:
        for processor in test.session.pipeline.processors:
            processor.push(DataFrame())
        await test.advance(1)
        assert repr(test.session.pipeline).count("queued") == 2
        test.interrupt("enough")
        assert "queued" not in repr(test.session.pipeline)
        report = await test.expect(SpeechInterruptedFrame)
        assert (report.level, report.reason, report.response_id) == (Level.FULL, "enough", None)
        await test.expect_none(TextFrame, within=FOREVER * 2)


@pytest.mark.parametrize("push_number", range(1, 20))
async def test_an_interruption_at_any_push_lets_nothing_stale_out(push_number: int) -> None:
    async with PipelineTest(Model(), Voice()) as test:
        test.interrupt_at_push(push_number, "here", of=LLMTextFrame)
        test.send(TextFrame("a"))
        await test.expect(SpeechInterruptedFrame, reason="here", response_id="r1")
        before = texts(test)
        await test.expect_none(LLMTextFrame, within=10)
        assert before == [f"a{n}" for n in range(len(before))]
        test.send(TextFrame("b"))
        for number in range(10):
            await test.expect(LLMTextFrame, text=f"b{number}")


async def test_after_an_interruption_the_next_response_is_heard_again() -> None:
    """Pipecat #950, #3986: stale speech after an interruption."""
    async with PipelineTest(Model(), Voice()) as test:
        test.send(TextFrame("a"))
        test.interrupt_at(0.32)
        test.interrupt_at(0.33)
        await test.advance(0.34)
        test.send(TextFrame("b"))
        await test.advance(2)
        audio = [frame.audio.decode() for frame in test.received(TTSAudioRawFrame)]
    assert audio == ["a0", "a1", *(f"b{n}" for n in range(10))]


async def test_uninterruptible_frames_survive_in_order_and_hold_nothing_up() -> None:
    """Pipecat #4412: an uninterruptible frame blocked interruptions."""

    class Slow(Processor):
        @handles(KeptFrame, TextFrame)
        async def slow(self, frame: Frame) -> None:
            await asyncio.sleep(1)
            self.push(frame)

    async with PipelineTest(Slow()) as test:
        kept = [KeptFrame() for _ in range(3)]
        for frame in kept:
            test.send(frame)
            test.send(TextFrame("stale"))
        await test.advance(0.5)
        test.interrupt()
        test.send(TextFrame("fresh"))
        await test.expect(SpeechInterruptedFrame, within=0)
        await test.expect(TextFrame, text="fresh")
        assert test.received(KeptFrame) == kept
        assert texts(test) == ["fresh"]


async def test_what_uninterruptible_work_pushes_is_always_current() -> None:
    class Tool(Processor):
        @handles(KeptFrame)
        async def call(self, frame: KeptFrame) -> None:
            await asyncio.sleep(1)
            self.push(TextFrame("result"))

    async with PipelineTest(Tool()) as test:
        test.send(KeptFrame())
        test.interrupt_at(0.5)
        await test.expect(TextFrame, text="result")


async def test_work_that_swallows_its_cancellation_delays_nobody() -> None:
    """Pipecat #2567 and the await without a timeout: one swallowed cancellation stalls the rest."""

    class Deaf(Processor):
        @handles(TextFrame)
        async def work(self, frame: TextFrame) -> None:
            if frame.text == "deaf":
                while True:
                    try:
                        await asyncio.sleep(5)
                        break
                    except asyncio.CancelledError:
                        self.push(LLMTextFrame("stale"))
            self.push(frame)

    async with PipelineTest(Processor(), Deaf(), Processor()) as test:
        test.send(TextFrame("deaf"))
        test.send(TextFrame("stale"))
        await test.advance(1)
        test.interrupt()
        test.send(TextFrame("fresh"))
        await test.expect(TextFrame, text="fresh", within=0.1)
        await test.advance(1.8)
        assert (test.stats.undead, test.stats.stale_dropped) == (0, 1)
        await test.advance(0.2)
        assert (test.stats.undead, test.stats.stale_dropped) == (1, 1)
        await test.expect_none(TextFrame, within=10)
        assert test.stats.stale_dropped == 2


@pytest.mark.parametrize("how", ["spawn", "create_task", "call_later", "to_thread"])
async def test_whatever_interrupted_work_started_pushes_nothing_stale(how: str) -> None:
    class Spawner(Processor):
        kept: set[asyncio.Task[None]]

        @handles(TextFrame)
        async def work(self, frame: TextFrame) -> None:
            loop = asyncio.get_running_loop()
            if how == "spawn":
                self.spawn(self.later())
            elif how == "create_task":
                self.kept = {asyncio.create_task(self.later())}
            elif how == "call_later":
                loop.call_later(1, self.push, LLMTextFrame("stale"))
            else:
                await asyncio.to_thread(
                    lambda: loop.call_soon_threadsafe(
                        lambda: loop.call_later(1, self.push, LLMTextFrame("stale"))
                    )
                )

        async def later(self) -> None:
            await asyncio.sleep(1)
            self.push(LLMTextFrame("stale"))

    async with PipelineTest(Spawner()) as test:
        test.send(TextFrame("a"))
        await test.expect(LLMTextFrame)
        test.send(TextFrame("b"))
        await test.advance(0.5)
        test.interrupt()
        await test.expect_none(LLMTextFrame, within=5)
        assert test.stats.stale_dropped == (how != "spawn")


async def test_stale_work_may_still_push_system_and_uninterruptible_frames() -> None:
    class Late(Processor):
        @handles(TextFrame)
        async def work(self, frame: TextFrame) -> None:
            try:
                await asyncio.sleep(10)
            finally:
                self.push(frame)
                self.push(KeptFrame())
                self.push(UserStartedSpeakingFrame())

    async with PipelineTest(Late()) as test:
        test.send(TextFrame("a"))
        await test.advance(1)
        test.interrupt()
        await test.expect(KeptFrame)
        await test.expect(UserStartedSpeakingFrame)
        assert texts(test) == []
        assert test.stats.stale_dropped == 1


Interrupt = Callable[[Processor], None]


def pushes(frame: Callable[[], Frame], direction: FrameDirection) -> Interrupt:
    return lambda processor: processor.push(frame(), direction)


@pytest.mark.parametrize(
    ("interrupt", "level", "reason"),
    [
        (lambda p: p.interrupt(reason="me"), Level.FULL, "me"),
        (lambda p: p.interrupt(Level.SPEECH, "me"), Level.SPEECH, "me"),
        (lambda p: p.session.interrupt("me"), Level.FULL, "me"),
        (lambda p: p.session.interrupt_speech("me"), Level.SPEECH, "me"),
        (pushes(lambda: InterruptionFrame(reason="me"), DOWNSTREAM), Level.FULL, "me"),
        (pushes(lambda: InterruptionFrame(reason="me"), UPSTREAM), Level.FULL, "me"),
        (pushes(PipecatInterruptionFrame, DOWNSTREAM), Level.FULL, "interrupted"),
        (pushes(PipecatInterruptionFrame, UPSTREAM), Level.FULL, "interrupted"),
        (pushes(lambda: SpeechOnlyInterruptionFrame(reason="me"), UPSTREAM), Level.SPEECH, "me"),
    ],
)
async def test_every_way_to_interrupt_is_told_once_to_each_and_reported_once(
    interrupt: Interrupt, level: Level, reason: str
) -> None:
    class Button(Processor):
        @handles(UserStartedSpeakingFrame)
        def pressed(self, frame: Frame) -> None:
            interrupt(self)

    everyone = [Told(), ToldLater(), Told(), Told()]
    async with PipelineTest(*everyone[:2], Button(), *everyone[2:]) as test:
        test.send(UserStartedSpeakingFrame())
        await test.advance(5)
        assert test.stats.interruptions == 1
        for told in everyone:
            interruption, report = told.frames
            kind = InterruptionFrame if level is Level.FULL else SpeechOnlyInterruptionFrame
            assert isinstance(interruption, kind)
            assert interruption.reason == reason
            assert isinstance(report, SpeechInterruptedFrame)
            assert (report.level, report.reason) == (level, reason)


async def test_an_interruption_is_acknowledged_when_nothing_is_going_on() -> None:
    async with PipelineTest(Processor()) as test:
        for level, interrupt in ((Level.FULL, test.interrupt), (Level.SPEECH, test.interrupt_speech)):
            interrupt("idle")
            report = await test.expect(SpeechInterruptedFrame, within=0, level=level, reason="idle")
            assert (report.response_id, report.heard, report.unheard) == (None, "", "")


async def test_the_report_gives_the_milliseconds_from_the_cause() -> None:
    async with PipelineTest(Processor()) as test:
        now = asyncio.get_running_loop().time()
        test.session.interrupt("late", cause=now - 0.25)
        await test.expect(SpeechInterruptedFrame, ms=pytest.approx(250))


async def test_everything_has_stopped_before_anyone_is_told() -> None:
    states: list[str] = []

    class Watcher(Processor):
        @handles(InterruptionFrame)
        def watch(self, frame: Frame) -> None:
            states.append(repr(self.session.pipeline))

    async with PipelineTest(Watcher(), Stuck(), Stuck()) as test:
        test.send(TextFrame("a"))
        test.send(TextFrame("b"))
        await test.advance(0)
        test.interrupt()
    assert len(states) == 1
    assert "working" not in states[0]
    assert "queued" not in states[0]


async def test_a_handler_of_the_interruption_may_begin_fresh_work() -> None:
    class Apology(Processor):
        @handles(InterruptionFrame)
        def apologise(self, frame: Frame) -> None:
            self.push(TextFrame("sorry"))

    async with PipelineTest(Apology(), Model()) as test:
        test.send(TextFrame("a"))
        await test.expect(LLMTextFrame, text="a0")
        test.interrupt()
        for number in range(10):
            await test.expect(LLMTextFrame, text=f"sorry{number}")


async def test_a_failing_handler_of_the_interruption_does_not_keep_it_from_others() -> None:
    class Fails(Processor):
        @handles(InterruptionFrame)
        def fail(self, frame: Frame) -> None:
            raise ValueError("no")

    told = Told()
    async with PipelineTest(Fails(), told) as test:
        test.interrupt()
        await test.expect(ErrorFrame, UPSTREAM)
        assert len(told.frames) == 2


async def test_work_that_interrupts_from_inside_ends_itself() -> None:
    class Guard(Processor):
        @handles(TextFrame)
        async def check(self, frame: TextFrame) -> None:
            self.push(TextFrame("before"))
            self.interrupt(reason="guard")
            self.push(TextFrame("stale"))
            await asyncio.sleep(0)
            raise AssertionError("unreachable: the work was cancelled")

        @handles(LLMTextFrame)
        def check_inline(self, frame: LLMTextFrame) -> None:
            self.push(TextFrame("before"))
            self.interrupt(reason="guard")
            self.push(TextFrame("stale"))

    async with PipelineTest(Guard()) as test:
        for frame in (TextFrame("a"), LLMTextFrame("b"), TextFrame("c")):
            test.send(frame)
            await test.expect(TextFrame, text="before")
            await test.expect(SpeechInterruptedFrame, reason="guard")
            await test.expect_none(TextFrame, within=1)
        assert test.stats.stale_dropped == 3


async def test_an_interruption_may_interrupt_again() -> None:
    class Twice(Processor):
        @handles(SpeechOnlyInterruptionFrame)
        def harder(self, frame: Frame) -> None:
            self.interrupt(reason="harder")

    told = Told()
    async with PipelineTest(Twice(), told) as test:
        test.interrupt_speech("soft")
        reports = test.received(SpeechInterruptedFrame)
        assert sorted((r.level, r.reason) for r in reports) == [("full", "harder"), ("speech", "soft")]
        assert test.stats.interruptions == 2


# Speech only ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "cut"), [(0.0, None), (0.1, "a0"), (0.12, "a0"), (0.32, "a2"), (0.47, None), (0.99, None)]
)
async def test_a_speech_only_interruption_lets_the_text_go_on_to_its_end(
    moment: float, cut: str | None
) -> None:
    async with PipelineTest(Model(), Voice()) as test:
        test.send(TextFrame("a"))
        await test.advance(moment)
        test.interrupt_speech()
        await test.advance(5)
        kinds = [type(frame) for frame in test.received()]
        assert TTSAudioRawFrame not in kinds[kinds.index(SpeechOnlyInterruptionFrame) :]
        # The text the voice was at work on is its own, and is cut with it.
        assert texts(test) == [f"a{n}" for n in range(10) if f"a{n}" != cut]
        test.send(TextFrame("b"))
        for number in range(10):
            await test.expect(TTSAudioRawFrame, audio=f"b{number}".encode())


async def test_text_waiting_at_a_busy_voice_is_passed_on_unspoken() -> None:
    async with PipelineTest(Voice()) as test:
        for number in range(5):
            test.send(LLMTextFrame(f"{number}"))
        test.send(TTSSpeakFrame("stale"))
        test.send(OutputAudioRawFrame(b"stale", 8000, 1))
        await test.advance(0.06)
        test.interrupt_speech()
        await test.advance(5)
        assert [getattr(f, "text", f.name) for f in test.received(DataFrame)[1:]] == ["0", "2", "3", "4"]


async def test_speech_only_leaves_work_stages_alone() -> None:
    async with PipelineTest(Model()) as test:
        test.send(TextFrame("a"))
        test.interrupt_at(0.35, level=Level.SPEECH)
        await test.advance(5)
        assert texts(test) == [f"a{number}" for number in range(10)]


async def test_speech_only_keeps_uninterruptible_work_of_the_voice() -> None:
    class Announcer(Processor):
        stage = Stage.SPEECH

        @handles(KeptFrame)
        async def announce(self, frame: KeptFrame) -> None:
            await asyncio.sleep(1)
            self.push(TTSAudioRawFrame(b"fire", 8000, 1))

    async with PipelineTest(Announcer()) as test:
        test.send(KeptFrame())
        test.send(KeptFrame())
        await test.advance(0.5)
        test.interrupt_speech()
        await test.expect(TTSAudioRawFrame)
        await test.expect(TTSAudioRawFrame)


async def test_what_a_deaf_voice_still_pushes_is_dropped() -> None:
    class DeafVoice(Processor):
        stage = Stage.SPEECH

        @handles(LLMTextFrame)
        async def speak(self, frame: LLMTextFrame) -> None:
            while True:
                try:
                    await asyncio.sleep(1)
                    break
                except asyncio.CancelledError:
                    continue
            self.push(TTSAudioRawFrame(frame.text.encode(), 8000, 1))

    async with PipelineTest(DeafVoice()) as test:
        test.send(LLMTextFrame("stale"))
        await test.advance(0.5)
        test.interrupt_speech()
        test.send(LLMTextFrame("fresh"))
        await test.expect(TTSAudioRawFrame, audio=b"fresh")
        await test.expect_none(TTSAudioRawFrame, within=5)
        assert test.stats.stale_dropped == 1


async def test_a_full_interruption_ends_a_response_already_silenced() -> None:
    async with PipelineTest(Model(), Voice()) as test:
        test.send(TextFrame("a"))
        await test.advance(0.3)
        test.interrupt_speech()
        await test.expect(SpeechInterruptedFrame, response_id="r1", level=Level.SPEECH)
        await test.advance(0.3)
        test.interrupt()
        await test.expect(SpeechInterruptedFrame, response_id="r1", level=Level.FULL)
        await test.expect_none(LLMTextFrame, within=5)
