"""The test kit tests itself."""

import asyncio
import re
import socket

import pytest
from pipecat.frames.frames import InterruptionFrame as PipecatInterruptionFrame

from bargein.pipeline import (
    DOWNSTREAM,
    UPSTREAM,
    InterruptionFrame,
    Level,
    Parallel,
    Pipeline,
    Processor,
    SpeechInterruptedFrame,
    SpeechOnlyInterruptionFrame,
    handles,
)
from bargein.pipeline.frames import (
    CancelFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    FrameDirection,
    LLMTextFrame,
    OutputAudioRawFrame,
    StartFrame,
    TextFrame,
    UserStartedSpeakingFrame,
)
from bargein.pipeline.testing import (
    Leaked,
    PipelineTest,
    SleepFrame,
    any_,
    describe_frame,
    leak_check,
    like,
    regex,
    run_test,
)


class Echo(Processor):
    """Answers each text a second later, twice."""

    @handles(TextFrame)
    async def echo(self, frame: TextFrame) -> None:
        for _ in range(2):
            await asyncio.sleep(1)
            self.push(LLMTextFrame(frame.text))


class Broken(Processor):
    @handles(TextFrame)
    def fail(self, frame: TextFrame) -> None:
        raise ValueError("broken")


async def test_expect_waits_and_gives_the_frame() -> None:
    async with PipelineTest(Echo()) as test:
        test.send(TextFrame("a"))
        frame = await test.expect(LLMTextFrame, text="a")
        assert frame.text == "a"
        assert test.received(LLMTextFrame) == [frame]


async def test_expect_takes_each_frame_once_and_in_order() -> None:
    async with PipelineTest(Processor()) as test:
        for text in "abc":
            test.send(TextFrame(text))
        await test.expect(TextFrame, text="a")
        with pytest.raises(AssertionError, match=r"the next TextFrame downstream has text='b', not 'c'"):
            await test.expect(TextFrame, text="c")
        await test.expect(TextFrame, text="b")
        await test.expect(TextFrame, where=lambda frame: frame.text == "c")
        with pytest.raises(AssertionError, match="no TextFrame left downstream within 3 s"):
            await test.expect(TextFrame, within=3)


async def test_a_failure_lists_what_was_received_and_the_state() -> None:
    async with PipelineTest(Echo()) as test:
        test.send(UserStartedSpeakingFrame())
        test.send(TextFrame("a"))
        await test.expect(UserStartedSpeakingFrame)
        with pytest.raises(AssertionError) as caught:
            await test.expect(OutputAudioRawFrame, within=1.5)
    message = re.sub(r"#\d+", "", str(caught.value))
    assert "no OutputAudioRawFrame left downstream within 1.5 s\nreceived downstream:\n" in message
    assert "\n  (done) UserStartedSpeakingFrame()" in message
    assert "\n  LLMTextFrame(text='a'" in message
    assert "<Echo working on TextFrame for 1.500 s>" in message


async def test_a_failure_upstream_says_when_nothing_came() -> None:
    async with PipelineTest(Processor()) as test:
        with pytest.raises(AssertionError, match=r"received upstream:\n  nothing"):
            await test.expect(TextFrame, UPSTREAM, within=1)


async def test_a_field_that_does_not_exist_is_a_mismatch() -> None:
    async with PipelineTest(Processor()) as test:
        test.send(TextFrame("a"))
        with pytest.raises(AssertionError, match="has no field txt"):
            await test.expect(TextFrame, txt="a")


async def test_expect_none_sees_what_came_already_and_what_comes_within() -> None:
    async with PipelineTest(Echo()) as test:
        test.send(TextFrame("a"))
        await test.expect_none(LLMTextFrame, within=0.9)
        with pytest.raises(AssertionError, match="a LLMTextFrame left downstream: LLMTextFrame#"):
            await test.expect_none(LLMTextFrame, within=0.2)
        with pytest.raises(AssertionError):
            await test.expect_none(LLMTextFrame, within=0)
        await test.expect_none(LLMTextFrame, within=0, text="b")
        test.skip()
        await test.expect_none(LLMTextFrame, within=0)
        await test.expect_none(LLMTextFrame, UPSTREAM, within=9)


