"""Makes the pictures of the page in docs/: `python -m scripts.screenshots` in the project's directory.

A real Chromium, the real server, pipeline and page; what the user says and what the model answers is played.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import expect

from tests.browser.acting_bot import ActingBot, acting, tide_call
from tests.browser.harness import Visit, browsing, serving, visit, write_wav

DOCS = Path(__file__).parent.parent / "docs"

TIDES = (
    "A tide is the slow rise and fall of the sea, and it is the Moon that pulls it. "
    "As the Earth turns, each shore passes through two bulges of water."
)
WHY_TWO = (
    "One bulge is on the side of the Moon, the other across from it, where its pull is weakest. "
    "So most places see high water twice a day."
)


@dataclass(frozen=True)
class Picture:
    """One picture: its name in docs/, the view that is chosen, and the browser's options."""

    name: str
    view: str
    options: dict[str, Any] = field(default_factory=dict)
    part: str | None = None  # of the page


DESKTOP = {"viewport": {"width": 1280, "height": 800}, "device_scale_factor": 1.5}
TALL = {"viewport": {"width": 1280, "height": 1500}, "device_scale_factor": 1.5}
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True}
PICTURES = [
    Picture("page", "Turns", {**DESKTOP, "color_scheme": "light"}),
    Picture("page-dark", "Interruptions", {**DESKTOP, "color_scheme": "dark"}),
    Picture("page-phone", "Talk", {**PHONE, "color_scheme": "light"}),
    Picture("page-settings", "Settings", {**TALL, "color_scheme": "light"}, "#settings"),
    Picture("page-timeline", "Turns", {**DESKTOP, "color_scheme": "light"}, "#timeline"),
]


async def converse(bot: ActingBot, tab: Visit) -> None:
    """Questions and answers, a hum over one of them, and three ways to interrupt; ends within an answer."""
    heard = tab.page.locator("li.bot .heard")
    bot.answers(TIDES, tide_call("Dover"), "High water at Dover is at ten past four.", WHY_TWO, TIDES)
    await bot.say("How do tides work?", 1.2)
    await expect(heard.last).to_contain_text("slow rise")
    await bot.say("Mm-hmm.", 0.4)
    await expect(heard.last).to_contain_text("Moon that")
    await bot.say("And when is high water at Dover?", 1.6)
    await expect(heard.last).to_contain_text("ten past four.", timeout=20_000)
    await tab.wait_for_state("listening")
    await bot.say("Why are there two a day?", 1.2)
    await expect(heard.last).to_contain_text("One bulge is")
    await tab.page.keyboard.press("Alt+S")
    await tab.wait_for_state("listening")
    await bot.say("Say that about the Moon again, please.", 1.5)
    await expect(heard.last).to_contain_text("fall of the sea")


async def take(chromium: str, picture: Picture, directory: Path) -> None:
    """One conversation, one picture of it."""
    silence = write_wav(directory / "silence.wav", bytes(120 * 2 * 48_000))
    async with (
        acting() as bot,
        serving(bot.app) as url,
        browsing(chromium, silence, **picture.options) as browser,
    ):
        tab = await visit(browser, url)
        await tab.connect()
        await tab.page.get_by_role("tab", name=picture.view).click()
        await converse(bot, tab)
        path = DOCS / f"{picture.name}.png"
        part = tab.page.locator(picture.part) if picture.part else tab.page
        await part.screenshot(path=path, animations="disabled")
        assert not tab.problems, tab.problems
    print(path.relative_to(DOCS.parent))


async def main(names: list[str]) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium found")
    with tempfile.TemporaryDirectory() as directory:
        for picture in PICTURES:
            if not names or picture.name in names:
                await take(chromium, picture, Path(directory))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
