"""What holds for any client and any order of what it says and does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loguru import logger

from bargein.pipeline.testing import VirtualTimeLoop
from bargein.transports.websocket import JsonProtocol, PhoneProtocol, RTVIProtocol, WebSocketProtocol
from bargein.transports.websocket.connection import MAX_UNSENT
from bargein.transports.websocket.pace import LEAD_S
from bargein.transports.websocket.protocol import Audio, Data, Reply
from bargein.transports.websocket.uplink import Uplink

from .bot import RATE, WORD_S, level
from .memory import Wire, wired

ACTS = ("text", "critical", "interrupt", "speech", "voice", "stall", "nonsense", "played")
WAITS_S = (0.0, 0.001, 0.05, 0.3, 0.7, 1.5)
MAX_STALLS = 3  # so many of the longest are forgiven

plans = st.lists(
    st.tuples(st.sampled_from(ACTS), st.sampled_from([0.0, 0.001, 0.05, 0.3, 0.7, 1.5])),
    min_size=1,
    max_size=14,
)


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    logger.disable("bargein")
    yield
    logger.enable("bargein")


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        yield runner


async def play(plan: list[tuple[str, float]], lag: int | None) -> Wire:
    async with wired() as (wire, connection, _):
        wire.lag = lag
        stalls = 0
        for act, wait_s in plan:
            if act in ("text", "critical"):
                wire.say(type="text", text=act)
            elif act in ("interrupt", "speech"):
                wire.say(type="interrupt", level="speech" if act == "speech" else "full", reason=act)
            elif act == "voice":
                wire.speak(b"\x00\x40" * 3_200)
            elif act == "nonsense":
                wire.say(type="played", mark="x")
            elif act == "played" and lag is None:
                wire.say(type="played", mark=10**6)
            elif act == "stall" and stalls < MAX_STALLS:
                stalls += 1
                wire.writable.clear()
            await asyncio.sleep(wait_s)
            wire.writable.set()
            assert len(connection._unsent) <= MAX_UNSENT
        await asyncio.sleep(0.5)
        if wire.all("state"):
            await wire.until(lambda: wire.all("state")[-1][1]["state"] == "listening")
        assert not connection.closed.done()
        return wire


def check(wire: Wire) -> None:
    reports = wire.all("interruption")
    for clear, _ in wire.all("clear"):
        report_at, report = next((i, m) for i, m in reports if i > clear)
        for cut in report["cut"]:
            assert wire.samples(level(cut), clear) == 0, "audio of an interrupted answer after `clear`"
        assert not any(isinstance(m, bytes) for _, m in wire.got[clear:report_at])
    for at, report in reports:
        words = len(report["heard"].split())
        sent = sum(wire.samples(level(cut), 0, at) for cut in report["cut"])
        assert sent >= words * WORD_S * RATE, "more was heard than was sent"
    play_until = 0.0
    for came_at, told in wire.got:
        if told == {"type": "clear"}:
            play_until = came_at
        elif isinstance(told, bytes):
            play_until = max(play_until, came_at) + len(told) / 2 / RATE
            assert play_until <= came_at + LEAD_S + 0.06, "more than a few blocks ahead"


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=plans, lag=st.sampled_from([None, 0, 1, 5]))
def test_any_client(runner: asyncio.Runner, plan: list[tuple[str, float]], lag: int | None) -> None:
    check(runner.run(play(plan, lag)))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=plans, lag=st.sampled_from([0, 1, 5]))
def test_nothing_is_heard_before_it_is_acknowledged(
    runner: asyncio.Runner, plan: list[tuple[str, float]], lag: int
) -> None:
    async def watched() -> None:
        async with wired() as (wire, _, bots):
            wire.lag = 0
            wire.say(type="text", text="hello")
            await asyncio.sleep(3)  # from now on it is known that the client acknowledges
            wire.lag = lag
            for act, wait_s in plan:
                if act in ("text", "interrupt", "speech"):
                    level_ = "speech" if act == "speech" else "full"
                    wire.say(type="text", text=act) if act == "text" else wire.say(
                        type="interrupt", level=level_
                    )
                await asyncio.sleep(wait_s)
                for response in bots.sessions[0]._responses:
                    words = len(response.heard.split())
                    played = wire.samples(level(response.id), 0, wire.acknowledged)
                    assert played >= words * WORD_S * RATE

    runner.run(watched())


WORDS = (
    "start",
    "text",
    "interrupt",
    "played",
    "media",
    "mark",
    "dtmf",
    "stop",
    "MZ1",
    "AAAA",
    "1",
    "\ud800",
)
FIELDS = (
    *("type", "text", "level", "reason", "mark", "sample_rate", "agent_sample_rate", "label", "data", "id"),
    *("event", "start", "media", "payload", "track", "dtmf", "digit", "name", "encoding", "mediaFormat"),
    *("streamSid", "callSid", "stream_id", "call_control_id", "stream_sid", "call_sid", "streamId", "callId"),
)
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(WORDS)
)
fields = st.sampled_from(FIELDS) | st.text(max_size=3)
objects = st.recursive(
    leaves,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(fields, parts, max_size=5),
    max_leaves=12,
)
calls = st.builds(
    lambda event, media, more: {"event": event, "media": media, "start": media, event: more},
    st.sampled_from(["start", "media", "mark", "dtmf", "stop", "playedStream", "clear"]),
    st.dictionaries(fields, objects, max_size=5) | objects,
    objects,
)
messages = (objects | calls).map(json.dumps) | st.text(max_size=20) | st.binary(max_size=50)
TWILIO = {"event": "start", "start": {"streamSid": "MZ1", "callSid": "CA1"}}
PROTOCOLS: dict[str, tuple[Callable[[], WebSocketProtocol], list[str]]] = {
    "json": (JsonProtocol, []),
    "rtvi": (RTVIProtocol, []),
    "no call": (lambda: PhoneProtocol({}), []),
    "call": (lambda: PhoneProtocol({}), [json.dumps(TWILIO)]),
}


@pytest.mark.parametrize("name", PROTOCOLS)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(said=st.lists(messages, min_size=1, max_size=4))
def test_no_message_is_too_much_for_a_protocol(runner: asyncio.Runner, name: str, said: list[Data]) -> None:
    async def say() -> None:
        make, begin = PROTOCOLS[name]
        protocol, uplink = make(), Uplink()
        for data in [*begin, *said]:
            for event in await protocol.decode(data):
                if isinstance(event, Audio):
                    uplink.feed(event.pcm, event.sample_rate)
                elif isinstance(event, Reply) and isinstance(event.data, str):
                    event.data.encode()

    runner.run(say())
