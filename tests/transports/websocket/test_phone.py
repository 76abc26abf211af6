"""Calls of each company through Pipecat's serializers, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from websockets.asyncio.client import connect

from bargein import SpeechInterruptedFrame
from bargein.transports.websocket.phone_calls import twilio_signature

from .bot import BEEP_BLOCKS, WORD_S, WORDS, level
from .phones import COMPANIES, RATE, calling
from .served import WAIT_S, Served, served

pytestmark = pytest.mark.real_time

BEEP = np.full(RATE // 50 * 2 * BEEP_BLOCKS, 8_000, np.int16)
ALL = len(WORDS) * WORD_S * RATE

each = pytest.mark.parametrize("name", list(COMPANIES))


def watch(server: Served) -> list[SpeechInterruptedFrame]:
    """The reports of the first session from now on."""
    reports: list[SpeechInterruptedFrame] = []

    def note(frame: object, *_: object) -> None:
        if isinstance(frame, SpeechInterruptedFrame) and frame.response_id and frame not in reports:
            reports.append(frame)

    server.bots.sessions[0].observe(note)
    return reports


@each
async def test_a_call(name: str) -> None:
    async with served() as server, calling(server, name) as caller:
        caller.say(BEEP)
        await caller.until(lambda: caller.loud(level("r1")) >= 0.98 * ALL)
        assert set(caller.chunks) == {3_200 if name == "exotel" else 160}
        await caller.send(caller.company.media("") | {"event": "dtmf", "dtmf": {"digit": "7"}})
        await caller.send(caller.company.stop)
        await server.empty()
        assert [key.button.value for key in server.bots.ears[0].keys] == ["7"]  # type: ignore[attr-defined]


@each
async def test_the_caller_talks_over_the_bot(name: str) -> None:
    async with served() as server, calling(server, name) as caller:
        caller.say(BEEP)
        await caller.until(lambda: caller.loud(level("r1")) > WORD_S * RATE)
        (reports, cleared) = watch(server), len(caller.cleared)
        caller.say(BEEP)
        await caller.until(lambda: caller.loud(level("r2")) > WORD_S * RATE)
        assert len(caller.cleared) > cleared
        assert caller.loud(level("r1")) == 0
        assert 0 < (np.abs(caller.cleared[cleared].astype(int) - level("r1")) < 50).sum() < ALL
        assert [report.reason for report in reports] == ["user_speaking"]


@each
async def test_speech_only_clears_too(name: str) -> None:
    async with served() as server, calling(server, name) as caller:
        caller.say(BEEP)
        await caller.until(lambda: caller.loud(level("r1")) > WORD_S * RATE)
        cleared = len(caller.cleared)
        server.bots.sessions[0].interrupt_speech("user_clicked_stop")
        await caller.until(lambda: len(caller.cleared) > cleared)
        caller.say(BEEP)
        await caller.until(lambda: caller.loud(level("r2")) > WORD_S * RATE)
        assert caller.loud(level("r1")) == 0


@each
async def test_marks_say_what_was_heard(name: str) -> None:
    async with served() as server, calling(server, name) as caller:
        caller.silent_after = round(0.6 / caller.company.mark_s)  # within the third word
        caller.say(BEEP)
        await caller.until(lambda: caller.loud(level("r1")) > 3.5 * WORD_S * RATE)
        reports = watch(server)
        server.bots.sessions[0].interrupt("user_clicked_stop")
        assert [report.heard for report in reports] == ["One two"]
        # The marks that come back for what was dropped do not count as played.
        caller.say(BEEP)
        await caller.until(lambda: caller.loud(level("r2")) > 1.5 * WORD_S * RATE)
        server.bots.sessions[0].interrupt("user_clicked_stop")
        assert reports[-1].heard == ""


@pytest.mark.parametrize(
    ("start", "says"),
    [
        ({}, "none of"),
        ([], "none of"),
        ({"streamSid": "MZ1", "callSid": "../../Accounts"}, "ids"),
        ({"streamSid": "MZ1", "callSid": 5}, "ids"),
        ({"streamSid": "MZ1", "callSid": "CA1", "mediaFormat": {"encoding": "opus"}}, "audio/x-mulaw"),
        ({"streamId": "MZ1", "callId": "CA1", "mediaFormat": {"encoding": "audio/x-l16"}}, "audio/x-mulaw"),
        ({"stream_sid": "S1", "call_sid": "C1", "media_format": {"sample_rate": "44100"}}, "8000"),
    ],
)
async def test_calls_that_cannot_be_taken(start: Any, says: str) -> None:
    async with served() as server, connect(server.url + "/ws/phone") as connection:
        await connection.send("garbage")
        await connection.send(b"\xff\x00")
        await connection.send(json.dumps({"event": "media"}))
        await connection.send(json.dumps({"event": "start", "start": start}))
        async with asyncio.timeout(WAIT_S):
            await connection.wait_closed()
        assert connection.close_code == 1008
        assert says in (connection.close_reason or "")
        assert not server.bots.sessions
        await server.empty()


@each
async def test_garbage_in_a_call_changes_nothing(name: str) -> None:
    async with served() as server, calling(server, name) as caller:
        for garbage in (
            *("{", "[]", "5", "[" * 10_000, '{"event": {}}', '{"event": "media", "media": 5}'),
            *(
                '{"event": "mark", "mark": 5}',
                '{"event": "mark", "mark": {"name": "x"}}',
                '{"event": "dtmf"}',
            ),
        ):
            await caller.connection.send(garbage)
        await caller.send(caller.company.media("not base64!"))
        await caller.send({"event": "media", "media": {"track": "outbound", "payload": "gICAgA=="}})
        caller.say(BEEP)
        await caller.until(lambda: caller.loud(level("r1")) > WORD_S * RATE)


def signed(server: Served, token: str) -> dict[str, str]:
    """As Twilio signs a call."""
    return {"X-Twilio-Signature": twilio_signature(token, f"{server.url}/ws/phone", {})}


@pytest.mark.filterwarnings(
    "ignore:.*deprecated and will be removed:DeprecationWarning"
)  # Pipecat's serializer
async def test_the_bot_hangs_up_with_credentials_and_without_them_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, str, dict[str, Any]]] = []

    async def hang_up(request: web.Request) -> web.Response:
        asked.append((request.path, request.headers["Authorization"], dict(await request.post())))
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/{path:.*}", hang_up)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setenv("TWILIO_BASE_URL", f"http://127.0.0.1:{runner.addresses[0][1]}")
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", "AC1")
    for token in ("", "secret"):
        monkeypatch.setenv("TWILIO_AUTH_TOKEN", token)
        async with served() as server, calling(server, "twilio", signed(server, token)):
            await server.bots.begun.wait()
            server.bots.sessions[0].end()
            await server.empty()
        # A caller who hangs up first needs no help.
        async with served() as server, calling(server, "twilio", signed(server, token)) as caller:
            await server.bots.begun.wait()
            await caller.send(caller.company.stop)
            await server.empty()
    await runner.cleanup()
    login = "Basic " + base64.b64encode(b"AC1:secret").decode()
    assert asked == [("/2010-04-01/Accounts/AC1/Calls/CA1.json", login, {"Status": "completed"})]
