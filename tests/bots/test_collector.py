"""A conversation as OpenTelemetry spans at a collector, set up as the documentation says, and as metrics."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.request import urlopen

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect

from bargein.transports.file import load_recording

from ..servers.openai_server import OpenAIServer, refuse
from ..servers.otlp_collector import Collector, plain
from ..transports.websocket.served import Client
from .command import free_port, started
from .test_websocket_conversation import Microphone

pytestmark = pytest.mark.real_time

ROOT = Path(__file__).parent.parent.parent
QUESTION = load_recording(ROOT / "tests/data/sense_and_sensibility_01_austen_64kb-0880.wav")
KEY = "sk-this-is-no-key-0123456789"
LONG_ANSWER = re.findall(
    r"\s*\S+", "Every morning the old sailor walked down to the harbor and looked around. " * 20
)
PARTS = ("endpointing", "transcription", "model", "sentence", "voice", "output")


def documented() -> str:
    """The commands of docs/observability.md that send spans, without those that install."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/observability.md").read_text(), re.DOTALL | re.M)
    (block,) = (block for block in blocks if "opentelemetry-instrument" in block)
    return "\n".join(line for line in block.splitlines() if not line.startswith("pip install"))


@dataclass
class Talk:
    """The ids of the answers to a question that was spoken and to three that were written.

    Attributes:
        cut: Interrupted by a click.
        said: To its end.
        silenced: Its voice alone was stopped.
        failed: The key was rejected.
    """

    cut: str
    said: str
    silenced: str
    failed: str


async def converse(port: int) -> Talk:
    async with connect(f"ws://127.0.0.1:{port}/ws", compression=None) as connection:
        client = Client(connection)

        async def reaches(state: str, *known: str) -> str:
            """Wait until an answer that is not known does; returns its id."""

            def find() -> str | None:
                ids = (m["response_id"] for m in client.all("state") if m["state"] == state)
                return next((i for i in ids if i is not None and i not in known), None)

            return str(await client.until(find))

        await client.say({"type": "start"})
        microphone = Microphone(client)
        microphone.say(QUESTION)
        listening = asyncio.create_task(microphone.run())
        cut = await reaches("speaking")
        listening.cancel()
        await asyncio.wait([listening])
        await client.say({"type": "interrupt", "reason": "user_clicked_stop"})
        await client.expect("interruption", response_id=cut)
        await client.say({"type": "text", "text": "And how is the cat?"})
        said = await reaches("speaking", cut)
        await client.expect("state", state="listening", response_id=said)
        await client.say({"type": "text", "text": "Go on about the sailor."})
        silenced = await reaches("speaking", cut, said)
        await client.say({"type": "interrupt", "level": "speech", "reason": "a reason of mine"})
        await client.expect("interruption", level="speech", response_id=silenced)
        await client.say({"type": "text", "text": "Is anybody there?"})
        await client.expect("error")
        failed = await reaches("listening", cut, said, silenced)
        await client.leave()
        return Talk(cut, said, silenced, failed)


