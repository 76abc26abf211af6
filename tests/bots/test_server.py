"""The server: signalling over HTTP, sessions over real peer connections."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from bargein.bots.server import About, Sessions, create_app
from bargein.transports.webrtc import WebRTCConnection

from ..transports.webrtc.peer import WAIT_S, Peer, peer

pytestmark = pytest.mark.real_time


async def wait_for_peer(connection: WebRTCConnection) -> None:
    """A bot that does nothing until the peer is gone."""
    await asyncio.shield(connection.closed)


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the app, and the app's shutdown at the end."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        yield client


async def join(client: httpx.AsyncClient, caller: Peer, **more: object) -> str:
    """Connect a peer; returns its pc_id."""
    response = await client.post("/api/offer", json={"sdp": await caller.offer(), "type": "offer", **more})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["type"] == "answer"
    await caller.accept(answer["sdp"])
    return str(answer["pc_id"])


async def sessions_left(app: FastAPI, count: int) -> None:
    """Wait until so many sessions are left."""
    sessions: Sessions = app.state.sessions
    async with asyncio.timeout(WAIT_S):
        while len(sessions.connections) > count:
            await asyncio.wait(set(sessions._tasks), return_when=asyncio.FIRST_COMPLETED)


async def test_an_offer_to_a_bot_without_webrtc() -> None:
    app = create_app(wait_for_peer, about=About("phone", page=False))
    async with client_of(app) as client:
        response = await client.post("/api/offer", json={"sdp": "v=0", "type": "offer"})
        assert (response.status_code, response.json()["error"]) == (404, "no-webrtc")
        assert response.json()["message"] == "phone takes no WebRTC connections."


async def test_a_session_from_offer_to_goodbye() -> None:
    app = create_app(wait_for_peer)
    async with client_of(app) as client, peer() as caller:
        pc_id = await join(client, caller, request_data={"anything": 1})
        assert list(app.state.sessions.connections) == [pc_id]
        assert (await client.get("/healthz")).json() == {"status": "ok", "sessions": 1, "max_sessions": 4}
        await caller.close()
        await sessions_left(app, 0)


async def test_candidates_by_patch() -> None:
    async with client_of(create_app(wait_for_peer)) as client, peer() as caller:
        offer = await caller.offer()
        late = [line[2:] for line in offer.splitlines() if line.startswith("a=candidate:")]
        kept = [line for line in offer.splitlines() if not line.startswith(("a=candidate:", "a=end-of"))]
        response = await client.post("/api/offer", json={"sdp": "\r\n".join([*kept, ""]), "type": "offer"})
        candidates = [{"candidate": line, "sdp_mid": "0", "sdp_mline_index": 0} for line in [*late, ""]]
        patch = {"pc_id": response.json()["pc_id"], "candidates": candidates}
        assert (await client.patch("/api/offer", json=patch)).json() == {"status": "success"}
        await caller.accept(response.json()["sdp"])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"sdp": "garbage", "type": "offer"}', "no audio"),
        (b'{"sdp": "v=0\\r\\nm=audio", "type": "offer"}', "not a usable SDP offer"),
        (b'{"sdp": "v=0", "type": "answer"}', "type"),
        (b'{"type": "offer"}', "sdp"),
        (b"no json", "JSON"),
        (b"", "body"),
        (b'{"sdp": "' + b"x" * 200_000 + b'", "type": "offer"}', "sdp"),
    ],
)
async def test_garbage_is_answered_with_400(body: bytes, says: str) -> None:
    app = create_app(wait_for_peer)
    async with client_of(app) as client:
        response = await client.post("/api/offer", content=body, headers={"content-type": "application/json"})
        assert response.status_code == 400
        assert says in response.json()["message"]
        assert not app.state.sessions.connections


async def test_a_patch_for_nobody_and_one_with_garbage() -> None:
    async with client_of(create_app(wait_for_peer)) as client, peer() as caller:
        unknown = await client.patch("/api/offer", json={"pc_id": "x", "candidates": []})
        assert (unknown.status_code, unknown.json()["error"]) == (404, "unknown-connection")
        pc_id = await join(client, caller)
        found = [{"candidate": "garbage", "sdp_mid": "0", "sdp_mline_index": 0}]
        garbage = await client.patch("/api/offer", json={"pc_id": pc_id, "candidates": found})
        assert (garbage.status_code, garbage.json()["error"]) == (400, "bad-offer")


async def test_one_session_too_many() -> None:
    app = create_app(wait_for_peer, max_sessions=1)
    async with client_of(app) as client, peer() as first, peer() as second:
        await join(client, first)
        refused = await client.post("/api/offer", json={"sdp": await second.offer(), "type": "offer"})
        assert refused.status_code == 503
        assert refused.json()["error"] == "session-limit"
        assert "1 conversation at a time" in refused.json()["message"]
        await first.close()
        await sessions_left(app, 0)
        await join(client, second)


async def test_a_session_that_fails_tells_its_peer_and_leaves_the_others_alone() -> None:
    fails = asyncio.Event()

    async def run_bot(connection: WebRTCConnection) -> None:
        if len(app.state.sessions.connections) > 1:
            await fails.wait()
            raise RuntimeError("out of order")
        await wait_for_peer(connection)

    app = create_app(run_bot)
    async with client_of(app) as client, peer() as well, peer() as ill:
        pc_id = await join(client, well)
        await join(client, ill)
        fails.set()
        error = await ill.expect("error")
        assert error["data"]["fatal"] is True
        assert "out of order" not in error["data"]["error"], "details stay in the log"
        await sessions_left(app, 1)
        app.state.sessions.connections[pc_id].send({"type": "well"})
        await well.expect("well")


async def test_negotiating_again_keeps_the_session_and_restarting_replaces_it() -> None:
    app = create_app(wait_for_peer, max_sessions=1)
    async with client_of(app) as client, peer() as caller, peer() as again:
        pc_id = await join(client, caller)
        assert await join(client, caller, pc_id=pc_id) == pc_id
        restarted = await join(client, again, pc_id=pc_id, restart_pc=True)
        assert restarted != pc_id
        await sessions_left(app, 1)
        assert list(app.state.sessions.connections) == [restarted]


async def test_shutdown_ends_all_sessions_even_a_stubborn_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bargein.bots.server.SHUTDOWN_S", 0.05)
    ended: list[str] = []

    async def run_bot(connection: WebRTCConnection) -> None:
        try:
            if len(app.state.sessions.connections) == 2:
                await asyncio.Event().wait()
            await wait_for_peer(connection)
        finally:
            ended.append(connection.id)

    app = create_app(run_bot)
    async with peer() as one, peer() as two:
        async with client_of(app) as client:
            ids = [await join(client, one), await join(client, two)]
        assert sorted(ended) == sorted(ids)
        assert not app.state.sessions.connections
        async with asyncio.timeout(WAIT_S):
            await one.channel_closed.wait()
            await two.channel_closed.wait()


async def test_the_page_and_its_headers() -> None:
    async with client_of(create_app(wait_for_peer)) as client:
        page = await client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        for name, kind in {
            "app.js": "javascript",
            "session.js": "javascript",
            "transcript.js": "javascript",
            "meter.js": "javascript",
            "cuts.js": "javascript",
            "duck.js": "javascript",
            "levels.js": "javascript",
            "style.css": "css",
            "favicon.svg": "svg",
        }.items():
            asset = await client.get(name)
            assert asset.status_code == 200
            assert kind in asset.headers["content-type"]
            addresses = re.findall(r"https?://\w[^\s\"']*", asset.text)
            assert set(addresses) <= {"http://www.w3.org/2000/svg"}, "nothing comes from other hosts"
        assert (await client.get("/../bots/server.py")).status_code == 404
        assert (await client.get("/server.py")).status_code == 404


async def test_other_origins_cannot_start_a_session() -> None:
    async with client_of(create_app(wait_for_peer)) as client:
        evil = {"origin": "https://evil.example"}
        asked = {
            **evil,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type",
        }
        preflight = await client.options("/api/offer", headers=asked)
        assert "access-control-allow-origin" not in preflight.headers
        body = b'{"sdp": "v=0", "type": "offer"}'
        for kind in ("text/plain", "application/json"):  # with the first a browser asks nobody before
            for send in (client.post, client.patch):
                refused = await send("/api/offer", content=body, headers={**evil, "content-type": kind})
                assert (refused.status_code, refused.json()["error"]) == (403, "origin-not-allowed")
                assert "access-control-allow-origin" not in refused.headers


OURS = "https://ours.example"
OFFER = {"sdp": "v=0", "type": "offer"}


@pytest.mark.parametrize(
    ("origin", "host", "welcome"),
    [
        (None, "localhost", True),
        (None, "bot.example", True),  # no browser
        ("http://localhost", "localhost", True),
        ("http://127.0.0.1:7860", "127.0.0.1:7860", True),
        ("http://[::1]:7860", "[::1]:7860", True),
        (OURS, "bot.example", True),
        ("https://evil.example", "localhost", False),
        ("null", "localhost", False),
        ("", "localhost", False),
        ("http://localhost:7861", "localhost:7860", False),  # another server on this machine
        ("http://evil.example", "evil.example", False),  # its name points here
        ("http://[", "[", False),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
async def test_only_our_own_pages_may_change_anything(
    method: str, origin: str | None, host: str, welcome: bool
) -> None:
    app = create_app(wait_for_peer, allowed_origins=[OURS])
    headers = {"host": host} | ({} if origin is None else {"origin": origin})
    async with client_of(app) as client:
        answer = await client.request(method, "/api/offer", json=OFFER, headers=headers)
        assert answer.status_code in ((400, 405) if welcome else (403,)), answer.text
        assert welcome or f"--allow-origin {origin}" in answer.json()["message"]
        assert not app.state.sessions.connections
        assert (await client.get("/healthz", headers=headers)).status_code == 200


async def test_a_page_of_an_allowed_origin_may_read_the_answers() -> None:
    async with client_of(create_app(wait_for_peer, allowed_origins=[OURS])) as client, peer() as caller:
        asked = {
            "origin": OURS,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type",
        }
        preflight = await client.options("/api/offer", headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == OURS
        offer = {"sdp": await caller.offer(), "type": "offer"}
        answer = await client.post("/api/offer", json=offer, headers={"origin": OURS})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, OURS)
        await caller.accept(answer.json()["sdp"])
        evil = await client.options("/api/offer", headers={**asked, "origin": "https://evil.example"})
        assert "access-control-allow-origin" not in evil.headers
