"""Run voice-agent-ai-sdk's own browser page, unmodified, against the default bot on local models.

    PYTHONPATH=. python scripts/voice_agent_page.py voice-client.html [SCREENSHOT.png]

Takes the page's file (example/voice-client.html of its repository, which is not part of this one). Types,
listens, interrupts, asks again, speaks through the page's server mode with a recorded voice, tries its
browser mode, leaves in the middle of an answer and comes back; prints what it saw, and ends with 1 if
something was missing. Needs a Chromium, `.[dev,local]`, and to be run
from the repository.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from playwright.async_api import Page

from bargein.bots import Bot
from bargein.bots.app import run_session
from bargein.bots.server import create_app
from tests.browser.harness import browsing, serving, visit, write_wav

VOICE = Path(__file__).parent.parent / "tests" / "data" / "jfk.flac"
SILENCE_S = 3.0  # the page learns how loud silence is, before the voice begins
PATIENCE_MS = 60_000


def microphone(path: Path) -> Path:
    """The recording behind some silence, and silence behind it, at 48 kHz."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=48_000)
    pcm = bytearray(int(48_000 * SILENCE_S) * 2)
    with av.open(str(VOICE), "r") as file:
        for frame in [*file.decode(file.streams.audio[0]), None]:
            for block in resampler.resample(frame):
                pcm += bytes(block.planes[0])[: block.samples * 2]
    return write_wav(path, bytes(pcm) + bytes(48_000 * 2 * 20))


async def logged(page: Page, text: str, since: int = 0) -> int:
    """Wait until the page's log has this text behind a place in it; returns where."""
    found = "([text, since]) => logEl.textContent.indexOf(text, since) + 1"
    return int(await (await page.wait_for_function(found, arg=[text, since])).json_value())


async def ask(page: Page, text: str) -> int:
    """Type and send; returns where the log went on."""
    mark = int(await page.evaluate("logEl.textContent.length"))
    await page.fill("#textInput", text)
    await page.click("#sendTextBtn")
    return mark


async def use(page: Page, endpoint: str, screenshot: Path | None) -> None:
    """What a person would do with it."""

    async def picture(name: str) -> None:
        if screenshot is not None:
            file = screenshot.with_stem(f"{screenshot.stem}-{name}")
            await page.screenshot(path=file, full_page=True)
            print(f"  {file}")

    await page.fill("#endpoint", endpoint)
    await page.click("#connectBtn")
    await logged(page, "Connected to")
    print("connected")

    await ask(page, "Tell me a long story about the sea, with many sentences.")
    await logged(page, "Audio chunk #0")
    await page.wait_for_function("isPlaying && currentAudioSource")
    print("text in: text and speech out, playing")
    await picture("text")
    await page.click("#interruptBtn")
    at = await logged(page, "Speech interrupted: user_clicked_interrupt")
    print("interrupted by the button")
    await asyncio.sleep(3)
    after = str(await page.evaluate("at => logEl.textContent.slice(at)", at))
    assert "Audio chunk" not in after, "speech after the interruption"
    assert not await page.evaluate("isPlaying")
    await picture("interrupted")

    mark = await ask(page, "Say hello.")
    await logged(page, "Audio chunk", mark)
    await page.wait_for_function("isPlaying && currentAudioSource")
    print(f"asked again, answered: {await page.inner_text('#assistant')}")
    await page.wait_for_function("!isPlaying && audioQueue.length === 0")
    print("and played to its end")

    await page.select_option("#inputMode", "server-whisper")
    mark = int(await page.evaluate("logEl.textContent.length"))
    await page.click("#startMicBtn")
    await logged(page, "Transcription: ", mark)
    print(f"server mode heard: {await page.inner_text('#transcript')}")
    await logged(page, "Audio chunk", mark)
    await page.wait_for_function("isPlaying && currentAudioSource")
    print(f"and answered: {await page.inner_text('#assistant')}")
    await picture("speech")
    await page.click("#stopMicBtn")
    await page.click("#interruptBtn")

    await page.select_option("#inputMode", "browser-stt")
    mark = int(await page.evaluate("logEl.textContent.length"))
    await page.click("#startMicBtn")
    await asyncio.sleep(3)
    seen = (
        str(await page.evaluate("mark => logEl.textContent.slice(mark)", mark)).strip().replace("\n", " | ")
    )
    print(f"browser mode says: {seen}")
    if await page.is_enabled("#stopMicBtn"):
        await page.click("#stopMicBtn")
    await ask(page, "Tell me another long story, with many sentences.")
    await page.wait_for_function("isPlaying && currentAudioSource")
    await page.click("#disconnectBtn")
    mark = await logged(page, "Disconnected")
    assert not await page.evaluate("isPlaying"), "it plays although it has left"
    print("disconnected in the middle of an answer")
    await page.click("#connectBtn")
    await logged(page, "Connected to", mark)
    mark = await ask(page, "Are you there?")
    await logged(page, "Audio chunk #0", mark)
    print(f"back, and answered: {await page.inner_text('#assistant')}")
    await picture("back")
    await page.click("#disconnectBtn")
    await logged(page, "Disconnected", mark)


async def main(file: Path, screenshot: Path | None) -> None:
    """Serve the bot and, from another origin, the page."""
    site = FastAPI()
    site.get("/")(lambda: FileResponse(file))
    site.get("/favicon.ico")(lambda: Response(status_code=204))
    chromium = os.environ.get("BARGEIN_CHROMIUM") or shutil.which("chromium")
    assert chromium is not None, "no Chromium found: set BARGEIN_CHROMIUM to its path"
    bot: Any = Bot(name="page", transport="voice-agent", stt="local", llm="local", tts="local")
    with tempfile.TemporaryDirectory() as directory:
        voice = microphone(Path(directory) / "voice.wav")
        async with bot.open(print) as running, serving(site) as url:

            async def run(connection: Any) -> None:
                await run_session(running, connection)

            app = create_app(run, run_socket_bot=run, allowed_origins=[url.rstrip("/")])
            async with serving(app) as server, browsing(chromium, voice) as browser:
                tab = await visit(browser, url)
                tab.page.set_default_timeout(PATIENCE_MS)
                try:
                    await use(tab.page, server.replace("http", "ws") + "ws/voice", screenshot)
                finally:
                    print(await tab.page.inner_text("#log"))
                    print("console:", tab.problems or "no errors, no warnings")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
