"""STUN and TURN servers: what is made of a declaration, and what a real one gives."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from pathlib import Path

import pytest
from loguru import logger
from pydantic import SecretStr

from bargein.bots import Bot, draw_svg, draw_text, load_bot
from bargein.transports.webrtc import WebRTCConnection
from bargein.transports.webrtc.ice import IceServer, for_browser, for_server

from ...servers.turn_server import PASSWORD, SECRET, USER, turn_server
from .peer import peer

FILE = """
name: far
llm: local
transport:
  - webrtc:
      ice_servers:
        - stun:stun.example.com
        - {url: "turn:turn.example.com:3478?transport=tcp", username: ada, credential: "${TURN_PASSWORD}"}
"""


def test_a_login_that_expires() -> None:
    server = IceServer("turn:turn.example.com", secret=SecretStr("shared"), lifetime_s=600)
    before = int(time.time())
    (told,) = for_browser([server])
    assert before + 600 <= int(told["username"]) <= time.time() + 600
    mac = hmac.new(b"shared", told["username"].encode(), hashlib.sha1).digest()
    assert told == {
        "urls": "turn:turn.example.com",
        "username": told["username"],
        "credential": base64.b64encode(mac).decode(),
    }
    (ours,) = for_server([server])
    assert ours.credential != "shared"


class TestSecrets:
    """What a client must know is told to clients alone."""

    @pytest.fixture
    def bot(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bot:
        monkeypatch.setenv("TURN_PASSWORD", "open-sesame")
        path = tmp_path / "far.yaml"
        path.write_text(FILE)
        return load_bot(path)

    def test_are_what_browsers_need(self, bot: Bot) -> None:
        assert for_browser(bot.declaration.ice_servers) == [
            {"urls": "stun:stun.example.com"},
            {
                "urls": "turn:turn.example.com:3478?transport=tcp",
                "username": "ada",
                "credential": "open-sesame",
            },
        ]

    def test_are_not_drawn_or_printed(self, bot: Bot) -> None:
        shown = draw_text(bot) + draw_svg(bot) + repr(bot.declaration) + repr(bot.declaration.ice_servers)
        assert "turn.example.com" in draw_text(bot)
        assert "open-sesame" not in shown


def test_by_default_nobody_is_asked() -> None:
    assert Bot(name="x", llm="local").declaration.ice_servers == ()


@pytest.mark.real_time
@pytest.mark.parametrize(
    "login",
    [
        {"username": USER, "credential": SecretStr(PASSWORD)},
        {"secret": SecretStr(SECRET)},
    ],
)
async def test_a_turn_server_gives_a_relay(tmp_path: Path, login: dict[str, SecretStr]) -> None:
    with turn_server(tmp_path, shared="secret" in login) as url:
        async with peer() as caller:
            connection = WebRTCConnection([IceServer(url, **login)])  # type: ignore[arg-type]
            try:
                answer = await connection.answer(await caller.offer())
                assert re.search(r"a=candidate:.* typ relay", answer)
                await caller.accept(answer)
            finally:
                await connection.close()


@pytest.mark.real_time
async def test_a_turn_server_that_refuses_is_told_without_the_password(tmp_path: Path) -> None:
    told: list[str] = []
    handler = logger.add(told.append, level="DEBUG")
    try:
        with turn_server(tmp_path) as url:
            async with peer() as caller:
                server = IceServer(url, username=USER, credential=SecretStr("wrong-password"))
                connection = WebRTCConnection([server])
                try:
                    await caller.accept(await connection.answer(await caller.offer()))  # goes without
                finally:
                    await connection.close()
    finally:
        logger.remove(handler)
    assert any(f"{url} gives no relay" in line for line in told)
    assert not any("wrong-password" in line for line in told)
