"""A page that speaks the protocol of voice-agent-ai-sdk, in Chromium against a real server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.responses import FileResponse
from openai import AsyncOpenAI
from playwright.async_api import Page

from bargein.bots.server import create_app
from bargein.transports.webrtc import WebRTCConnection

from ..processors.fakes import FakeTranscriber, FakeUtterance
from ..servers.openai_server import OpenAIServer
from ..transports.voice_agent.agent import ANSWER, WORDS, Agent
from .harness import PATIENCE_MS, browsing, serving, visit, write_wav

pytestmark = [pytest.mark.browser, pytest.mark.real_time]

PAGE = Path(__file__).parent / "voice_agent_client.html"
TONE_HZ = 440
SENTENCES = [f"Sentence number {number} of it. " for number in range(60)]
LONG = [piece for sentence in SENTENCES for piece in re.findall(r"\S+ ", sentence)]


class Ears(FakeTranscriber):
    """Notes what it is given."""

    def open(self, on_partial: Callable[[str], None]) -> FakeUtterance:
        self.script.append(("what I said", 0.05))
        return super().open(on_partial)


@asynccontextmanager
async def page_with_agent(
    chromium: str, path: str, microphone: Path | None = None, **options: Any
) -> AsyncIterator[tuple[Page, Agent, OpenAIServer, list[str]]]:
    """The page, connected; its origin is not the server's own."""

    async def no_peers(connection: WebRTCConnection) -> None:
        raise AssertionError("nobody calls")

    site = FastAPI()
    site.get("/")(lambda: FileResponse(PAGE))
    async with OpenAIServer().serving() as model, serving(site) as url:
        model.token_s = 0.01
        model.answer = lambda messages: list(WORDS)
        async with AsyncOpenAI(base_url=model.base_url, api_key="secret") as client:
            agent = Agent(client, **options)
            app = create_app(no_peers, run_socket_bot=agent.run, allowed_origins=[url.rstrip("/")])
            async with serving(app) as server, browsing(chromium, microphone) as browser:
                tab = await visit(browser, url)
                await tab.page.evaluate("url => open(url)", server.replace("http", "ws").rstrip("/") + path)
                yield tab.page, agent, model, tab.problems
                await tab.page.close()


async def told(page: Page, kind: str, count: int = 1) -> dict[str, Any]:
    await page.wait_for_function(
        "([kind, count]) => client.got.filter((m) => m.type === kind).length >= count", arg=[kind, count]
    )
    got: list[dict[str, Any]] = await page.evaluate("kind => client.got.filter((m) => m.type === kind)", kind)
    return got[count - 1]


@pytest.mark.parametrize("path", ["/ws/voice", "/ws/voice/mp3", "/ws/voice/opus"])
async def test_a_text_is_answered_in_text_and_speech(chromium: str, path: str) -> None:
    async with page_with_agent(chromium, path) as (page, agent, _, problems):
        await page.evaluate("say({ type: 'transcript', text: 'hello' })")
        assert (await told(page, "response_complete"))["text"] == ANSWER
        await told(page, "speech_stream_end")
        await page.wait_for_function("client.began.length === 3 && !client.playing")
        began = await page.evaluate("client.began")
        assert [chunk["chunk"] for chunk in began] == [0, 1, 2]
        assert sum(c["seconds"] for c in began) == pytest.approx(len(ANSWER) / 20, abs=0.3)
        async with asyncio.timeout(PATIENCE_MS / 1000):
            while responses := agent.sessions[0].responses:
                await responses[0].wait()
        assert agent.contexts[0].messages[-1]["content"] == ANSWER
        assert problems == []


async def test_an_interruption_silences_the_page(chromium: str) -> None:
    async with page_with_agent(chromium, "/ws/voice") as (page, _, model, problems):
        model.answer = lambda messages: list(LONG)
        await page.evaluate("say({ type: 'transcript', text: 'hello' })")
        await page.wait_for_function("client.began.length >= 2")
        began = await page.evaluate(
            "(say({ type: 'interrupt', reason: 'user_clicked_stop' }), client.began.length)"
        )
        report = await told(page, "speech_interrupted")
        assert (report["reason"], report["level"]) == ("user_clicked_stop", "full")
        # It was told of each chunk that was played to its end, and many more have been sent.
        assert report["heard"].startswith("".join(SENTENCES[: began - 1]).rstrip())
        assert len(report["heard"]) < len("".join(SENTENCES[: began + 2]))
        complete = await told(page, "response_complete")
        assert complete["interrupted"] is True
        await page.evaluate("say({ type: 'transcript', text: 'and now' })")
        await page.wait_for_function(
            "client.got.some((m) => m.type === 'audio_chunk' && m.responseId === 'r2')"
        )
        after = await page.evaluate(
            """() => {
                const at = client.got.findIndex((m) => m.type === "speech_interrupted");
                return client.got.slice(at).filter((m) => m.responseId === "r1").map((m) => m.type);
            }"""
        )
        assert "audio_chunk" not in after
        assert len(await page.evaluate("client.got.filter((m) => m.type === 'speech_interrupted')")) == 1
        assert problems == []


async def test_what_the_browser_records_is_heard(chromium: str, tmp_path: Path) -> None:
    samples = 12_000 * np.sin(2 * np.pi * TONE_HZ * np.arange(48_000 * 20) / 48_000)
    microphone = write_wav(tmp_path / "tone.wav", samples.astype("<i2").tobytes())
    ears = Ears([])
    async with page_with_agent(chromium, "/ws/voice", microphone, transcriber=ears) as parts:
        page, _, _, problems = parts
        await page.evaluate("record(2000)")
        assert (await told(page, "transcription_result"))["text"] == "what I said"
        await told(page, "audio_chunk")
        heard = np.frombuffer(bytes(ears.opened[0].fed), np.int16).astype(float)
        assert len(heard) > 16_000
        spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
        assert np.argmax(spectrum) * 16_000 / len(heard) == pytest.approx(TONE_HZ, abs=5)
        assert problems == []
