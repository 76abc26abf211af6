"""What goes to Prometheus and to OpenTelemetry."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from bargein.pipeline.frames import SpeechHoldFrame, SpeechReleaseFrame
from bargein.pipeline.observing import Turns
from bargein.pipeline.observing.prometheus import Prometheus
from bargein.pipeline.observing.spans import Spans

from ...processors.scripted import Bot, bot


async def talk(b: Bot) -> None:
    """Three turns: one is said, one interrupted by the user, one by a client with a reason of its own."""
    b.server.script(["All", " is", " well."], [" word"] * 9, [" word"] * 9)
    await b.test.session.send_text("hi")
    for reason in ("user_speaking", "because <I> say so"):
        answered = b.test.session.send_text("go on")
        await b.heard("word")
        b.test.session.interrupt(reason, cause=asyncio.get_running_loop().time() - 0.25)
        await answered
    b.test.send(SpeechHoldFrame())
    await asyncio.sleep(0.3)
    b.test.send(SpeechReleaseFrame("noise"))
    await b.test.expect(SpeechReleaseFrame)


def samples(text: bytes) -> dict[str, float]:
    families = text_string_to_metric_families(text.decode())
    return {
        f"{s.name}{sorted(s.labels.values())}": s.value
        for family in families
        for s in family.samples
        if not s.name.endswith(("_bucket", "_created"))
    }


async def test_prometheus() -> None:
    metrics = Prometheus()
    metrics.session_began()
    assert samples(metrics.text)["bargein_sessions[]"] == 1
    async with bot() as b:
        Turns(b.test.session, metrics)
        await talk(b)
    metrics.session_ended(b.test.session)
    found = samples(metrics.text)
    assert found["bargein_sessions[]"] == 0
    assert found["bargein_turns_total['finished']"] == 1
    assert found["bargein_turns_total['interrupted']"] == 2
    assert found["bargein_stop_to_first_audio_seconds_count[]"] == 3
    assert found["bargein_latency_part_seconds_count['voice']"] == 3
    assert found["bargein_interruptions_total['full', 'user_speaking']"] == 1
    assert found["bargein_interruptions_total['full', 'other']"] == 1
    assert found["bargein_interruption_silence_seconds_count['full']"] == 2
    assert 0.5 <= found["bargein_interruption_decision_seconds_sum['full']"] < 0.6
    assert found["bargein_tokens_total[]"] >= 5
    assert found["bargein_pause_seconds_count['noise']"] == 1
    assert 0.29 < found["bargein_pause_seconds_sum['noise']"] < 0.4
    assert "say so" not in metrics.text.decode()


async def test_spans() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with bot() as b:
        spans = Spans(asyncio.get_running_loop().time(), provider.get_tracer("test"))
        with spans.session():
            Turns(b.test.session, spans)
            await talk(b)
    provider.shutdown()
    finished = exporter.get_finished_spans()
    (session,) = [s for s in finished if s.name == "bargein.session"]
    turns = [s for s in finished if s.name == "bargein.turn"]
    assert [s.attributes["bargein.turn.outcome"] for s in turns if s.attributes] == [
        "finished",
        "interrupted",
        "interrupted",
    ]
    assert all(s.parent and session.context and s.parent.span_id == session.context.span_id for s in turns)
    first = turns[0]
    assert first.context is not None
    parts = [s for s in finished if s.parent is not None and s.parent.span_id == first.context.span_id]
    assert [s.name for s in parts] == [
        f"bargein.{part}" for part in ("endpointing", "transcription", "model", "sentence", "voice", "output")
    ]
    assert parts[0].start_time == first.start_time
    assert all(before.end_time == after.start_time for before, after in pairwise(parts))
    assert (first.end_time or 0) > (parts[-1].end_time or 0)
    cut = [s for s in finished if s.name == "bargein.interruption"]
    assert [round(((s.end_time or 0) - (s.start_time or 0)) / 1e6) for s in cut] == [250, 250]
    (pause,) = (s for s in finished if s.name == "bargein.pause")
    assert dict(pause.attributes or {}) == {"bargein.reason": "noise", "bargein.resumed": False}
    assert round(((pause.end_time or 0) - (pause.start_time or 0)) / 1e6) == 300
    assert not any("word" in str(s.attributes) for s in finished)


async def test_spans_without_a_provider_cost_nothing_and_fail_nothing() -> None:
    async with bot() as b:
        spans = Spans(asyncio.get_running_loop().time())
        with spans.session():
            Turns(b.test.session, spans)
            await talk(b)