def ms(span: Span) -> float:
    return (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6


def check_spans(collector: Collector, talk: Talk) -> None:
    (session,) = collector.named("bargein.session")
    below = collector.below(session)
    assert {span.name for span in below} <= {"bargein.turn", "bargein.interruption", "bargein.pause"}
    assert {span.trace_id for span in collector.spans if span.name.startswith("bargein.")} == {
        session.trace_id
    }
    assert len({span.span_id for span in collector.spans}) == len(collector.spans)
    assert all(plain(resource.attributes)["service.name"] == "librarian" for resource in collector.resources)

    turns = {plain(turn.attributes)["bargein.response.id"]: turn for turn in collector.named("bargein.turn")}
    assert [plain(turns[i].attributes)["bargein.turn.outcome"] for i in (talk.cut, talk.said)] == [
        "interrupted",
        "finished",
    ]
    assert plain(turns[talk.silenced].attributes)["bargein.turn.outcome"] == "voice interrupted"
    assert plain(turns[talk.failed].attributes)["bargein.turn.outcome"] == "failed"
    assert turns[talk.failed].status == Status(code=Status.STATUS_CODE_ERROR)
    assert turns[talk.said].status == Status()
    assert plain(turns[talk.said].attributes)["bargein.tokens"] == 2
    numbers = [plain(turn.attributes)["bargein.turn.number"] for turn in collector.named("bargein.turn")]
    assert numbers == [*range(1, len(numbers) + 1)]
    for response in (talk.cut, talk.said, talk.silenced):
        check_parts(collector, turns[response])
    first, *_ = collector.below(turns[talk.cut])
    assert ms(first) > 0, "the end of what was spoken had to be waited for"

    cuts = [plain(span.attributes) for span in collector.named("bargein.interruption")]
    asked = [cut for cut in cuts if cut["bargein.reason"] in ("user_clicked_stop", "a reason of mine")]
    assert [(cut["bargein.level"], cut["bargein.response.id"]) for cut in asked] == [
        ("full", talk.cut),
        ("speech", talk.silenced),
    ]
    for span, cut in zip(collector.named("bargein.interruption"), cuts, strict=True):
        assert session.start_time_unix_nano <= span.start_time_unix_nano
        assert ms(span) == pytest.approx(cut["bargein.decision_ms"], abs=0.001)


def check_parts(collector: Collector, turn: Span) -> None:
    """A turn's parts follow each other from its beginning to the first sound."""
    parts = {span.name.removeprefix("bargein."): span for span in collector.below(turn)}
    ordered = [parts.pop(name) for name in PARTS]
    assert not parts
    assert ordered[0].start_time_unix_nano == turn.start_time_unix_nano
    assert all(abs(a.end_time_unix_nano - b.start_time_unix_nano) < 1_000 for a, b in pairwise(ordered))
    total = plain(turn.attributes)["bargein.stop_to_first_audio_ms"]
    assert sum(map(ms, ordered)) == pytest.approx(total, abs=0.01)
    assert ordered[-1].end_time_unix_nano <= turn.end_time_unix_nano


def check_privacy(sent: list[bytes]) -> None:
    """Nothing that anybody said, and no key."""
    for words in (KEY, KEY[-8:], "sailor", "harbor", "cat", "anybody", "young man", "Authorization"):
        assert not any(words.encode() in body for body in sent), words


def check_metrics(text: str) -> None:
    families = [*text_string_to_metric_families(text)]
    counted = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }
    assert counted["bargein_turns_total", "finished"] == 1
    assert counted["bargein_turns_total", "failed"] == 1
    assert counted["bargein_turns_total", "voice interrupted"] == 1
    assert counted["bargein_turns_total", "interrupted"] >= 1
    assert counted["bargein_interruptions_total", "full", "user_clicked_stop"] == 1
    assert counted["bargein_interruptions_total", "other", "speech"] == 1, "a client's words are no label"
    assert counted["bargein_interruption_silence_seconds_count", "speech"] == 1
    assert counted["bargein_stop_to_first_audio_seconds_count",] >= 3
    assert counted["bargein_sessions",] == 0
    for family in families:
        if not family.name.endswith("_created"):
            check_name(family)
        if family.type == "histogram":
            check_buckets(family)


def check_name(family: Metric) -> None:
    """What promtool asks of names, units and help; and it is in the documentation's table."""
    assert re.fullmatch("bargein_[a-z]+(_[a-z]+)*", family.name)
    assert family.documentation
    assert not re.search("_(ms|milliseconds|s|count|sum|bucket|info|gauge|histogram|counter)$", family.name)
    assert family.type in ("counter", "gauge", "histogram")
    assert family.name.endswith("_seconds") == (family.type == "histogram"), "all histograms are of times"
    name = f"{family.name}_total" if family.type == "counter" else family.name
    assert f"`{name}`" in (ROOT / "docs/observability.md").read_text()


def check_buckets(family: Metric) -> None:
    """Each bound counts what the ones before it do, and the last counts all."""
    series: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    counts: dict[tuple[str, ...], float] = {}
    for sample in family.samples:
        labels = tuple(value for name, value in sorted(sample.labels.items()) if name != "le")
        if sample.name.endswith("_bucket"):
            series.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_count"):
            counts[labels] = sample.value
    assert series.keys() == counts.keys()
    for labels, buckets in series.items():
        assert buckets == sorted(buckets)
        assert [count for _, count in buckets] == sorted(count for _, count in buckets)
        assert buckets[-1] == (float("inf"), counts[labels])


def scrape(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        return str(response.read().decode())


async def scraped(port: int, until: str) -> str:
    """The metrics, once this is in them."""
    while until not in (text := await asyncio.to_thread(scrape, port)):
        pass
    return text


@pytest.mark.local_models
async def test_a_conversation_at_a_collector_and_in_metrics(tmp_path: Path) -> None:
    async with OpenAIServer().serving() as llm, Collector().serving() as collector:
        llm.script(LONG_ANSWER, ["The cat", " is well."], LONG_ANSWER)
        llm.plan(None, None, None, refuse(401, "invalid_api_key"))
        model = json.dumps({"service": "openai", "model": "scripted", "base_url": llm.base_url})
        (tmp_path / "librarian.yaml").write_text(f"name: librarian\nstt: local\nllm: {model}\ntts: local\n")
        port = free_port()
        *setting, command = documented().replace("http://127.0.0.1:4318", collector.url).splitlines()
        async with started(
            cwd=tmp_path,
            command=("bash", "-c", "\n".join([*setting, f"exec {command} --port {port}"])),
            PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin",
            OPENAI_API_KEY=KEY,
        ) as running:
            await running.until(f"Talk to librarian at http://127.0.0.1:{port}")
            talk = await converse(port)
            metrics = await scraped(port, "bargein_sessions 0.0")
            assert await running.stop(signal.SIGINT) == 130  # what was not sent yet is sent now
    check_spans(collector, talk)
    check_privacy([*collector.bodies, metrics.encode()])
    check_metrics(metrics)
