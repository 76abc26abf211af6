"""The page in a real Chromium against a real server on this machine."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import uvicorn
from fastapi import FastAPI
from playwright.async_api import BrowserContext, ConsoleMessage, Page, async_playwright, expect

from bargein.bots.server import config

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--allow-loopback-in-peer-connection",  # a machine whose only other address is on `lo`
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
)
BLOCK = 128  # samples in one row of a measurement
PATIENCE_MS = 180_000  # a slow machine may take its time

expect.set_options(timeout=PATIENCE_MS)


def write_wav(path: Path, pcm: bytes) -> Path:
    """Write mono s16le at 48 kHz for a microphone."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes(pcm)
    return path


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """Serve on a free port of 127.0.0.1; yields the page's URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = config(app, *listener.getsockname())
        settings.timeout_graceful_shutdown = 1
        server = uvicorn.Server(settings)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            await task


@dataclass
class Measurement:
    """Levels of the microphone and of the remote track, one row for each 128 samples.

    Attributes:
        rate: In Hz.
        frames: The sample at which each row begins; rows may be missing.
        microphone, remote: Peak of each row, 1.0 is full scale.
        marks: (name, sample, wall-clock seconds).
    """

    rate: float
    frames: npt.NDArray[np.int64]
    microphone: npt.NDArray[np.float64]
    remote: npt.NDArray[np.float64]
    marks: list[tuple[str, float, float]]

    def at(self, name: str) -> float:
        """The sample of the last mark with this name."""
        return [sample for mark, sample, _ in self.marks if mark == name][-1]

    def volumes(self) -> list[tuple[float, float]]:
        """(volume, sample) of each change of the voice's volume."""
        changes = ((name.split(), sample) for name, sample, _ in self.marks)
        return [(float(name[1]), sample) for name, sample in changes if name[0] == "volume"]

    def wall(self, sample: float) -> float:
        """The wall-clock time in s at which a sample passed."""
        _, start, wall = self.marks[0]
        return wall + (sample - start) / self.rate

    def last_sound(self, after: float, before: float = np.inf, level: float = 0.01) -> float:
        """The sample at which the remote track was last louder than `level`, `after` if it was not."""
        loud = self.frames[(self.remote > level) & (self.frames >= after) & (self.frames < before)]
        return float(loud[-1] + BLOCK) if len(loud) else after


@dataclass
class Visit:
    """The page in one tab, and what went wrong in it."""

    page: Page
    problems: list[str] = field(default_factory=list)

    async def connect(self) -> None:
        """Press Connect and wait until the bot is ready."""
        await self.page.get_by_role("button", name="Connect").click()
        await self.page.wait_for_selector("body[data-phase=connected]")

    async def wait_for_state(self, state: str) -> None:
        """Wait until the page shows what the bot is doing: listening, thinking or speaking."""
        await self.page.wait_for_selector(f"body[data-phase=connected][data-state={state}]")

    async def type(self, text: str) -> None:
        """Send a typed message."""
        await self.page.get_by_role("textbox", name="Message").fill(text)
        await self.page.keyboard.press("Enter")

    async def measure(self) -> None:
        """Begin to measure both tracks; needs a connected page."""
        await self.page.evaluate("window.__measure()")

    async def wait_for_silence(self) -> None:
        """Wait until the remote track has been silent for half a second."""
        await self.page.wait_for_function(
            """() => {
                const { rate, rows } = window.__measured();
                const since = (rows.at(-1)?.[0] ?? 0) - rate / 2;
                return since > 0 && !rows.some(([frame, , peak]) => frame > since && peak > 0.01);
            }"""
        )

    async def wait_for_sound(self) -> None:
        """Wait until the remote track has sounded within the last tenth of a second."""
        await self.page.wait_for_function(
            """() => {
                const { rate, rows } = window.__measured();
                const since = (rows.at(-1)?.[0] ?? 0) - rate / 10;
                return rows.some(([frame, , peak]) => frame > since && peak > 0.02);
            }"""
        )

    async def measured(self) -> Measurement:
        """What was measured so far."""
        raw: dict[str, Any] = await self.page.evaluate("window.__measured()")
        rows = np.array(raw["rows"], dtype=np.float64).reshape(-1, 3)
        marks = [(name, sample, wall) for name, sample, wall in raw["marks"]]
        return Measurement(raw["rate"], rows[:, 0].astype(np.int64), rows[:, 1], rows[:, 2], marks)

    def watch(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text}")


@asynccontextmanager
async def browsing(
    chromium: str,
    microphone: Path | None = None,
    *,
    grant: bool = True,
    **options: Any,
) -> AsyncIterator[BrowserContext]:
    """A Chromium with a fresh profile.

    Args:
        chromium: Its path.
        microphone: A WAV file it hears once from the moment the microphone is opened; beeps without it.
        grant: Whether the user allows the microphone; if not, it is refused.
        options: More of Playwright's context options, such as `color_scheme` and `viewport`.
    """
    flags = list(FLAGS)
    flags.append("--use-fake-ui-for-media-stream" if grant else "--deny-permission-prompts")
    if microphone is not None:
        flags.append(f"--use-file-for-fake-audio-capture={microphone}%noloop")
    with tempfile.TemporaryDirectory(prefix="bargein-chromium-", ignore_cleanup_errors=True) as profile:
        async with async_playwright() as playwright:
            context = await playwright.chromium.launch_persistent_context(
                profile,
                executable_path=chromium,
                args=flags,
                headless=True,
                timeout=PATIENCE_MS,
                **options,
            )
            context.set_default_timeout(PATIENCE_MS)
            try:
                yield context
            finally:
                await context.close()


async def visit(context: BrowserContext, url: str, *, measuring: bool = False) -> Visit:
    """Open the page in a new tab. To be measured, the context must bypass the page's CSP."""
    page = await context.new_page()
    tab = Visit(page)
    page.on("console", tab.watch)
    page.on("pageerror", lambda error: tab.problems.append(f"exception: {error}"))
    if measuring:
        await page.add_init_script(path=Path(__file__).parent / "measure.js")
    await page.goto(url)
    return tab
