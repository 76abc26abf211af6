"""The page for everybody: light and dark, wide and narrow, by keyboard, with any device, with any bot."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

from bargein.bots.server import About, create_app

from . import scripted_bot
from .acting_bot import acting, tide_call
from .harness import Visit, browsing, serving, visit, write_wav

LONG = " ".join(f"word{number}" for number in range(200))
PROBLEMS = (Path(__file__).parent / "accessibility.js").read_text(encoding="utf-8").rstrip().rstrip(";")

pytestmark = [pytest.mark.browser, pytest.mark.real_time]


@pytest.fixture
def silence(tmp_path: Path) -> Path:
    """A minute of silence for a microphone."""
    return write_wav(tmp_path / "silence.wav", bytes(60 * 2 * 48_000))


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


async def problems(tab: Visit) -> list[str]:
    """What is wrong with what is visible, when no colour is on its way to another one."""
    await tab.page.wait_for_function("() => document.getAnimations().length === 0")
    found: list[str] = await tab.page.evaluate(PROBLEMS)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
async def test_every_view_can_be_read_and_has_names(
    chromium: str, silence: Path, scheme: str, width: int
) -> None:
    size = {"width": width, "height": 740}
    async with (
        acting() as bot,
        serving(bot.app) as url,
        browsing(chromium, silence, color_scheme=scheme, viewport=size, reduced_motion="reduce") as browser,
    ):
        tab = await visit(browser, url)
        assert await problems(tab) == []
        await tab.connect()
        bot.answers(LONG, tide_call("Dover"), "At four.", LONG)
        await bot.say("Count, please, " * 10, 1.2)
        await expect(tab.page.locator("li.bot .heard")).to_contain_text("word2")
        await bot.say("Now tell me when the tide is high at Dover.", 1.6)
        await expect(tab.page.locator("li.bot .heard").last).to_have_text("At four.")
        await tab.wait_for_state("listening")
        await tab.type("hello")
        await tab.wait_for_state("speaking")
        await expect(tab.page.locator("#turns ol > li")).to_have_count(2)
        views = ["Turns", "Interruptions", "Settings"] if width > 900 else ["Talk", "Turns", "Interruptions"]
        for view in [*views, "Settings"]:
            await tab.page.get_by_role("tab", name=view).click()
            assert await problems(tab) == [], view
            panels = tab.page.get_by_role("tabpanel")
            await expect(panels).to_have_count(1 if width < 900 else 2)
        settings = tab.page.get_by_role("group", name="While the bot speaks")
        await settings.get_by_label("Grace", exact=True).check()
        await settings.get_by_label("Grace time ms").fill("-1")
        await tab.page.keyboard.press("Enter")
        await expect(settings.get_by_label("Grace time ms")).to_have_attribute("aria-invalid", "true")
        assert await problems(tab) == []
        await tab.page.get_by_role("listbox").focus()
        await tab.page.keyboard.press("Home")
        assert await problems(tab) == []
        await button(tab.page, "Disconnect").click()
        assert await problems(tab) == []
        assert tab.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_notice_can_be_read(chromium: str, scheme: str) -> None:
    size = {"width": 360, "height": 740}
    async with (
        serving(create_app(scripted_bot.run)) as url,
        browsing(chromium, grant=False, color_scheme=scheme, viewport=size) as browser,
    ):
        tab = await visit(browser, url)
        await button(tab.page, "Connect").click()
        await expect(button(tab.page, "Go on without")).to_be_visible()
        assert await problems(tab) == []


async def test_the_theme_is_chosen_and_remembered(chromium: str, silence: Path) -> None:
    async with (
        serving(create_app(scripted_bot.run)) as url,
        browsing(chromium, silence, color_scheme="light") as browser,
    ):
        tab = await visit(browser, url)

        async def dark() -> bool:
            colour = await tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
            return sum(map(int, colour.strip("rgb()").split(","))) < 200

        assert not await dark()
        await button(tab.page, "Theme: as the system").click()
        await button(tab.page, "Theme: light").click()
        await expect(button(tab.page, "Theme: dark")).to_be_visible()
        assert await dark()
        await tab.page.reload()
        await expect(button(tab.page, "Theme: dark")).to_be_visible()
        assert await dark()
        await button(tab.page, "Theme: dark").click()
        assert not await dark()
        await tab.page.emulate_media(color_scheme="dark")
        assert await dark()
        assert tab.problems == []


async def test_keys_interrupt_but_not_while_typing(chromium: str, silence: Path) -> None:
    async with (
        serving(create_app(partial(scripted_bot.run, text=LONG))) as url,
        browsing(chromium, silence) as browser,
    ):
        tab = await visit(browser, url)
        await tab.connect()
        keys, cut = tab.page.keyboard, tab.page.locator("li.bot .note:not(:empty)")
        key = tab.page.locator("#stop-speaking kbd")
        before = "key => getComputedStyle(key, '::before').content"
        await expect(key).to_have_text("S")
        assert await key.evaluate(before) == '"Alt "'  # the focus is where messages are typed
        await expect(button(tab.page, "Stop")).to_contain_text("Esc")
        await tab.type("hello")
        await tab.wait_for_state("speaking")
        await keys.type("so sorry")
        await expect(tab.page.get_by_role("textbox", name="Message")).to_have_value("so sorry")
        await expect(tab.page.locator("li.bot .heard")).to_contain_text("word2")
        await expect(cut).to_have_count(0)
        await button(tab.page, "Disconnect").focus()
        assert await key.evaluate(before) == "none"
        await keys.press("Control+s")
        await keys.press("s")
        await expect(cut).to_have_text("not spoken from here on")
        await tab.wait_for_state("listening")
        await tab.type("again")
        await tab.wait_for_state("speaking")
        await button(tab.page, "Disconnect").focus()
        await keys.press("Escape")
        await expect(cut.last).to_have_text("interrupted: you pressed Stop")
        assert tab.problems == []


async def test_a_phones_keyboard_stays_away_until_one_types(chromium: str, silence: Path) -> None:
    size = {"width": 360, "height": 740}
    async with (
        serving(create_app(scripted_bot.run)) as url,
        browsing(chromium, silence, viewport=size, has_touch=True, is_mobile=True) as browser,
    ):
        tab = await visit(browser, url)
        await tab.connect()
        message = tab.page.get_by_role("textbox", name="Message")
        await expect(message).to_be_enabled()
        await expect(message).not_to_be_focused()
        await message.tap()
        await expect(message).to_be_focused()
        assert tab.problems == []


@pytest.mark.parametrize("width", [360, 1280])
async def test_everything_can_be_reached_by_tab_and_the_focus_is_seen(
    chromium: str, silence: Path, width: int
) -> None:
    async with (
        acting() as bot,
        serving(bot.app) as url,
        browsing(chromium, silence, viewport={"width": width, "height": 740}) as browser,
    ):
        tab = await visit(browser, url)
        await tab.connect()
        bot.answers(LONG)
        await tab.type("hello")
        await tab.wait_for_state("speaking")
        await tab.page.get_by_role("tab", name="Turns").click()
        for _ in range(2):
            await tab.page.keyboard.press("ArrowRight")
        await expect(tab.page.get_by_role("tab", name="Settings")).to_be_focused()
        await expect(tab.page.get_by_role("tab", name="Settings")).to_have_attribute("aria-selected", "true")
        seen: list[str] = []
        while len(seen) < 200:
            await tab.page.keyboard.press("Tab")
            at, outline = await tab.page.evaluate(
                """() => {
                    const at = document.activeElement;
                    const { outlineStyle: style, outlineWidth: width } = getComputedStyle(at);
                    return [at.id || at.className || at.dataset.path || at.tagName, `${style} ${width}`];
                }"""
            )
            if at in seen:
                break
            if at != "BODY":  # between the last and the first
                assert outline == "solid 2px", at
                seen.append(at)
        page = {"connect", "theme", "track", "tab-settings", "microphone", "stop-speaking", "stop", "text"}
        assert page <= set(seen)
        assert any("MinimumWords" in name for name in seen)
        assert tab.problems == []


async def test_another_microphone_and_loudspeaker(chromium: str) -> None:
    async with serving(create_app(scripted_bot.run)) as url, browsing(chromium) as browser:
        tab = await visit(browser, url)
        await tab.connect()
        await tab.page.get_by_role("tab", name="Settings").click()
        for name in ("Microphone", "Speaker"):
            select = tab.page.get_by_label(name, exact=True)
            await expect(select).to_be_enabled()
            options = await select.locator("option").all_inner_texts()
            assert options[0] == "As the system"
            assert len(options) > 1
            await select.select_option(index=len(options) - 1)
        microphone = await tab.page.get_by_label("Microphone", exact=True).input_value()
        speaker = await tab.page.get_by_label("Speaker", exact=True).input_value()
        await expect(tab.page.locator("#voice")).to_have_js_property("sinkId", speaker)
        await expect(tab.page.locator("li.user .final")).to_have_text("A loud sound.")
        await tab.type("hello")
        await expect(tab.page.locator("li.bot .heard")).to_contain_text("Sentence number 1.")
        await tab.page.reload()
        await tab.connect()
        await tab.page.get_by_role("tab", name="Settings").click()
        await expect(tab.page.get_by_label("Microphone", exact=True)).to_have_value(microphone)
        await expect(tab.page.get_by_label("Speaker", exact=True)).to_have_value(speaker)
        await expect(tab.page.locator("#voice")).to_have_js_property("sinkId", speaker)
        assert tab.problems == []


async def test_a_microphone_that_cannot_be_opened_leaves_the_conversation_as_it_is(chromium: str) -> None:
    app = create_app(scripted_bot.run)
    breakable = """
        const getUserMedia = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = (asked) =>
            window.broken ? Promise.reject(new DOMException("", "NotReadableError")) : getUserMedia(asked);"""
    async with serving(app) as url, browsing(chromium) as browser:
        await browser.add_init_script(breakable)
        tab = await visit(browser, url)
        await tab.connect()
        await tab.page.get_by_role("tab", name="Settings").click()
        select = tab.page.get_by_label("Microphone", exact=True)
        await tab.page.evaluate("window.broken = true")
        await select.select_option(index=1)
        await expect(tab.page.locator("#notice")).to_contain_text("This device cannot be used")
        await expect(button(tab.page, "Go on without")).to_be_hidden()
        await tab.type("hello")
        await expect(tab.page.locator("li.bot .heard")).to_contain_text("Sentence number 1.")
        await tab.page.evaluate("window.broken = false")
        await select.select_option(index=2)
        await expect(tab.page.locator("#notice")).to_be_hidden()
        assert len(app.state.sessions.connections) == 1
        assert tab.problems == []


async def test_a_bot_that_was_changed_is_met_anew(chromium: str) -> None:
    async with (
        serving(create_app(scripted_bot.run, about=About("first"))) as url,
        browsing(chromium, grant=False) as browser,
    ):
        tab = await visit(browser, url)
        await expect(tab.page.get_by_role("heading", name="first")).to_be_visible()
        second = {"name": "second", "hears": False}
        await tab.page.route("**/api/bot", lambda route: route.fulfill(json=second))
        await tab.connect()
        await expect(tab.page.get_by_role("heading", name="second")).to_be_visible()
        await expect(tab.page.locator("#status-text")).to_have_text("Waiting for your message")
        assert tab.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_bot_that_takes_no_page_says_so(chromium: str, scheme: str) -> None:
    async with (
        serving(create_app(scripted_bot.run, about=About("phone", page=False))) as url,
        browsing(chromium, color_scheme=scheme, viewport={"width": 360, "height": 740}) as browser,
    ):
        tab = await visit(browser, url)
        await expect(tab.page.get_by_text("This bot cannot be talked to from a page.")).to_be_visible()
        for hidden in ("#connect", "footer", "#welcome h2"):
            await expect(tab.page.locator(hidden)).to_be_hidden()
        assert await problems(tab) == []
        assert tab.problems == []


async def test_a_bot_for_typing_asks_for_no_microphone(chromium: str) -> None:
    app = create_app(scripted_bot.run, about=About("typist", hears=False, speaks=False))
    async with serving(app) as url, browsing(chromium, grant=False) as browser:
        tab = await visit(browser, url)
        await expect(tab.page.get_by_role("heading", name="typist")).to_be_visible()
        await expect(tab.page.get_by_text("This bot does not listen.")).to_be_visible()
        await tab.connect()
        await expect(tab.page.locator("#notice")).to_be_hidden()
        await expect(tab.page.locator("#status-text")).to_have_text("Waiting for your message")
        for hidden in ("#meter", "#stop-speaking", "#timeline .names .bot"):
            await expect(tab.page.locator(hidden)).to_be_hidden()
        await tab.page.get_by_role("tab", name="Settings").click()
        for name in ("Microphone", "Speaker"):
            await expect(tab.page.get_by_label(name, exact=True)).to_be_hidden()
        await tab.type("hello")
        await expect(tab.page.locator("li.bot")).to_contain_text("Sentence number 8.")
        assert await problems(tab) == []
        assert tab.problems == []


async def test_a_bot_that_only_writes_down_takes_no_messages(chromium: str) -> None:
    app = create_app(scripted_bot.run, about=About("transcriber", answers=False, speaks=False))
    async with serving(app) as url, browsing(chromium) as browser:
        tab = await visit(browser, url)
        await expect(tab.page.locator("#welcome")).to_have_text(
            re.compile(r"^\s*Talk\.\s*Connect and speak\. What you say is written down here\.\s*$"),
            use_inner_text=True,
        )
        await tab.connect()
        await expect(tab.page.locator("li.user .final")).to_have_text("A loud sound.")
        for hidden in ("#typed", "#stop", "#stop-speaking", "#timeline .names .model"):
            await expect(tab.page.locator(hidden)).to_be_hidden()
        await expect(tab.page.locator("#meter")).to_be_visible()
        assert await problems(tab) == []
        assert tab.problems == []
