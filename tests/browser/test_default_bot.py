"""The default bot on local models, served by the command, in Chromium with a recorded voice."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import av
import pytest
from playwright.async_api import expect

from ..bots.command import free_port
from .harness import browsing, visit, write_wav

pytestmark = [pytest.mark.browser, pytest.mark.local_models, pytest.mark.real_time]

# One sentence without a pause: whether it is over before its end is no question.
RECORDING = Path(__file__).parent.parent / "data" / "sense_and_sensibility_01_austen_64kb-0870.wav"


@asynccontextmanager
async def command() -> AsyncIterator[str]:
    """`bargein run` on a free port; yields the page's URL once it is served."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-m", "bargein", "run", "--port", str(port)),
        stdout=asyncio.subprocess.PIPE,
        env={key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(300):
            while f":{port}" not in (line := (await process.stdout.readline()).decode()):
                assert line, "the command has ended"
        yield f"http://127.0.0.1:{port}/"
        process.terminate()
        async with asyncio.timeout(60):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def recorded_voice(path: Path) -> Path:
    """The recording as a microphone's WAV file, beginning a second after the microphone is opened."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=48_000)
    pcm = bytearray(48_000 * 2)
    with av.open(str(RECORDING)) as file:
        for frame in [*file.decode(audio=0), None]:
            for block in resampler.resample(frame):
                pcm += bytes(block.planes[0])[: block.samples * 2]
    return write_wav(path, bytes(pcm))


async def test_a_voice_is_understood_answered_and_interrupts(chromium: str, tmp_path: Path) -> None:
    microphone = recorded_voice(tmp_path / "voice.wav")
    async with command() as url, browsing(chromium, microphone, bypass_csp=True) as browser:
        tab = await visit(browser, url, measuring=True)
        await tab.connect()
        await tab.measure()
        await tab.page.wait_for_function(
            """() => [...document.querySelectorAll("li.user .final")].map((e) => e.textContent).join(" ")
                .toLowerCase().replace(/[^a-z ]/g, "").includes("consider how much there might be")"""
        )
        await tab.wait_for_state("speaking")
        await tab.wait_for_sound()
        await tab.page.get_by_role("button", name="Stop speaking").click()
        await expect(tab.page.locator("li.bot .note", has_text="not spoken")).to_be_visible()
        await tab.wait_for_state("listening")
        await tab.wait_for_silence()

        await tab.type("Tell me a long story about the sea.")
        await tab.wait_for_state("speaking")
        await tab.wait_for_sound()
        await tab.page.get_by_role("button", name="Stop", exact=True).click()
        await expect(tab.page.locator("li.bot").last.locator("s.unheard")).to_be_visible()
        await tab.wait_for_state("listening")
        await tab.wait_for_silence()
        assert tab.problems == []
