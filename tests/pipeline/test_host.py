"""Stock Pipecat processors in our pipelines: passing, life cycle, interruption, errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import pytest
from pipecat.frames.frames import MetricsFrame
from pipecat.metrics.metrics import TTFBMetricsData
from pipecat.pipeline.parallel_pipeline import ParallelPipeline
from pipecat.pipeline.pipeline import Pipeline as StockPipeline
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor, FrameProcessorSetup
from pipecat.services.deepgram.tts import DeepgramTTSService
from pipecat.services.xai.tts import XAITTSService

from bargein import (
    DOWNSTREAM,
    UPSTREAM,
    Level,
    Parallel,
    Pipeline,
    Processor,
    Session,
    SpeechInterruptedFrame,
)
from bargein.pipeline import (
    PipecatUnsupported,
    PipelineError,
    StartFailed,
    hosted_deepgram,
    hosted_reconnect,
)
from bargein.pipeline.frames import (
    CancelFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    InterruptionWorkerFrame,
    LLMTextFrame,
    StartFrame,
    TranscriptionFrame,
    TTSSpeakFrame,
    UserStartedSpeakingFrame,
)
from bargein.pipeline.host_setup import ATTRIBUTES, METHODS, SessionTasks, check_pipecat
from bargein.pipeline.testing import PipelineTest

from .stock_processors import (
    StockModel,
    StockNamelessVoice,
    StockPassing,
    StockReceiver,
    StockStubborn,
    StockVoice,
)


def texts(test: PipelineTest) -> list[str]:
    return [frame.text for frame in test.received(LLMTextFrame)]


async def test_frames_keep_their_order_and_system_frames_overtake() -> None:
    async with PipelineTest(StockPassing(0.1), Processor(), StockPassing(0.1)) as test:
        for number in range(5):
            test.send(LLMTextFrame(str(number)))
        test.send(UserStartedSpeakingFrame())
        await test.expect(StartFrame)
        await test.expect(UserStartedSpeakingFrame)
        for number in range(5):
            await test.expect(LLMTextFrame, text=str(number))


async def test_frames_pass_both_ways() -> None:
    async with PipelineTest(StockPassing(), StockPassing()) as test:
        test.send(LLMTextFrame("up"), UPSTREAM)
        await test.expect(LLMTextFrame, UPSTREAM, text="up")


async def test_the_start_frame_comes_first() -> None:
    first, second = StockPassing(), StockPassing()
    async with PipelineTest(first, second) as test:
        test.send(UserStartedSpeakingFrame())
        test.send(LLMTextFrame("a"))
        await test.expect(LLMTextFrame)
    assert [type(f) for f in second.seen][:3] == [StartFrame, UserStartedSpeakingFrame, LLMTextFrame]


async def test_the_end_waits_for_what_is_in_the_stock_processor() -> None:
    async with PipelineTest(StockPassing(1.0), StockPassing()) as test:
        test.send(LLMTextFrame("a"))
        test.send(LLMTextFrame("b"))
        test.session.end()
        await test.session.finished()
        assert texts(test) == ["a", "b"]
        assert [type(f) for f in test.received()][-1] is EndFrame


async def test_a_cancelled_session_tells_the_stock_processor() -> None:
    stock = StockPassing(1.0)
    async with PipelineTest(stock) as test:
        test.send(LLMTextFrame("a"))
        await test.advance(0.1)
        test.session.cancel()
        await test.expect(CancelFrame)
        await test.expect_none(LLMTextFrame, within=5)


async def test_a_stock_pipeline_is_hosted_part_by_part() -> None:
    stock = StockPipeline([StockPassing(), StockPipeline([StockPassing()])])
    pipeline = Pipeline([stock, Processor()])
    assert len(pipeline.processors) == 3
    async with PipelineTest(stock) as test:
        test.send(LLMTextFrame("a"))
        await test.expect(LLMTextFrame, text="a")


async def test_a_compound_keeps_order_and_drops_what_is_stale() -> None:
    parallel = ParallelPipeline([StockPassing(0.5)])  # type: ignore[no-untyped-call]
    async with PipelineTest(parallel) as test:
        test.send(LLMTextFrame("old"))
        test.send(LLMTextFrame("older"))
        await test.advance(0.1)
        test.interrupt()
        test.send(LLMTextFrame("a"))
        test.send(LLMTextFrame("b"))
        await test.expect(LLMTextFrame, text="a")
        await test.expect(LLMTextFrame, text="b")
        test.session.end()
        await test.session.finished()
        assert texts(test) == ["a", "b"]


async def test_parallel_branches_may_be_stock() -> None:
    branches = Parallel([StockPassing(0.1)], [StockPassing(0.2)], [_Spawning()])
    async with PipelineTest(branches) as test:
        test.send(LLMTextFrame("old"))
        await test.advance(0.05)
        test.interrupt()
        test.send(LLMTextFrame("new"))
        await test.expect(LLMTextFrame, text="new")
        await test.expect(LLMTextFrame, text="new later")
        test.session.end()
        await test.session.finished()
        assert texts(test) == ["old", "new", "new later"]


async def test_names_are_those_of_the_stock_classes() -> None:
    async with PipelineTest(StockPassing(), StockPassing()) as test:
        names = [processor.name for processor in test.session.pipeline.processors]
        assert names == ["_Probe", "StockPassing", "StockPassing#2", "_Probe#2"]


class _BadSetup(StockPassing):
    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        await super().setup(setup)
        raise ConnectionError("no route to the provider")


async def test_a_setup_that_raises_is_named() -> None:
    with pytest.raises(StartFailed, match="_BadSetup could not start: no route to the provider"):
        async with Session(Pipeline([StockPassing(), _BadSetup()])):
            raise AssertionError("it started")


class _Failing(StockPassing):
    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMTextFrame) and frame.text == "bad":
            raise ValueError("bad text")


async def test_errors_go_upstream_with_the_name_and_it_goes_on() -> None:
    async with PipelineTest(StockPassing(), _Failing()) as test:
        test.send(LLMTextFrame("bad"))
        error = await test.expect(ErrorFrame, UPSTREAM)
        assert "bad text" in error.error
        assert error.metadata["processor"] == "_Failing"
        test.send(LLMTextFrame("good"))
        await test.expect(LLMTextFrame, text="bad")
        await test.expect(LLMTextFrame, text="good")


class _Spawning(StockPassing):
    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMTextFrame):
            self.create_task(self._later(frame.text))

    async def _later(self, text: str) -> None:
        if text == "fail":
            raise ValueError("later")
        await asyncio.sleep(1.0)
        await self.push_frame(LLMTextFrame(f"{text} later"))


async def test_an_error_in_a_task_of_its_own_goes_upstream_too() -> None:
    async with PipelineTest(_Spawning()) as test:
        test.send(LLMTextFrame("fail"))
        error = await test.expect(ErrorFrame, UPSTREAM)
        assert error.error == "_Spawning: ValueError: later"


async def test_what_a_task_pushes_for_an_interrupted_frame_is_dropped() -> None:
    async with PipelineTest(_Spawning()) as test:
        test.send(LLMTextFrame("old"))
        await test.expect(LLMTextFrame, text="old")
        test.interrupt()
        test.send(LLMTextFrame("new"))
        await test.expect(LLMTextFrame, text="new")
        await test.expect(LLMTextFrame, text="new later")
        assert "old later" not in texts(test)
        assert test.stats.stale_dropped == 1


async def test_metrics_pass() -> None:
    async with PipelineTest(StockPassing()) as test:
        test.send(MetricsFrame([TTFBMetricsData(processor="p", value=0.1)]))
        await test.expect(MetricsFrame)


async def test_observers_see_what_it_pushes() -> None:
    seen: list[tuple[str, str]] = []
    async with PipelineTest(StockPassing()) as test:
        test.session.observe(
            lambda frame, way, processor: seen.append((type(frame).__name__, processor.name))
        )
        test.send(LLMTextFrame("a"))
        await test.expect(LLMTextFrame)
    assert ("LLMTextFrame", "StockPassing") in seen


# Interruption ----------------------------------------------------------------------------------------


async def test_a_full_interruption_reaches_it_at_once() -> None:
    stock = StockPassing(1.0)
    async with PipelineTest(stock) as test:
        test.send(LLMTextFrame("old"))
        await test.advance(0.1)
        test.interrupt("clicked")
        await test.expect(SpeechInterruptedFrame, level=Level.FULL)
        await test.advance(0)
        (interruption,) = (f for f in stock.seen if isinstance(f, InterruptionFrame))
        assert interruption.reason == "clicked"
        await test.expect_none(LLMTextFrame, within=5)
        await test.expect_none(SpeechInterruptedFrame, within=1)


async def test_what_it_pushes_before_it_passes_the_interruption_on_is_dropped() -> None:
    async with PipelineTest(StockReceiver(delay_s=0.5, forward_s=1.0)) as test:
        test.send(LLMTextFrame("old"))
        await test.advance(0.1)
        test.interrupt()
        test.send(LLMTextFrame("new"))
        await test.expect(LLMTextFrame, text="new")
        assert texts(test) == ["new"]
        assert test.stats.stale_dropped == 1


async def test_one_that_swallows_cancellation_delays_nobody_for_long() -> None:
    async with PipelineTest(StockPassing(), StockStubborn(1.0, swallow_s=3.0), StockPassing()) as test:
        test.send(LLMTextFrame("old"))
        await test.advance(0.1)
        test.interrupt()
        test.send(LLMTextFrame("new"))
        await test.expect(LLMTextFrame, text="new", within=1.6)
        await test.advance(5)
        assert texts(test) == ["new"]
        assert test.stats.stale_dropped == 1
        assert test.stats.undead == 1


async def test_one_that_hangs_for_ever_is_counted_and_left_behind() -> None:
    test = PipelineTest(StockStubborn(1.0, swallow_s=10**9))
    async with test:
        test.send(LLMTextFrame("old"))
        await test.advance(0.1)
        test.interrupt()
        test.send(LLMTextFrame("new"))
        await test.expect(LLMTextFrame, text="new")
        await test.advance(2)
        assert test.stats.undead == 1


class _Interrupting(StockPassing):
    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, TranscriptionFrame):
            await FrameProcessor.process_frame(self, frame, direction)
            await self.broadcast_interruption()  # type: ignore[no-untyped-call]
            await self.push_frame(frame, direction)
            await self.push_frame(LLMTextFrame("made after it"))
        else:
            await super().process_frame(frame, direction)


async def test_one_that_interrupts_gives_one_report_and_goes_on() -> None:
    behind = StockPassing(1.0)
    interrupting = _Interrupting()
    async with PipelineTest(StockPassing(), interrupting, behind) as test:
        test.send(LLMTextFrame("old"))
        await test.advance(0.1)
        test.send(TranscriptionFrame("stop", "user", "now"))
        await test.expect(SpeechInterruptedFrame, level=Level.FULL)
        await test.expect(LLMTextFrame, text="made after it")
        await test.advance(1)
        assert len(test.received(SpeechInterruptedFrame)) == 1
        assert [f.text for f in test.received(TranscriptionFrame)] == ["stop"]
        assert sum(isinstance(f, InterruptionFrame) for f in behind.seen) == 1
        assert not any(isinstance(f, InterruptionFrame) for f in interrupting.seen)


async def test_a_worker_frame_asks_for_an_interruption() -> None:
    async with PipelineTest(StockPassing()) as test:
        test.send(InterruptionWorkerFrame(), UPSTREAM)
        await test.expect(SpeechInterruptedFrame, level=Level.FULL)


async def test_a_speech_only_interruption_leaves_it_alone_unless_it_speaks() -> None:
    stock = StockPassing(0.5)
    async with PipelineTest(stock) as test:
        test.send(LLMTextFrame("a"))
        await test.advance(0.1)
        test.interrupt_speech()
        await test.expect(LLMTextFrame, text="a")
        assert not any(isinstance(f, InterruptionFrame) for f in stock.seen)
        assert len(test.received(SpeechInterruptedFrame)) == 1


class _Keeper(StockPassing):
    """Keeps uninterruptible frames for a second."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, TTSSpeakFrame):
            await asyncio.sleep(1.0)
        await super().process_frame(frame, direction)


