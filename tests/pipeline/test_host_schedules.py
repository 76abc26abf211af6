"""Random schedules of frames, interruptions and ends through pipelines of ours and of stock processors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pipecat.pipeline.parallel_pipeline import ParallelPipeline

from bargein import DOWNSTREAM, Processor, SpeechInterruptedFrame, Stage, handles
from bargein.pipeline.frames import EndFrame, FrameDirection, LLMTextFrame, UserStartedSpeakingFrame
from bargein.pipeline.hosting import hosted
from bargein.pipeline.testing import PipelineTest

from .stock_processors import StockPassing, StockReceiver, StockStubborn


class Slow(Processor):
    @handles(LLMTextFrame)
    async def wait(self, frame: LLMTextFrame, direction: FrameDirection) -> None:
        await asyncio.sleep(0.2)
        self.push(frame, direction)


def parallel() -> ParallelPipeline:
    return ParallelPipeline([StockPassing(0.1)])  # type: ignore[no-untyped-call]


# What an end frame overtakes stays out of the count of what must arrive.
ORDERLY: list[Callable[[], Any]] = [
    Processor,
    Slow,
    StockPassing,
    lambda: StockPassing(0.15),
    lambda: hosted(StockPassing(0.05), stage=Stage.SPEECH),
    lambda: StockStubborn(0.1, swallow_s=0.3),
    lambda: StockStubborn(0.1, swallow_s=4.0),
    parallel,
]
UNRULY: list[Callable[[], Any]] = [
    lambda: StockReceiver(0.3),
    lambda: StockReceiver(0.3, forward_s=0.4),
]

actions = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 4)),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.01, 0.1, 0.35, 1.0])),
        st.tuples(st.just("system"), st.none()),
        st.tuples(st.just("full"), st.none()),
        st.tuples(st.just("speech"), st.none()),
    ),
    max_size=14,
)


def stubborn() -> StockStubborn:
    return StockStubborn(0.1, swallow_s=0.3)


@pytest.mark.virtual_time
@settings(max_examples=150, deadline=None)
# What swallowed its cancellation takes no frames beside the task that has taken over.
@example(made=[stubborn] * 2, plan=[("send", 2), ("wait", 0.1), ("full", None), ("send", 3)])
@given(made=st.lists(st.sampled_from(ORDERLY + UNRULY), min_size=1, max_size=5), plan=actions)
async def test_schedules(made: list[Callable[[], Any]], plan: list[tuple[str, Any]]) -> None:
    epoch = number = system = reports = 0
    sent: list[tuple[int, int]] = []  # epoch and number of each text
    test = PipelineTest(*(make() for make in made))
    async with test:
        for action, value in plan:
            if action == "send":
                for _ in range(value):
                    test.send(LLMTextFrame(f"{epoch} {number}"))
                    sent.append((epoch, number))
                    number += 1
            elif action == "wait":
                await test.advance(value)
            elif action == "system":
                test.send(UserStartedSpeakingFrame())
                system += 1
            else:
                (test.interrupt if action == "full" else test.interrupt_speech)()
                epoch += action == "full"
                reports += 1
                came = len(test.received(LLMTextFrame))
                stale = _numbers(test)[came:]
                assert not stale
        before = len(test.received(LLMTextFrame))
        test.session.end()
        await asyncio.wait_for(test.session.finished(), 120)
        await test.advance(6)

        arrived = _numbers(test)
        assert [f for f in test.received() if isinstance(f, EndFrame)]
        assert len(test.received(SpeechInterruptedFrame)) == reports
        assert len(test.received(UserStartedSpeakingFrame, DOWNSTREAM)) == system
        # Order, and nothing of an old epoch behind anything of a newer one.
        assert arrived == sorted(arrived)
        assert len(set(arrived)) == len(arrived)
        assert all(old == epoch for old, _ in arrived[before:])
        spoken = any(action == "speech" for action, _ in plan)
        if all(make in ORDERLY for make in made) and not spoken:
            last = [text for text in sent if text[0] == epoch]
            assert [text for text in arrived if text[0] == epoch] == last
        assert not [key for key, same in groupby(test.received(EndFrame)) if len(list(same)) > 1]


def _numbers(test: PipelineTest) -> list[tuple[int, int]]:
    pairs = (frame.text.split() for frame in test.received(LLMTextFrame))
    return [(int(epoch), int(number)) for epoch, number in pairs]