async def test_matchers() -> None:
    assert like("Yes, please!") == "yes please"
    assert like("yes") != "yes please"
    assert like("yes") != 3
    assert regex(r"\d+ apples") == "I have 12 apples."
    assert regex("apples") != "pears"
    assert any_ == "anything"
    assert (repr(like("a")), repr(regex("b"))) == ("like('a')", "regex('b')")
    async with PipelineTest(Processor()) as test:
        test.send(TextFrame("Well, hello."))
        test.send(OutputAudioRawFrame(b"", 16_000, 1))
        await test.expect(TextFrame, text=like("well hello"))
        await test.expect(OutputAudioRawFrame, sample_rate=pytest.approx(16_001, abs=2), audio=any_)


async def test_an_unexpected_failure_of_a_handler_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="Broken: ValueError: broken") as caught:
        async with PipelineTest(Broken()) as test:
            test.send(TextFrame("a"))
    assert isinstance(caught.value.__cause__, ValueError)


async def test_an_expected_failure_of_a_handler_does_not() -> None:
    async with PipelineTest(Broken()) as test:
        test.send(TextFrame("a"))
        await test.expect(ErrorFrame, UPSTREAM, error=like("Broken: ValueError: broken"))


async def test_the_tests_own_failure_goes_first() -> None:
    async def fail() -> None:
        async with PipelineTest(Broken()) as test:
            test.send(TextFrame("a"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()


async def test_interruptions_put_the_past_behind() -> None:
    async with PipelineTest(Processor()) as test:
        test.send(TextFrame("old"))
        test.interrupt("now")
        await test.expect_none(TextFrame, within=1)
        await test.expect(InterruptionFrame, reason="now")
        test.interrupt_speech("now")
        await test.expect(SpeechOnlyInterruptionFrame, reason="now")
        assert test.stats.interruptions == 2


async def test_an_interruption_at_a_time() -> None:
    async with PipelineTest(Echo()) as test:
        test.send(TextFrame("a"))
        test.interrupt_at(1.5, "then")
        await test.expect(LLMTextFrame)
        await test.expect(SpeechInterruptedFrame, reason="then", level=Level.FULL)
        await test.expect_none(LLMTextFrame, within=5)


@pytest.mark.parametrize(("push", "texts"), [(1, 0), (2, 1), (3, 2)])
async def test_an_interruption_at_a_push(push: int, texts: int) -> None:
    async with PipelineTest(Echo()) as test:
        test.interrupt_at_push(push, "then", level=Level.FULL, of=LLMTextFrame)
        test.send(TextFrame("a"))
        await test.advance(5)
        assert len(test.received(LLMTextFrame)) == texts
        assert test.stats.interruptions == (push <= 2)
        assert test.pushes == 2 if push > 1 else 1


async def test_any_part_can_be_tested() -> None:
    async with PipelineTest(Pipeline([Processor()]), Parallel([Processor()], [Processor()])) as test:
        test.send(TextFrame("a"), UPSTREAM)
        await test.expect(TextFrame, UPSTREAM)


@pytest.mark.real_time
async def test_it_works_in_real_time_too() -> None:
    async with PipelineTest(Processor()) as test:
        test.send(TextFrame("a"))
        await test.expect(TextFrame)
        await test.expect_none(LLMTextFrame, within=0)


def test_a_frame_is_described_on_one_short_line() -> None:
    text = describe_frame(OutputAudioRawFrame(b"1234", 8000, 1))
    assert re.fullmatch(
        r"OutputAudioRawFrame#\d+\(audio=<4 bytes>, sample_rate=8000, num_channels=1, num_frames=2\)", text
    )
    assert len(describe_frame(TextFrame("long " * 100))) < 200


# run_test ------------------------------------------------------------------------------------------


async def test_run_test_compares_types_in_both_directions() -> None:
    down, up = await run_test(
        Echo(),
        frames_to_send=[TextFrame("a"), SleepFrame(sleep=0.5), UserStartedSpeakingFrame()],
        expected_down_frames=[UserStartedSpeakingFrame, LLMTextFrame, LLMTextFrame],
        expected_up_frames=[],
    )
    assert [type(frame) for frame in down] == [UserStartedSpeakingFrame, LLMTextFrame, LLMTextFrame]
    assert up == []


async def test_run_test_sends_upstream_too() -> None:
    seen: list[tuple[Frame, FrameDirection]] = []
    frame = TextFrame("a")
    await run_test(
        Processor(),
        frames_to_send=[frame],
        frames_to_send_direction=UPSTREAM,
        expected_up_frames=[TextFrame],
        expected_down_frames=[StartFrame],
        ignore_start=False,
        observers=[lambda frame, direction, processor: seen.append((frame, direction))],
    )
    assert (frame, UPSTREAM) in seen
    assert DOWNSTREAM in {direction for _, direction in seen}


@pytest.mark.parametrize("last", [EndFrame(), CancelFrame()])
async def test_run_test_can_be_ended_by_one_of_its_frames(last: Frame) -> None:
    down, _ = await run_test(Processor(), frames_to_send=[TextFrame("a"), last], send_end_frame=False)
    assert [type(frame) for frame in down] == [TextFrame, type(last)]


async def test_run_test_accepts_pipecats_interruption() -> None:
    await run_test(
        Processor(),
        frames_to_send=[PipecatInterruptionFrame()],
        expected_down_frames=[PipecatInterruptionFrame, SpeechInterruptedFrame],
    )


async def test_run_test_says_what_came_instead() -> None:
    with pytest.raises(
        AssertionError, match=r"downstream came\n  TextFrame#\d+\(text='a'.*\)\ninstead of\n  LLMTextFrame"
    ):
        await run_test(Processor(), frames_to_send=[TextFrame("a")], expected_down_frames=[LLMTextFrame])


async def test_run_test_gives_up_on_a_start_that_hangs() -> None:
    class Hangs(Processor):
        async def start(self) -> None:
            await asyncio.sleep(5)

    with pytest.raises(TimeoutError):
        await run_test(Hangs(), frames_to_send=[])
    await run_test(Hangs(), frames_to_send=[SleepFrame(20)], start_timeout=6)


# Leaks ---------------------------------------------------------------------------------------------


async def test_a_task_left_running_is_a_leak() -> None:
    async def forgotten() -> None:
        await asyncio.sleep(1)

    with pytest.raises(Leaked, match=r"task 'lost' in .*forgotten at .*test_testing\.py:\d+"):
        async with leak_check():
            task = asyncio.create_task(forgotten(), name="lost")
    await task


async def test_a_socket_left_open_is_a_leak() -> None:
    with pytest.raises(Leaked, match=r"socket fd \d+ \(inode \d+\) at \('127\.0\.0\.1', \d+\)"):
        async with leak_check():
            listener = socket.create_server(("127.0.0.1", 0))
    listener.close()


async def test_what_is_ended_inside_is_no_leak_nor_what_was_there_before() -> None:
    before = asyncio.create_task(asyncio.sleep(9))
    listener = socket.create_server(("127.0.0.1", 0))
    async with leak_check():
        near, far = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=near)
        writer.close()
        far.close()
        asyncio.create_task(asyncio.sleep(9)).cancel()
    listener.close()
    before.cancel()


async def test_the_leak_check_does_not_hide_an_error() -> None:
    tasks: list[asyncio.Task[None]] = []

    async def fail() -> None:
        async with leak_check():
            tasks.append(asyncio.create_task(asyncio.sleep(9)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    tasks[0].cancel()
