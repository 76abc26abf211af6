"""A connection in virtual time: its pace, and clients that are slow or in a hurry."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from bargein.pipeline.frames import SpeechHoldFrame, SpeechReleaseFrame
from bargein.transports.websocket.connection import AHEAD_S, MAX_UNSENT, SLOW_S
from bargein.transports.websocket.pace import LEAD_S, MAX_BEHIND_S

from .bot import ANSWER, RATE, WORD_S, WORDS, level
from .memory import Wire, wired

pytestmark = pytest.mark.virtual_time

ANSWER_S = len(WORDS) * WORD_S


def last(wire: Wire, kind: str) -> dict[str, object]:
    return wire.all(kind)[-1][1]


async def test_audio_leaves_a_little_before_it_is_played() -> None:
    async with wired() as (wire, _, _):
        wire.say(type="text", text="hello")
        await asyncio.sleep(ANSWER_S + 1)
        times = [at for at, m in wire.got if isinstance(m, bytes)]
        played_at = [times[0] + 0.02 * block for block in range(len(times))]
        ahead = [due - at for due, at in zip(played_at, times, strict=True)]
        assert max(ahead) <= LEAD_S - 0.02 + 1e-6
        assert min(ahead[4:]) >= LEAD_S - 0.04 - 1e-6
        assert wire.samples(level("r1")) == ANSWER_S * RATE
        assert times[-1] - times[0] < ANSWER_S + LEAD_S, "no silence is sent when all has been heard"
        assert last(wire, "state")["state"] == "listening"


async def test_a_hold_is_silence_and_loses_nothing() -> None:
    async with wired() as (wire, _, bots):
        wire.say(type="text", text="hello")
        await asyncio.sleep(0.5)
        bots.sessions[0].push(SpeechHoldFrame())
        await asyncio.sleep(1)
        held = wire.samples(level("r1"))
        bots.sessions[0].push(SpeechReleaseFrame())
        await asyncio.sleep(ANSWER_S + 1)
        assert held <= (0.5 + LEAD_S) * RATE
        fades = 2 * 0.015 * RATE
        assert ANSWER_S * RATE - fades <= wire.samples(level("r1")) <= ANSWER_S * RATE + fades
        assert last(wire, "hold") == {"type": "hold", "response_id": "r1"}
        assert last(wire, "release") == {"type": "release", "reason": "", "response_id": "r1"}
        assert len(wire.all("clear")) == 1, "the typed message's"


@pytest.mark.parametrize(("sent_more_s", "heard"), [(0.04, "One"), (LEAD_S + 0.04, "One two")])
async def test_without_acknowledgement_the_pace_says_what_was_heard(sent_more_s: float, heard: str) -> None:
    async with wired() as (wire, _, _):
        wire.say(type="text", text="hello")
        await wire.until(lambda: wire.samples(level("r1")) >= (2 * WORD_S + sent_more_s) * RATE)
        wire.say(type="interrupt")
        await asyncio.sleep(1)
        assert last(wire, "interruption")["heard"] == heard


async def test_a_client_that_stops_acknowledging_is_not_waited_for_long() -> None:
    async with wired() as (wire, _, _):
        wire.lag = 1
        wire.say(type="text", text="hello")
        await asyncio.sleep(0.5)
        wire.lag = None
        await asyncio.sleep(ANSWER_S)
        assert last(wire, "state")["state"] == "speaking"
        await asyncio.sleep(MAX_BEHIND_S)
        assert last(wire, "state")["state"] == "listening"


async def test_a_stalled_client_is_dropped() -> None:
    async with wired() as (wire, connection, bots):
        wire.say(type="text", text="hello")
        await asyncio.sleep(0.3)
        wire.writable.clear()
        await asyncio.sleep(SLOW_S - 0.5)
        assert not connection.closed.done()
        await asyncio.sleep(1)
        assert connection.closed.result() == "the client is too slow: 5 s behind"
        assert wire.code == (1008, "the client is too slow: 5 s behind")
        assert not bots.sessions[0].responding or bots.sessions[0]._over.is_set()


async def test_a_short_stall_is_forgiven() -> None:
    async with wired() as (wire, connection, _):
        wire.say(type="text", text="hello")
        await asyncio.sleep(0.3)
        wire.writable.clear()
        await asyncio.sleep(SLOW_S - 0.5)
        wire.writable.set()
        await asyncio.sleep(ANSWER_S + 1)
        assert not connection.closed.done()
        assert wire.samples(level("r1")) == ANSWER_S * RATE


async def test_a_client_that_is_a_little_too_slow_for_long_is_dropped() -> None:
    async with wired() as (wire, connection, bots):
        wire.slowness_s = 0.03
        while not connection.closed.done():
            assert len(wire.got) < 2_000
            bots.sessions[0].send_text("go on")
            await asyncio.wait([connection.closed], timeout=0.5)
        assert "too slow" in connection.closed.result()


async def test_a_long_answer_that_comes_all_at_once_is_told() -> None:
    """As from a quick model, or when one that was begun ahead of the turn is confirmed."""
    async with wired() as (wire, connection, _):
        words = [f"{number} " for number in range(3_000)]
        for word in words:
            connection.send({"label": "rtvi-ai", "type": "bot-llm-text", "data": {"text": word}})
        await asyncio.sleep(1)
        assert not connection.closed.done()
        assert [message["text"] for _, message in wire.all("transcript")] == words


async def test_half_a_character_in_an_answer_does_not_end_the_connection() -> None:
    """As from a model whose server cuts emoji in two."""
    async with wired() as (wire, connection, _):
        for text in ("\ud83d", "\ude00", "so"):
            connection.send({"label": "rtvi-ai", "type": "bot-llm-text", "data": {"text": text}})
        await asyncio.sleep(1)
        assert not connection.closed.done()
        assert [message["text"] for _, message in wire.all("transcript")] == ["\ud83d", "\ude00", "so"]


async def test_messages_do_not_pile_up() -> None:
    async with wired() as (wire, connection, _):
        wire.writable.clear()
        for _ in range(2 * MAX_UNSENT):
            wire.say(type="dance")
            connection.send({"label": "rtvi-ai", "type": "server-message", "data": {"type": "news"}})
        await asyncio.sleep(0.1)
        assert connection.closed.result() == "the client is too slow: it does not read its messages"
        assert len(connection._unsent) <= MAX_UNSENT


async def test_audio_that_comes_all_at_once_is_heard_at_the_pace_of_speech() -> None:
    async with wired() as (wire, _, bots):
        sent = np.arange(3 * 16_000, dtype="<i2").tobytes()
        for at in range(0, len(sent), 10_000):
            wire.speak(sent[at : at + 10_000])
        await asyncio.sleep(0.01)
        assert len(bots.ears[0].heard) <= (AHEAD_S + 0.04) * 32_000
        await asyncio.sleep(1)
        assert len(bots.ears[0].heard) <= (AHEAD_S + 1.04) * 32_000
        await asyncio.sleep(1.1)
        assert bytes(bots.ears[0].heard) == sent


async def test_a_speech_only_interruption_leaves_the_text() -> None:
    async with wired() as (wire, _, _):
        wire.say(type="text", text="hello")
        await wire.until(lambda: wire.all("transcript"))
        wire.say(type="interrupt", level="speech")
        await asyncio.sleep(1)
        text = last(wire, "transcript")
        assert (text["text"], text["final"]) == (ANSWER, True)


async def test_a_full_interruption_leaves_no_final_transcript() -> None:
    async with wired() as (wire, _, _):
        wire.say(type="text", text="hello")
        await wire.until(lambda: wire.all("transcript"))
        wire.say(type="interrupt")
        await asyncio.sleep(1)
        assert not any(m["final"] for _, m in wire.all("transcript"))
        assert last(wire, "interruption")["cut"] == ["r1"]
