"""What the page shows of turn-taking: the timeline, the latencies, the interruptions, and live settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, ViewportSize, expect

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
        went_on = re.compile("^Voice held, .* the voice went on: you were only following along$")
        await expect(bars(tab.page, "held")).to_have_attribute("aria-label", went_on)
        await expect(bars(tab.page, "you").last).to_have_class("bar you aside")
        hum = await bars(tab.page, "you").last.get_attribute("aria-label") or ""
        assert re.match("You, “Mm-hmm.”, .* did not interrupt: you were only following along$", hum)
        await bot.say("Now tell me of the tide.", 1.6)
        cut = bars(tab.page, "cut")
        await expect(cut).to_have_count(1)
        await expect(tab.page.locator(".label.cut")).to_have_text("you spoke")
        await expect(bars(tab.page, "tools")).to_have_count(1)
        await expect(heard(tab.page)).to_have_text("At four.")
        await tab.wait_for_state("listening")
        await expect(bars(tab.page, "held")).to_have_count(2)
        await expect(bars(tab.page, "you")).to_have_count(3)
        await expect(bars(tab.page, "bot")).to_have_count(2)
        await expect(tab.page.locator("#timeline .open")).to_have_count(0)
        tool = await bars(tab.page, "tools").get_attribute("aria-label") or ""
        assert re.match(r"Tool, look_up_tide, \d+\.\d+ s", tool)
        told = await cut.get_attribute("aria-label") or ""
        assert told.startswith("Everything cut, you spoke, at ")
        assert "not heard: word" in told
        # Bars lie where they were: what was said second over the bot is within the bot's first bar.
        end, over = await tab.page.evaluate(  # in one look: the timeline moves
            """() => {
                const of = (lane) => document.querySelector(`#timeline .bar.${lane}`);
                const place = (lane) => of(lane).getBoundingClientRect();
                const cut = place("cut");
                return [place("bot").right, cut.left + cut.width / 2];
            }"""
        )
        assert abs(end - over) < 10, "cut where it ends"
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
        await expect(detail).to_contain_text(re.compile(r"You, “Good morning.”, \d+\.\d+ s"))
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
        latency = await oldest.locator(".figures").inner_text()
        silent, decided = (int(part.split()[2]) for part in latency.split(","))
        assert 0 < silent < decided
        assert tab.problems == []


async def test_it_is_told_why_the_bot_went_on_and_what_was_saved(chromium: str, silence: Path) -> None:
    async with acting() as bot, serving(bot.app) as url, browsing(chromium, silence) as browser:
        tab = await visit(browser, url)
        await tab.connect()
        await show(tab, "Interruptions")
        items = tab.page.locator("#interruptions ol > li")
        bot.answers(LONG, f"Well then. {LONG}")
        await bot.say("Count, please.", 1.2)
        await speak_over(bot, tab, "", 0.2)
        await expect(items).to_have_count(1)
        await expect(items.locator(".level")).to_have_text("Went on")
        await expect(items.locator(".what")).to_have_text("a noise")
        await expect(items.locator(".figures")).to_have_text(re.compile(r"^voice held for \d+ ms$"))
        await expect(bars(tab.page, "you").last).to_have_class("bar you aside")
        await expect(tab.page.locator(".label.you").last).to_have_text("noise")
        await tab.page.keyboard.press("Alt+S")
        await tab.wait_for_state("listening")

        bot.model.token_s = 1
        await tab.type("Go on.")
        await expect(heard(tab.page)).to_contain_text("Well")
        await tab.page.keyboard.press("Escape")
        await expect(items.first.locator(".figures")).to_have_text(re.compile(r", about \d+ tokens saved$"))
        summary = tab.page.locator("#interruptions .summary")
        await expect(summary).to_contain_text("2 interruptions, 1 sound that did not interrupt, about ")
        assert tab.problems == []


async def test_an_interruption_before_the_answer_says_so(chromium: str, silence: Path) -> None:
    async with acting() as bot, serving(bot.app) as url, browsing(chromium, silence) as browser:
        tab = await visit(browser, url)
        await tab.connect()
        await show(tab, "Interruptions")
        bot.model.token_s = 600
        await tab.type("Count, please.")
        await tab.wait_for_state("thinking")
        await tab.page.keyboard.press("Escape")
        words = tab.page.locator("#interruptions ol > li .words")
        await expect(words).to_have_text("It had not begun to answer.")
        assert tab.problems == []


async def test_what_was_said_stays_until_a_new_conversation_begins(chromium: str, silence: Path) -> None:
    async with acting() as bot, browsing(chromium, silence) as browser:
        async with serving(bot.app) as url:
            tab = await visit(browser, url)
            await tab.connect()
            bot.answers("Hello there.")
            await tab.type("Good morning.")
            await expect(heard(tab.page)).to_have_text("Hello there.")
            bars_then = await tab.page.locator("#timeline .bar").count()
        await expect(tab.page.locator("#notice")).to_be_visible()
        await button(tab.page, "Connect").click()
        await expect(tab.page.locator("#notice strong")).to_have_text("The server cannot be reached")
        await expect(heard(tab.page)).to_have_text("Hello there.")
        await expect(tab.page.locator("#timeline .bar")).to_have_count(bars_then)
        assert all("ERR_CONNECTION_REFUSED" in problem for problem in tab.problems)


async def test_the_newest_is_in_sight_unless_one_reads_further_up(chromium: str, silence: Path) -> None:
    size = ViewportSize(width=360, height=740)
    async with (
        acting() as bot,
        serving(bot.app) as url,
        browsing(chromium, silence, viewport=size) as browser,
    ):
        tab = await visit(browser, url)
        await tab.page.set_viewport_size(ViewportSize(width=1280, height=740))
        await tab.page.set_viewport_size(size)
        await expect(tab.page.locator("#welcome")).to_be_visible()
        await tab.connect()
        transcript = tab.page.locator("#transcript")
        below = "list => list.scrollHeight - list.scrollTop - list.clientHeight"
        bot.answers(*[LONG] * 3)
        await show(tab, "Turns")  # out of sight
        await tab.type("One.")
        await tab.wait_for_state("speaking")
        await show(tab, "Talk")
        await expect(tab.page.locator("li.bot")).to_contain_text("word99")
        assert await transcript.evaluate(below) < 5
        await transcript.evaluate("list => list.scrollTo(0, 0)")
        await expect(heard(tab.page)).to_contain_text("word3")
        assert await transcript.evaluate("list => list.scrollTop") == 0
        await tab.type("Two.")  # is what one wants to see
        await expect(tab.page.locator("li.bot")).to_have_count(2)
        await expect(tab.page.locator("li.bot").last).to_contain_text("word99")
        assert await transcript.evaluate(below) < 5
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
