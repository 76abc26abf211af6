"""The page in Chromium with a scripted bot: what the user sees and what the buttons do."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from pathlib import Path

import pytest
from fastapi import FastAPI
from playwright.async_api import Locator, Page, expect

from bargein.bots.server import create_app
from bargein.transports.webrtc import WebRTCConnection

from . import scripted_bot
from .harness import browsing, serving, visit, write_wav

LONG = " ".join(f"word{number}" for number in range(200))
# Of `LONG` so much is left to be said when a test stops it: silence sooner than that was made by the stop.
LEFT_S = 190 * scripted_bot.WORD_S

pytestmark = [pytest.mark.browser, pytest.mark.real_time]


@pytest.fixture
def silence(tmp_path: Path) -> Path:
    """A minute of silence for a microphone."""
    return write_wav(tmp_path / "silence.wav", bytes(60 * 2 * 48_000))


def bot(**options: int) -> FastAPI:
    return create_app(scripted_bot.run, **options)


async def settled(app: FastAPI, sessions: int) -> None:
    """Wait until no more than so many sessions are left."""
    async with asyncio.timeout(20):
        while len(app.state.sessions.connections) > sessions:
            await asyncio.wait(set(app.state.sessions._tasks), return_when=asyncio.FIRST_COMPLETED)


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


async def notice(page: Page, kind: str) -> str:
    """Wait for a notice of this kind and return its text."""
    await page.wait_for_selector(f"#notice[data-kind={kind}]:not([hidden])")
    return await page.inner_text("#notice")


async def test_a_conversation(chromium: str, silence: Path) -> None:
    app = bot()
    async with serving(app) as url, browsing(chromium, silence) as browser:
        tab = await visit(browser, url)
        others: list[str] = []
        tab.page.on("request", lambda request: others.append(request.url))
        await tab.connect()
        await expect(tab.page.locator("#status-text")).to_have_text("Listening")
        await expect(button(tab.page, "Stop")).to_be_disabled()
        await tab.type("hello")
        await tab.wait_for_state("speaking")
        await expect(tab.page.locator("li.user")).to_contain_text("hello")
        await expect(button(tab.page, "Stop")).to_be_enabled()
        # All of the text comes before it is heard, and then what is heard grows.
        await expect(tab.page.locator("li.bot")).to_contain_text(scripted_bot.ANSWER)
        await expect(tab.page.locator("li.bot .heard")).to_contain_text("Sentence number 1.")
        await tab.wait_for_state("listening")
        await expect(tab.page.locator("li.bot .heard")).to_have_text(scripted_bot.ANSWER)
        await expect(tab.page.locator("li.bot s")).to_have_count(0)
        await button(tab.page, "Disconnect").click()
        await expect(tab.page.locator("#status-text")).to_have_text("Not connected")
        await expect(tab.page.locator("li.bot")).to_be_visible()
        await settled(app, 0)
        assert tab.problems == []
        assert all(address.startswith(url) for address in others)


async def test_stop_ends_the_answer_and_strikes_out_what_was_not_heard(chromium: str, silence: Path) -> None:
    async with (
        serving(create_app(partial(scripted_bot.run, text=LONG))) as url,
        browsing(chromium, silence, bypass_csp=True) as browser,
    ):
        tab = await visit(browser, url, measuring=True)
        await tab.connect()
        await tab.measure()
        await tab.type("hello")
        await expect(tab.page.locator("li.bot .heard")).to_contain_text("word1")
        await expect(tab.page.locator("li.bot")).to_contain_text("word199")
        await tab.page.evaluate("__mark('stop')")
        await button(tab.page, "Stop").click()
        struck = tab.page.locator("li.bot s.unheard")
        await expect(struck).to_contain_text("word199")
        await expect(tab.page.locator("li.bot .note")).to_have_text("interrupted: you pressed Stop")
        await tab.wait_for_state("listening")
        heard = await tab.page.locator("li.bot .heard").inner_text()
        assert f"{heard} {await struck.inner_text()}".split() == LONG.split()
        await tab.wait_for_silence()
        levels = await tab.measured()
        stop = levels.at("stop")
        assert levels.last_sound(0, stop) > stop - levels.rate / 2, "the tone was to be heard before"
        assert levels.last_sound(stop) - stop < LEFT_S * levels.rate, "and is not any more"
        await tab.type("again")
        await tab.wait_for_state("speaking")
        await expect(tab.page.locator("li.bot").nth(1).locator(".heard")).to_contain_text("word0")


async def test_stop_speaking_lets_the_text_go_on(chromium: str, silence: Path) -> None:
    async with (
        serving(create_app(partial(scripted_bot.run, text=LONG))) as url,
        browsing(chromium, silence, bypass_csp=True) as browser,
    ):
        tab = await visit(browser, url, measuring=True)
        await tab.connect()
        await tab.measure()
        await tab.type("hello")
        await expect(tab.page.locator("li.bot .heard")).to_contain_text("word1")
        await tab.page.evaluate("__mark('stop')")
        await button(tab.page, "Stop speaking").click()
        await expect(tab.page.locator("li.bot .note")).to_have_text("not spoken from here on")
        await expect(tab.page.locator("li.bot .unheard.speech")).to_contain_text("word199")
        await expect(tab.page.locator("li.bot s")).to_have_count(0)
        await tab.wait_for_state("listening")
        await tab.wait_for_silence()
        levels = await tab.measured()
        assert levels.last_sound(levels.at("stop")) - levels.at("stop") < LEFT_S * levels.rate
        heard = await tab.page.locator("li.bot .heard").inner_text()
        assert "word199" not in heard


async def test_the_keyboard_is_enough(chromium: str, silence: Path) -> None:
    async with serving(bot()) as url, browsing(chromium, silence) as browser:
        tab = await visit(browser, url)
        keys = tab.page.keyboard
        await keys.press("Tab")
        await expect(button(tab.page, "Connect")).to_be_focused()
        await keys.press("Enter")
        await expect(tab.page.get_by_label("Message")).to_be_focused()
        await keys.type("hello")
        await keys.press("Enter")
        await tab.wait_for_state("speaking")
        await keys.press("Escape")
        await expect(tab.page.locator("li.bot s.unheard")).to_be_visible()
        await keys.type("again")
        await keys.press("Enter")
        await tab.wait_for_state("speaking")
        await keys.press("Alt+s")
        await expect(tab.page.locator("li.bot .unheard.speech")).to_be_visible()
        assert tab.problems == []


async def test_what_the_user_says_appears(chromium: str) -> None:
    async with serving(bot()) as url, browsing(chromium) as browser:  # without a file it hears beeps
        tab = await visit(browser, url)
        await tab.connect()
        await expect(tab.page.locator("li.user .interim")).to_have_text("a loud")
        await expect(tab.page.locator("li.user .final")).to_have_text("A loud sound.")
        await expect(tab.page.locator("li.user .interim")).to_have_text("")
        loud = re.compile("[3-9][0-9]|100")
        await expect(tab.page.locator("#meter")).to_have_attribute("aria-valuenow", loud)
        assert tab.problems == []


async def test_permission_refused_and_going_on_without(chromium: str) -> None:
    async with serving(bot()) as url, browsing(chromium, grant=False) as browser:
        tab = await visit(browser, url)
        await button(tab.page, "Connect").click()
        assert "The microphone is blocked" in await notice(tab.page, "permission")
        await expect(button(tab.page, "Connect")).to_be_enabled()
        await button(tab.page, "Go on without").click()
        await tab.page.wait_for_selector("body[data-phase=connected]")
        await tab.type("hello")
        await expect(tab.page.locator("li.bot .heard")).to_contain_text("Sentence number 1.")
        assert tab.problems == []


async def test_connecting_can_be_cancelled_at_the_permission_prompt(chromium: str) -> None:
    app = bot()
    wait = """
        const getUserMedia = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        const answered = new Promise((answer) => (window.answerPrompt = answer));
        navigator.mediaDevices.getUserMedia = (asked) =>
            (window.opened = answered.then(() => getUserMedia(asked)));"""
    async with serving(app) as url, browsing(chromium) as browser:
        await browser.add_init_script(wait)
        tab = await visit(browser, url)
        await button(tab.page, "Connect").click()
        await expect(tab.page.locator("#status-text")).to_have_text("Connecting")
        await button(tab.page, "Cancel").click()
        await expect(tab.page.locator("#status-text")).to_have_text("Not connected")
        await tab.page.evaluate("answerPrompt()")
        opened = "opened.then((stream) => new Promise((done) => requestAnimationFrame(() => done(stream))))"
        state = await tab.page.evaluate(f"{opened}.then((stream) => stream.getTracks()[0].readyState)")
        assert state == "ended", "the microphone is closed again"
        await expect(tab.page.locator("#status-text")).to_have_text("Not connected")
        assert not app.state.sessions.connections
        assert tab.problems == []


async def test_no_microphone(chromium: str) -> None:
    # A machine's own devices cannot be hidden from Chromium; this is what it says where there are none.
    no_device = "() => Promise.reject(new DOMException('Requested device not found', 'NotFoundError'))"
    async with serving(bot()) as url, browsing(chromium) as browser:
        await browser.add_init_script(f"navigator.mediaDevices.getUserMedia = {no_device}")
        tab = await visit(browser, url)
        await button(tab.page, "Connect").click()
        assert "No microphone found" in await notice(tab.page, "no-microphone")
        assert tab.problems == []


async def test_the_session_limit(chromium: str, silence: Path) -> None:
    app = bot(max_sessions=1)
    async with serving(app) as url, browsing(chromium, silence) as browser:
        first = await visit(browser, url)
        await first.connect()
        second = await visit(browser, url)
        await button(second.page, "Connect").click()
        assert "1 conversation at a time" in await notice(second.page, "busy")
        await first.page.close()  # leaves with a goodbye
        await settled(app, 0)
        await second.connect()
        await expect(second.page.locator("#notice")).to_be_hidden()


async def test_the_server_is_gone_before_and_during(chromium: str, silence: Path) -> None:
    async with browsing(chromium, silence) as browser:
        async with serving(bot()) as url:
            early, late = await visit(browser, url), await visit(browser, url)
            await early.connect()
            await early.type("hello")
            await early.wait_for_state("speaking")
        assert "The server has gone" in await notice(early.page, "gone")
        await expect(early.page.locator("li.bot")).to_be_visible()
        await expect(early.page.get_by_label("Message")).to_be_disabled()
        await button(late.page, "Connect").click()
        assert "cannot be reached" in await notice(late.page, "unreachable")


async def test_the_bot_ends_the_conversation(chromium: str, silence: Path) -> None:
    async def run(connection: WebRTCConnection) -> None:
        bot = asyncio.ensure_future(scripted_bot.run(connection))
        await connection.connected
        await asyncio.wait([bot], timeout=0.5)
        connection.lose("enough")
        await bot

    async with serving(create_app(run)) as url, browsing(chromium, silence) as browser:
        tab = await visit(browser, url)
        await tab.connect()
        assert "The conversation is over" in await notice(tab.page, "over")
        assert tab.problems == []


async def test_a_failing_bot_is_shown_and_the_session_goes_on(chromium: str, silence: Path) -> None:
    async with serving(bot()) as url, browsing(chromium, silence) as browser:
        tab = await visit(browser, url)
        await tab.connect()
        await tab.type("please fail")
        await expect(tab.page.locator("li.error")).to_contain_text("asked to fail")
        await tab.type("hello")
        await tab.wait_for_state("speaking")
        assert tab.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_it_fits(chromium: str, silence: Path, scheme: str, width: int) -> None:
    size = {"width": width, "height": 720}
    async with (
        serving(bot()) as url,
        browsing(chromium, silence, color_scheme=scheme, viewport=size) as browser,
    ):
        tab = await visit(browser, url)
        await tab.connect()
        await tab.type("hello " * 40)
        await expect(tab.page.locator("li.bot")).to_contain_text("Sentence number 8.")
        overflow = (
            "document.documentElement.scrollWidth > innerWidth || document.body.scrollHeight > innerHeight"
        )
        assert not await tab.page.evaluate(overflow)
        for name in ("Disconnect", "Stop speaking", "Stop", "Send"):
            await expect(button(tab.page, name)).to_be_in_viewport(ratio=1)
        background = await tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, background.strip("rgb()").split(","))) < 200) == (scheme == "dark")
