"""The protocol for clients without a library, over real sockets."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect

from bargein.transports.websocket import connection as connections
from bargein.transports.websocket.pace import LEAD_S
from bargein.transports.websocket.protocol import MAX_MESSAGE_BYTES

from .bot import ANSWER, BEEP_BLOCKS, WORD_S, WORDS, level
from .served import WAIT_S, Client, Message, joined, served

pytestmark = pytest.mark.real_time

BEEP = np.full(320 * 2 * BEEP_BLOCKS, 8_000, "<i2").tobytes()
SILENCE = bytes(640 * 2 * BEEP_BLOCKS)


def loud(pcm: bytes, value: int) -> int:
    """How many samples have this value."""
    return int((np.abs(np.frombuffer(pcm, "<i2").astype(int) - value) <= 20).sum())


async def test_a_conversation() -> None:
    async with served() as server, joined(server) as client:
        assert await client.expect("ready") == {
            "type": "ready",
            "sample_rate": 16_000,
            "agent_sample_rate": 16_000,
        }
        await client.say({"type": "text", "text": "hello"})
        await client.expect("state", state="speaking", response_id="r1")
        await client.until(lambda: client.all("state")[-1]["state"] == "listening")
        pieces = [m["text"] for m in client.all("transcript") if not m["final"]]
        assert tuple(pieces) == WORDS
        final = {
            "type": "transcript",
            "role": "assistant",
            "text": ANSWER,
            "final": True,
            "response_id": "r1",
        }
        assert client.all("transcript")[-1] == final
        assert loud(client.pcm(), level("r1")) == pytest.approx(len(WORDS) * WORD_S * 16_000, rel=0.01)
        assert [m["mark"] for m in client.all("mark")] == list(range(1, len(client.all("mark")) + 1))
        assert all(len(m) == 640 for m in client.got if isinstance(m, bytes))


async def test_the_first_message_need_not_be_a_start() -> None:
    async with served() as server, connect(server.url + "/ws") as websocket:
        client = Client(websocket)
        await websocket.send(BEEP)
        await websocket.send(SILENCE)
        await client.expect("transcript", final=True, role="assistant")
        await client.leave()
        await server.empty()


@pytest.mark.parametrize(("ours", "theirs"), [(8_000, 24_000), (44_100, 8_000), (48_000, 22_050)])
async def test_other_rates(ours: int, theirs: int) -> None:
    start = {"type": "start", "sample_rate": ours, "agent_sample_rate": theirs}
    async with served() as server, joined(server, start) as client:
        beep = np.full(ours // 50 * 2 * BEEP_BLOCKS, 8_000, "<i2").tobytes()
        for pcm in (beep, bytes(len(beep))):
            await client.connection.send(pcm)
        await client.expect("state", state="speaking")
        await client.until(lambda: client.all("state")[-1]["state"] == "listening")
        assert loud(client.pcm(), level("r1")) == pytest.approx(len(WORDS) * WORD_S * theirs, rel=0.02)


async def test_pcm_of_any_length() -> None:
    rng = np.random.default_rng(1)
    sent = rng.integers(-1000, 1000, 16_000, dtype=np.int16).tobytes()
    async with served() as server, joined(server) as client:
        at = 0
        while at < len(sent):
            size = int(rng.integers(0, 1_500))
            await client.connection.send(sent[at : at + size])
            at += size
        await client.connection.send(bytes(1))  # half a sample
        await client.say({"type": "text", "text": "done"})
        await client.expect("state", state="speaking")
        assert bytes(server.bots.ears[0].heard) == sent


@pytest.mark.parametrize("how", ["full", "speech"])
async def test_an_interruption(how: str) -> None:
    async with served() as server, joined(server) as client:
        await client.say({"type": "text", "text": "hello"})
        await client.until(lambda: loud(client.pcm(), level("r1")) > 1.5 * WORD_S * 16_000)
        await client.say({"type": "interrupt", "level": how, "reason": "user_clicked_stop"})
        report = await client.expect("interruption", reason="user_clicked_stop")
        assert (report["level"], report["response_id"]) == (how, "r1")
        assert report["heard"] + report["unheard"] == ANSWER
        assert report["heard"].startswith("One")
        cleared = client.cleared()
        assert cleared < client.got.index(report)
        # Nothing of it is sent after `clear`, the next answer is.
        await client.say({"type": "text", "text": "again"})
        await client.until(lambda: loud(client.pcm(), level("r2")) > WORD_S * 16_000)
        after = np.frombuffer(client.pcm(cleared), "<i2")
        assert loud(client.pcm(cleared), level("r1")) == 0
        assert after[after != 0][0] > level("r1") + 100, "not even a fade"
        assert loud(client.pcm(), level("r1")) < len(WORDS) * WORD_S * 16_000


async def test_a_beep_over_the_bot_interrupts_it() -> None:
    async with served() as server, joined(server) as client:
        await client.say({"type": "text", "text": "hello"})
        await client.until(lambda: loud(client.pcm(), level("r1")) > 0.5 * WORD_S * 16_000)
        await client.connection.send(BEEP + SILENCE)
        await client.expect("interruption", reason="user_speaking", response_id="r1")
        await client.until(lambda: loud(client.pcm(), level("r2")) > 0)
        assert loud(client.pcm(client.cleared()), level("r1")) == 0


async def test_critical_speech_is_not_cleared() -> None:
    async with served() as server, joined(server) as client:
        await client.say({"type": "text", "text": "critical"})
        await client.until(lambda: loud(client.pcm(), level("r1")) > WORD_S * 16_000)
        cleared = len(client.all("clear"))  # a typed message interrupts what there is
        await client.say({"type": "interrupt"})
        await client.until(lambda: client.all("state")[-1]["state"] == "listening")
        assert len(client.all("clear")) == cleared
        assert loud(client.pcm(), level("r1")) == pytest.approx(len(WORDS) * WORD_S * 16_000, rel=0.01)


def enough(client: Client, share: float) -> bool:
    """Whether this share of an answer has come."""
    return len(client.pcm()) >= share * len(WORDS) * WORD_S * 32_000


async def test_audio_comes_no_sooner_than_it_is_played() -> None:
    loop = asyncio.get_running_loop()
    async with served() as server, joined(server) as client:
        began = loop.time()
        await client.say({"type": "text", "text": "hello"})
        for share in range(1, 40):
            await client.until(partial(enough, client, share / 40))
            # What is late makes this smaller, so that a slow machine cannot fail it.
            assert len(client.pcm()) / 32_000 <= loop.time() - began + LEAD_S + 0.021


async def test_what_is_acknowledged_is_what_was_heard() -> None:
    async with served() as server, joined(server) as client:
        told: list[asyncio.Task[None]] = []

        def acknowledge(message: Message) -> None:
            # 0.6 s, two words and a half; then the client plays no more.
            if message["type"] == "mark" and message["mark"] <= 6:
                told.append(asyncio.create_task(client.say({"type": "played", "mark": message["mark"]})))

        client.on_message = acknowledge
        await client.say({"type": "text", "text": "hello"})
        await client.expect("mark", mark=10)
        await client.say({"type": "interrupt"})
        report = await client.expect("interruption", response_id="r1")
        assert report["heard"] == "One two"
        assert loud(client.pcm(), level("r1")) > 3.5 * WORD_S * 16_000
        await asyncio.gather(*told)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no json", "JSON"),
        ("[" * 100_000, "JSON"),
        ("[1]", "object"),
        ('"text"', "object"),
        ("{}", "type"),
        ('{"type": 5}', "type"),
        ('{"type": "interrupt", "level": "half"}', "interrupt.level"),
        ('{"type": "interrupt", "reason": 5}', "interrupt.reason"),
        ('{"type": "text"}', "text.text"),
        ('{"type": "text", "text": "  "}', "text.text"),
        (json.dumps({"type": "text", "text": "x" * 10_001}), "text.text"),
        ('{"type": "played", "mark": "1"}', "played.mark"),
        ('{"type": "played", "mark": -1}', "played.mark"),
        ('{"type": "start"}', "first message"),
        ('{"type": "start", "sample_rate": 1}', "start.sample_rate"),
    ],
)
async def test_what_makes_no_sense_is_answered_with_an_error(text: str, says: str) -> None:
    async with served() as server, joined(server) as client:
        await client.connection.send(text)
        error = await client.expect("error")
        assert says in error["error"]
        await client.say({"type": "text", "text": "still there?"})
        await client.expect("transcript", final=True)


@pytest.mark.parametrize("rate", [0, 7_999, 48_001, "16000", 16_000.5, True, None, 10**30])
@pytest.mark.parametrize("side", ["sample_rate", "agent_sample_rate"])
async def test_rates_that_cannot_be(rate: Any, side: str) -> None:
    async with served() as server, joined(server, {"type": "start", side: rate}) as client:
        assert side in (await client.expect("error"))["error"]
        assert not server.bots.sessions
        await client.say({"type": "start"})
        await client.expect("ready")


async def test_what_is_unknown_is_ignored() -> None:
    async with served() as server, joined(server, {"type": "hello", "from": "tomorrow"}) as client:
        await client.expect("ready")
        await client.say({"type": "dance"})
        await client.say({"type": "played", "mark": 10**6})
        await client.say({"type": "text", "text": "hello", "more": 1})
        await client.expect("transcript", final=True)
        assert not client.all("error")


async def test_a_message_too_large_ends_it() -> None:
    async with served() as server, joined(server) as client:
        await client.expect("ready")
        await client.connection.send(bytes(MAX_MESSAGE_BYTES + 1))
        assert (await client.closed())[0] == 1009
        await server.empty()


async def test_a_failing_model_is_told_without_its_secrets() -> None:
    async with served() as server, joined(server) as client:
        await client.say({"type": "text", "text": "fail"})
        assert (await client.expect("error"))["fatal"] is False
        await client.say({"type": "text", "text": "and now"})
        await client.expect("transcript", final=True)


async def test_the_bot_ends_it_after_its_last_word() -> None:
    async with served() as server, joined(server) as client:
        await client.say({"type": "text", "text": "hello"})
        await client.expect("transcript", final=True)
        server.bots.sessions[0].end()
        assert await client.closed() == (1000, "the bot has ended it")
        assert loud(client.pcm(), level("r1")) == pytest.approx(len(WORDS) * WORD_S * 16_000, rel=0.01)
        await server.empty()


async def test_a_client_that_vanishes_ends_its_session() -> None:
    async with served() as server, joined(server) as client:
        await client.say({"type": "text", "text": "hello"})
        await client.until(client.pcm)
        client.connection.transport.abort()
        await server.empty()


async def test_nothing_to_begin_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "START_S", 0.05)
    async with served() as server, connect(server.url + "/ws") as websocket:
        async with asyncio.timeout(WAIT_S):
            await websocket.wait_closed()
        assert websocket.close_code == 1008
        assert "nothing to begin with" in (websocket.close_reason or "")
        await server.empty()