async def test_uninterruptible_frames_survive() -> None:
    async with PipelineTest(_Keeper()) as test:
        for text in ("a", "b"):
            frame = TTSSpeakFrame(text)
            frame.interruptible = False
            test.send(frame)
        await test.advance(0.1)
        test.interrupt()
        await test.expect(TTSSpeakFrame, text="a")
        await test.expect(TTSSpeakFrame, text="b")


# The installed Pipecat -------------------------------------------------------------------------------


# All that hosting relies on beyond what Pipecat documents, by where it is.
RELIED_ON: dict[str, tuple[Callable[[], FrameProcessor], tuple[str, ...]]] = {
    "processor": (StockPassing, (*METHODS, *ATTRIBUTES, "_event_handlers")),
    "llm": (lambda: StockModel([]), ("service_metadata_frame", "run_function_calls")),
    "tts": (StockVoice, ("create_context_id", "_push_text_frames", "_is_streaming_tokens")),
    "nameless": (
        StockNamelessVoice,
        ("_handle_interruption", "_tts_contexts", "get_audio_contexts", "_tts_started"),
    ),
    "xai": (
        lambda: XAITTSService(api_key="k"),
        ("_handle_interruption", "_tts_contexts", "get_audio_contexts", "_connect", "_disconnect"),
    ),
    "deepgram": (lambda: DeepgramTTSService(api_key="k"), ("_websocket_connect",)),
}


