"""A call that only a TURN server makes possible: a real one, and a browser that may use nothing else."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import httpx
import pytest
from playwright.async_api import expect
from pydantic import SecretStr

from bargein.bots.server import create_app
from bargein.transports.webrtc.ice import IceServer

from ..servers.turn_server import SECRET, turn_server
from . import scripted_bot
from .harness import browsing, serving, visit, write_wav

pytestmark = [pytest.mark.browser, pytest.mark.real_time]

LONG = " ".join(f"word{number}" for number in range(1000))

# The page's connections may use relayed addresses alone.
ONLY_RELAYED = """
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(settings) {
    super({ ...settings, iceTransportPolicy: "relay" });
    window.peer = this;
  }
};
"""
USED = """async () => {
  const stats = await peer.getStats();
  const used = [...stats.values()].find(({ type, nominated }) => type === "candidate-pair" && nominated);
  return [stats.get(used.localCandidateId).candidateType, used.bytesReceived];
}"""


async def test_a_browser_that_cannot_reach_the_bot_talks_to_it_all_the_same(
    chromium: str, tmp_path: Path
) -> None:
    silence = write_wav(tmp_path / "silence.wav", bytes(60 * 2 * 48_000))
    with turn_server(tmp_path, shared=True) as turn:
        bot = partial(scripted_bot.run, text=LONG)
        app = create_app(bot, ice_servers=[IceServer(turn, secret=SecretStr(SECRET))])
        async with serving(app) as url, browsing(chromium, silence) as browser:
            await browser.add_init_script(ONLY_RELAYED)
            tab = await visit(browser, url)
            await tab.connect()
            await tab.type("hello")
            await expect(tab.page.locator("li.bot .heard")).to_contain_text("word2")
            kind, received = await tab.page.evaluate(USED)
            assert kind == "relay"
            assert received > 5_000  # sound
            await tab.page.get_by_role("button", name="Stop", exact=True).click()
            await expect(tab.page.locator("li.bot .note")).to_have_text("interrupted: you pressed Stop")
            assert tab.problems == []


async def test_the_page_is_told_of_servers_and_other_pages_are_not() -> None:
    server = IceServer("turn:turn.example.com", username="ada", credential=SecretStr("open-sesame"))
    async with serving(create_app(scripted_bot.run, ice_servers=[server])) as url, httpx.AsyncClient() as web:
        told = await web.post(f"{url}api/ice-servers", headers={"origin": url.rstrip("/")})
        assert told.json() == {
            "iceServers": [{"urls": "turn:turn.example.com", "username": "ada", "credential": "open-sesame"}]
        }
        refused = await web.post(f"{url}api/ice-servers", headers={"origin": "http://elsewhere.example"})
        assert refused.status_code == 403
        for path in ("api/bot", "healthz", "api/ice-servers", ""):
            assert not re.search("open-sesame|turn[.]example", (await web.get(url + path)).text)


async def test_by_default_there_are_none() -> None:
    async with serving(create_app(scripted_bot.run)) as url, httpx.AsyncClient() as web:
        assert (await web.post(f"{url}api/ice-servers")).json() == {"iceServers": []}
