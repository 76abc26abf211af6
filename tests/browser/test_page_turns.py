"""What the page shows of turn-taking: the timeline, the latencies, the interruptions, and live settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

from .acting_bot import ActingBot, acting, tide_call
from .harness import Visit, browsing, serving, visit, write_wav

pytestmark = [pytest.mark.browser, pytest.mark.real_time]

LONG = " ".join(f"word{number}" for number in range(100))


@pytest.fixture
def silence(tmp_path: Path) -> Path:
    """A minute of silence for a microphone."""
    return write_wav(tmp_path / "silence.wav", bytes(60 * 2 * 48_000))


def bars(page: Page, lane: str) -> Locator:
    return page.locator(f"#timeline [role=option].{lane}")


def heard(page: Page) -> Locator:
    return page.locator("li.bot .heard").last


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


async def show(tab: Visit, view: str) -> None:
    await tab.page.get_by_role("tab", name=view).click()


async def speak_over(bot: ActingBot, tab: Visit, text: str, seconds: float = 1.6) -> None:
    """Say something while the bot is in the middle of its answer."""
    await tab.wait_for_state("speaking")
    await expect(heard(tab.page)).to_contain_text("word2")
    await bot.say(text, seconds)


async def test_the_timeline_shows_who_spoke_when(chromium: str, silence: Path) -> None:
    async with acting() as bot, serving(bot.app) as url, browsing(chromium, silence) as browser:
        tab = await visit(browser, url)
        await expect(tab.page.locator("#timeline")).to_be_hidden()
        await tab.connect()
        bot.answers(LONG, tide_call("Dover"), "At four.")
        await bot.say("Count, please.", 1.2)
        await speak_over(bot, tab, "Mm-hmm.", 0.4)
        went_on = re.compile("^Voice held, .* the voice went on$")
        await expect(bars(tab.page, "held")).to_have_attribute("aria-label", went_on)
        await expect(bars(tab.page, "you").last).to_have_class("bar you aside")
        assert "“Mm-hmm.”" in (await bars(tab.page, "you").last.get_attribute("aria-label") or "")
        await bot.say("Now tell me of the tide.", 1.6)
        cut = bars(tab.page, "cut")
        await expect(cut).to_have_count(1)
        await expect(tab.page.locator(".label.cut")).to_have_text("full: you spoke")
        await expect(bars(tab.page, "tools")).to_have_count(1)
        await expect(heard(tab.page)).to_have_text("At four.")
        await tab.wait_for_state("listening")
        await expect(bars(tab.page, "held")).to_have_count(2)
        await expect(bars(tab.page, "you")).to_have_count(3)
        await expect(bars(tab.page, "bot")).to_have_count(2)
        await expect(tab.page.locator("#timeline .open")).to_have_count(0)
        tool = await bars(tab.page, "tools").get_attribute("aria-label") or ""
        assert tool.startswith("Tool, look_up_tide, 0.")
        told = await cut.get_attribute("aria-label") or ""
        assert told.startswith("Interrupted, full: you spoke, at ")
        assert "not heard: word" in told
        # Bars lie where they were: what was said second over the bot is within the bot's first bar.
        first, over = await bars(tab.page, "bot").first.bounding_box(), await cut.bounding_box()
        assert first is not None
        assert over is not None
        assert abs(first["x"] + first["width"] - (over["x"] + over["width"] / 2)) < 3, "cut where it ends"
        assert tab.problems == []


async def test_the_timeline_tells_more_when_pointed_at_and_by_keys(chromium: str, silence: Path) -> None:
    async with acting() as bot, serving(bot.app) as url, browsing(chromium, silence) as browser:
        tab = await visit(browser, url)
        await tab.connect()
        bot.answers("Hello there.")
        await bot.say("Good morning.", 1.2)
        await expect(heard(tab.page)).to_have_text("Hello there.")
        await tab.wait_for_state("listening")
        detail, legend = tab.page.locator("#timeline .detail"), tab.page.locator("#timeline .legend")
        await expect(legend).to_be_visible()
        await bars(tab.page, "you").hover()
        await expect(detail).to_contain_text("You, “Good morning.”, 1.")
        await tab.page.mouse.move(0, 0)
        await expect(legend).to_be_visible()
        track = tab.page.get_by_role("listbox")
        await track.focus()
        await tab.page.keyboard.press("Home")
        await expect(detail).to_contain_text("You, “Good morning.”")
        for key in ("ArrowRight", "ArrowRight"):
            await tab.page.keyboard.press(key)
        await expect(detail).to_contain_text("Bot, “Hello there.”")
        current = await track.get_attribute("aria-activedescendant")
        await expect(tab.page.locator(f"#{current}")).to_have_attribute("aria-selected", "true")
        await tab.page.keyboard.press("Tab")
        await expect(legend).to_be_visible()
        assert tab.problems == []


async def test_latencies_and_interruptions_are_listed(chromium: str, silence: Path) -> None:
    async with acting() as bot, serving(bot.app) as url, browsing(chromium, silence) as browser:
        tab = await visit(browser, url)
        await tab.connect()
        bot.answers(LONG, LONG, LONG)
        await bot.say("Count, please.", 1.2)
        await speak_over(bot, tab, "No, stop that now.")
        turn = tab.page.locator("#turns ol > li")
        await expect(turn).to_have_count(1)
        await expect(turn.locator(".what")).to_have_text("Count, please.")
        total = int((await turn.locator(".head b").inner_text()).removesuffix(" ms"))
        parts = [text.split() for text in await turn.locator(".told li").all_inner_texts()]
        assert [name for name, _ in parts] == [
            "endpointing", "transcription", "model", "sentence", "voice", "output",
        ]  # fmt: skip
        assert abs(sum(int(ms) for _, ms in parts) - total) <= 6, "rounded"
        await expect(tab.page.locator("#turns .summary")).to_contain_text(f"Median {total} ms")

        await tab.wait_for_state("speaking")
        await expect(heard(tab.page)).to_contain_text("word2")
        await tab.page.keyboard.press("Alt+s")
        await tab.wait_for_state("listening")
        await show(tab, "Interruptions")
        items = tab.page.locator("#interruptions ol > li")
        await expect(items).to_have_count(2)
        newest, oldest = items.first, items.last
        await expect(newest).to_contain_text("Voice only")
        await expect(newest).to_contain_text("you pressed Stop")
        await expect(oldest).to_contain_text("Everything")
        await expect(oldest).to_contain_text("you spoke")
        await expect(oldest.locator(".words")).to_contain_text("Heard: word0 word1")
        await expect(oldest.locator("s")).to_contain_text("word")
        latency = await oldest.locator(".latency").inner_text()
        silent, decided = (int(part.split()[2]) for part in latency.split(","))
        assert 0 < silent < decided
        assert tab.problems == []


async def test_settings_hold_at_once_and_are_set_back(chromium: str, silence: Path) -> None:
    async with acting() as bot, serving(bot.app) as url, browsing(chromium, silence) as browser:
        tab = await visit(browser, url)
        await tab.connect()
        await show(tab, "Settings")
        form = tab.page.get_by_role("tabpanel", name="Settings")
        speaking = form.get_by_role("group", name="While the bot speaks")
        told = form.locator(".told")
        await expect(told).to_have_text("Changes hold at once, for this conversation.")
        await expect(form.get_by_role("button", name="Reset to defaults")).to_be_disabled()

        await speaking.get_by_label("Debounce", exact=True).check()
        time = speaking.get_by_label("Debounce time ms")
        await time.fill("-5")
        await time.press("Enter")
        await expect(told).to_have_text("speaking.Debounce.ms: should be a number from 0 to 60000")
        await expect(time).to_have_attribute("aria-invalid", "true")
        await time.fill("30000")
        await time.press("Enter")
        await expect(told).to_have_text("Set.")
        await expect(time).to_be_focused()
        await expect(time).to_have_value("30000")

        bot.answers(LONG, "All right.")
        await bot.say("Count, please.", 1.2)
        await speak_over(bot, tab, "No, stop that now.")
        await expect(tab.page.locator("#timeline .bar.held:not(.open)")).to_have_count(1)
        await expect(tab.page.locator("#timeline .bar.cut")).to_have_count(0)
        await tab.wait_for_state("speaking")

        await form.get_by_role("button", name="Reset to defaults").click()
        await expect(told).to_have_text("Back to the bot's own.")
        await expect(speaking.get_by_label("Debounce", exact=True)).not_to_be_checked()
        await bot.say("No, stop that now.", 1.6)
        await expect(tab.page.locator("#timeline .bar.cut")).to_have_count(1)
        await expect(heard(tab.page)).to_have_text("All right.")

        await speaking.get_by_label("Minimum duration: stops only the voice").check()
        await expect(told).to_have_text("Set.")
        await button(tab.page, "Disconnect").click()
        await expect(told).to_contain_text("Connect to see")
        await button(tab.page, "Connect").click()
        await expect(told).to_have_text("Changes hold at once, for this conversation.")
        own = speaking.get_by_label("Minimum duration: stops only the voice")
        await expect(own).not_to_be_checked()
        assert tab.problems == []