@pytest.mark.parametrize(
    ("make", "name"),
    [
        pytest.param(make, name, id=f"{where}-{name}")
        for where, (make, names) in RELIED_ON.items()
        for name in names
    ],
)
async def test_a_pipecat_without_what_hosting_needs_is_told(
    make: Callable[[], FrameProcessor], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new minor that has renamed it is named, with what was renamed and a version that works."""
    service = make()
    vars(service).pop(name, None)
    for kind in type(service).__mro__:
        if name in vars(kind):
            monkeypatch.delattr(kind, name)
    gone = "on_before_push_frame" if name == "_event_handlers" else name
    kind_name = type(service).__name__
    told = rf"pipecat-ai {version('pipecat-ai')} has no {gone} in {kind_name}.*pip install pipecat-ai==1\."
    with pytest.raises(StartFailed, match=told) as failed:
        async with Session(Pipeline([service])):
            raise AssertionError("it started")
    assert isinstance(failed.value.__cause__, PipecatUnsupported)


async def test_a_pipecat_that_wants_another_task_manager_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SessionTasks, "__abstractmethods__", frozenset({"run_in_thread"}))
    with pytest.raises(StartFailed, match=r"wants another setup of StockPassing: .*run_in_thread"):
        async with Session(Pipeline([StockPassing()])):
            raise AssertionError("it started")


async def test_a_pipecat_that_makes_a_queue_wait_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(*arguments: Any) -> None:
        await asyncio.sleep(0)

    stock = StockPassing()
    monkeypatch.setattr(stock, "queue_frame", slow)
    async with PipelineTest(stock) as test:
        await test.expect(ErrorFrame, UPSTREAM, where=lambda error: "made the host wait" in error.error)


@pytest.mark.parametrize("module", [*hosted_reconnect.MODULES, *hosted_deepgram.MODULES])
def test_the_services_that_need_a_cure_are_where_they_were(module: str) -> None:
    """A service is known by its module: one that has moved would go without the cure, and nothing said."""
    assert find_spec(module) is not None


async def test_one_stock_processor_serves_one_place_and_one_session() -> None:
    stock = StockPassing()
    with pytest.raises(PipelineError, match="StockPassing is in the pipeline twice"):
        Pipeline([stock, Processor(), stock])
    async with Session(Pipeline([stock])):
        with pytest.raises(StartFailed, match="already runs in another session"):
            await Session(Pipeline([stock])).__aenter__()


def test_the_installed_pipecat_has_all_that_hosting_needs() -> None:
    check_pipecat(StockPassing())


async def test_a_host_says_what_it_is() -> None:
    async with PipelineTest(StockPassing()) as test:
        assert repr(test.session.pipeline.processors[1]) == "<StockPassing idle, hosted>"
        test.send(LLMTextFrame("a"), DOWNSTREAM)
        await test.expect(LLMTextFrame)
