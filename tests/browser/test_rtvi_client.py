"""Pipecat's own JavaScript client, unmodified, in Chromium against our server."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI
from pipecat.frames.frames import InputDTMFFrame, MetricsFrame, UserMuteStartedFrame, UserMuteStoppedFrame
from pipecat.metrics.metrics import TTFBMetricsData
from pipecat.processors.frameworks.rtvi.frames import RTVIServerMessageFrame, RTVIUIEventFrame
from playwright.async_api import BrowserContext, ConsoleMessage, Page, Route

from bargein import Pipeline, Processor, Session, handles
from bargein.bots.server import create_app
from bargein.pipeline.frames import Frame
from bargein.pipeline.observing import Turns
from bargein.processors import LLM, TTS, Sentences
from bargein.processors.context import Context
from bargein.processors.tools import ToolCall
from bargein.transports.ends import ends_of
from bargein.transports.rtvi import RTVI, VERSION
from bargein.transports.webrtc import WebRTCConnection
from bargein.transports.websocket import WebSocketConnection

from ..servers.openai_server import OpenAIServer, tool_calls
from .harness import PATIENCE_MS, browsing, serving, write_wav
from .rtvi_client.bundle import NoBundle, bundle
from .scripted_bot import Ear
from .test_default_bot import command, recorded_voice

pytestmark = [pytest.mark.browser, pytest.mark.real_time]

RATE = 24_000  # Hz
WORD_S = 0.15
LONG = "".join(f"This is sentence number {number}. " for number in range(60))
# What the WebSocket transport complains of with Pipecat's own server too: a frame that it does not know, for
# it to drop what it has not played, and that the server ends the session.
KNOWN = ("Unknown frame kind", "websocket connection closed. Code: 1000", "Fatal error reported")
Events = list[tuple[str, Any]]


@pytest.fixture(scope="session")
def client_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the bundled client and its page."""
    try:
        return bundle(tmp_path_factory.mktemp("rtvi-client"))
    except NoBundle as reason:
        pytest.skip(str(reason))


@pytest.fixture
def burst(tmp_path: Path) -> Path:
    """For a microphone: a tone of 0.7 s, two seconds after the start, then silence."""
    seconds = np.arange(60 * 48_000) / 48_000
    tone = 8000 * np.sin(2 * np.pi * 300 * seconds) * ((seconds >= 2) & (seconds < 2.7))
    return write_wav(tmp_path / "burst.wav", tone.astype("<i2").tobytes())


@dataclass(frozen=True)
class Word:
    end: int
    end_s: float


@dataclass(frozen=True)
class Chunk:
    pcm: bytes
    sample_rate: int
    words: tuple[Word, ...]


class ToneVoice:
    """Speaks each word as a tone of `WORD_S`."""

    async def synthesize(self, text: str) -> AsyncGenerator[Chunk, None]:
        ends = [match.end() for match in re.finditer(r"\S+", text)]
        seconds = np.arange(round(RATE * WORD_S * len(ends))) / RATE
        pcm = (8000 * np.sin(2 * np.pi * 440 * seconds)).astype("<i2").tobytes()
        yield Chunk(pcm, RATE, tuple(Word(end, WORD_S * n) for n, end in enumerate(ends, 1)))


class Inbox(Processor):
    """Keeps what the client sent as frames, and when asked shows it that it was muted."""

    def __init__(self) -> None:
        self.received: list[Frame] = []

    @handles(InputDTMFFrame, RTVIUIEventFrame)
    def receive(self, frame: Frame) -> None:
        self.received.append(frame)
        if isinstance(frame, RTVIUIEventFrame):
            self.push(UserMuteStartedFrame())
            self.push(UserMuteStoppedFrame())
            self.push(MetricsFrame([TTFBMetricsData(processor="model", value=0.25)]))
            self.push(RTVIServerMessageFrame({"hello": frame.payload}))


@dataclass
class Bot:
    """Sessions of a bot on a scripted language model, and what came of them.

    Attributes:
        model: The language model's server.
        inbox: Of the session begun last.
        messages: Client messages of the type "note".
    """

    model: OpenAIServer = field(default_factory=OpenAIServer)
    inbox: Inbox = field(default_factory=Inbox)
    notes: list[Any] = field(default_factory=list)
    sessions: int = 0

    async def run(self, connection: WebRTCConnection | WebSocketConnection) -> None:
        self.sessions += 1
        self.inbox, context, ends = Inbox(), Context(), ends_of(connection)
        playout = ends.sink.playout if isinstance(connection, WebRTCConnection) else None
        client = RTVI(connection, playout, report_calls={"ask_colour": "arguments"})

        async def ask_colour(call: ToolCall, thing: str) -> str:
            return str(await client.calls.client_result(call.id))

        @client.on_client_message("note")
        def take_note(data: Any) -> None:
            self.notes.append(data)

        @client.on_client_message("double")
        async def double(data: Any) -> Any:
            await asyncio.sleep(0)
            return {"doubled": 2 * data["number"]}

        async with AsyncOpenAI(base_url=self.model.base_url, api_key="secret") as model:
            llm = LLM(model, "scripted", tools=[ask_colour])
            thinking = [context.user, llm, context.assistant, client]
            speaking = [Sentences(), TTS(ToneVoice()), ends.sink]
            session = Session(Pipeline([ends.source, Ear(), self.inbox, *thinking, *speaking]))
            Turns(session, client)
            await session.run()


@dataclass
class Client:
    """The client in a tab.

    Attributes:
        problems: Exceptions in the page.
        at: How many of its events `expect` has passed.
    """

    page: Page
    problems: list[str] = field(default_factory=list)
    at: int = 0

    async def events(self) -> Events:
        """All events so far: name and first argument."""
        return [(name, data) for name, data in await self.page.evaluate("window.events")]

    async def expect(self, name: str, having: str = "true") -> Any:
        """Wait for the next such event, and go on behind it; `having` is JavaScript about `data`."""
        self.at, data = await self._find(name, having, self.at)
        return data

    async def since(self, start: int, name: str, having: str = "true") -> Any:
        """Wait for such an event, the first from this one on."""
        return (await self._find(name, having, start))[1]

    async def _find(self, name: str, having: str, start: int) -> tuple[int, Any]:
        found = await self.page.wait_for_function(
            f"""(start) => {{
                const index = window.events.findIndex(([name, data], i) =>
                    i >= start && name === {json.dumps(name)} && ({having}));
                return index < 0 ? null : [index + 1, window.events[index][1]];
            }}""",
            arg=start,
        )
        next_one, data = await found.json_value()
        return next_one, data

    async def do(self, call: str) -> Any:
        """What a call of the client resolves with, or `{"rejected": why}`."""
        done = await self.page.evaluate(f"window.outcome((async () => {call})())")
        return done if "rejected" in done else done.get("value")


def named(events: Events, name: str) -> list[Any]:
    """What came with the events of this name."""
    return [data for kind, data in events if kind == name]


@asynccontextmanager
async def client_at(
    browser: BrowserContext, url: str, files: Path, transport: str = "webrtc"
) -> AsyncIterator[Client]:
    """The client in a tab, as a page of the server's origin; the transport is webrtc or websocket."""
    # The page comes from the test: to the browser it is not of this machine, as the server is.
    await browser.grant_permissions(["local-network-access"], origin=url)
    page = await browser.new_page()
    client = Client(page)

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            client.problems.append(message.text)

    page.on("pageerror", lambda error: client.problems.append(str(error)))
    page.on("console", note)

    async def fulfil(route: Route) -> None:
        await route.fulfill(path=files / Path(route.request.url).name)

    await page.route(f"{url}rtvi-client/*", fulfil)
    await page.goto(f"{url}rtvi-client/index.html#{transport}")
    await page.wait_for_function("() => Boolean(window.connect)")
    yield client
    known = KNOWN if transport == "websocket" else ()
    assert [text for text in client.problems if not any(part in text for part in known)] == []


async def no_sessions(app: FastAPI) -> None:
    async with asyncio.timeout(PATIENCE_MS / 1000):
        while app.state.sessions.connections:
            await asyncio.wait(set(app.state.sessions._tasks), return_when=asyncio.FIRST_COMPLETED)


async def test_a_conversation(chromium: str, client_page: Path, burst: Path) -> None:
    bot = Bot()
    app = create_app(bot.run)
    async with (
        bot.model.serving(),
        serving(app) as url,
        browsing(chromium, burst, bypass_csp=True) as browser,
        client_at(browser, url, client_page) as client,
    ):
        # It connects and is ready.
        bot.model.script(["It was", " loud. ", "Very", " loud."])
        ready = await client.do("connect()")
        assert ready["version"] == VERSION
        assert ready["about"]["library"] == "bargein"
        assert await client.page.evaluate("client.state") == "ready"

        # It hears what the user says, and what the bot answers.
        await client.expect("userStartedSpeaking")
        interim = await client.expect("userTranscript", "!data.final")
        assert interim["text"] == "a loud"
        final = await client.expect("userTranscript", "data.final")
        assert final["text"] == "A loud sound."
        assert await client.expect("userLlmText") == {"text": "A loud sound."}
        await client.expect("botLlmStarted")
        await client.expect("botOutput", "data.spoken_status === 'completed' && data.text === 'Very loud.'")
        await client.expect("botStoppedSpeaking")
        events = await client.events()
        names = [name for name, _ in events]
        for earlier, later in (
            ("userStartedSpeaking", "userStoppedSpeaking"),
            ("botLlmStarted", "botLlmText"),
            ("botLlmText", "botLlmStopped"),
            ("botTtsStarted", "botTtsStopped"),
            ("botStartedSpeaking", "botTtsText"),
            ("botTtsText", "botStoppedSpeaking"),
        ):
            assert names.index(earlier) < names.index(later)
        assert "".join(d["text"] for d in named(events, "botLlmText")) == "It was loud. Very loud."
        assert "".join(d["text"] for d in named(events, "botTtsText")) == "It was loud. Very loud."
        assert [d["text"] for d in named(events, "botTranscript")] == ["It was loud.", "Very loud."]
        pieces = named(events, "botOutput")
        assert all(piece["will_be_spoken"] and piece["aggregated_by"] == "sentence" for piece in pieces)
        told = [(p["text"], p["spoken_status"], p["spoken_progress"]["accumulated_text"]) for p in pieces]
        assert told == [
            ("It was loud.", "new", ""),
            ("It was loud.", "in-progress", "It"),
            ("It was loud.", "in-progress", "It was"),
            ("It was loud.", "completed", "It was loud."),
            ("Very loud.", "new", ""),
            ("Very loud.", "in-progress", "Very"),
            ("Very loud.", "completed", "Very loud."),
        ]
        assert len({piece["segment_id"] for piece in pieces}) == 2
        metrics = await client.since(0, "metrics", "data.stop_to_first_audio")
        (waited,) = metrics["stop_to_first_audio"]
        assert waited["value"] == pytest.approx(sum(waited["parts"].values()), abs=1e-4)

        # It sends text, and interrupts.
        story = client.at = len(events)
        bot.model.script([LONG])
        await client.do("client.sendText('Tell me a long story.')")
        await client.expect("botStartedSpeaking")
        await client.expect("botTtsText", "data.text.includes('number')")
        assert await client.do("client.sendClientRequest('interrupt', {reason: 'user_clicked_stop'})") == {}
        report = await client.since(story, "serverMessage", "data.reason === 'user_clicked_stop'")
        assert report["heard"].startswith("This is sentence number")
        assert LONG.startswith(report["heard"])
        await client.since(story, "metrics", "data.barge_in")
        await client.since(story, "botStoppedSpeaking")
        heard = named((await client.events())[story:], "botTtsText")
        assert "".join(word["text"] for word in heard).strip() == report["heard"].strip()

        # It asks for an answer in text alone, and for none.
        bot.model.script(["Only to read."])
        client.at = len(await client.events())
        await client.do("client.sendText('Write it.', {audio_response: false})")
        shown = await client.expect("botOutput")
        assert (shown["text"], shown["will_be_spoken"]) == ("Only to read.", False)
        bot.model.script(["You said a thing."])
        await client.do("client.sendText('A thing.', {run_immediately: false})")
        await client.do("client.sendText('What did I say?')")
        await client.expect("userLlmText", "data.text === 'A thing. What did I say?'")
        await client.expect("botTtsText", "data.text.includes('thing')")
        heard = named((await client.events())[story:], "botTtsText")
        assert "read" not in "".join(word["text"] for word in heard)

        # The application's own messages.
        assert await client.do("client.sendClientRequest('double', {number: 21})") == {"doubled": 42}
        unknown = await client.do("client.sendClientRequest('dance', {})")
        assert "dance" in unknown["rejected"]["error"]
        failed = await client.do("client.sendClientRequest('double', {})")
        assert failed["rejected"]["error"] == "double failed; the server's log says why"
        await client.do("client.sendClientMessage('note', {kept: true})")
        await client.do("client.sendDTMF('1#')")
        await client.do("client.sendUIEvent('click', 'world')")
        assert await client.expect("serverMessage", "data.hello") == {"hello": "world"}
        await client.since(story, "userMuteStarted")
        await client.since(story, "userMuteStopped")
        measured = {"ttfb": [{"processor": "model", "value": 0.25}]}
        assert await client.since(story, "metrics", "data.ttfb?.[0].value === 0.25") == measured
        assert bot.notes == [{"kept": True}]
        keys = [frame.button.value for frame in bot.inbox.received if isinstance(frame, InputDTMFFrame)]
        assert keys == ["1", "#"]

        # A tool that the client answers.
        bot.model.script(tool_calls(("ask_colour", '{"thing": "sky"}', "c1")), ["It is", " blue."])
        await client.page.evaluate(
            """client.registerFunctionCallHandler(
                "ask_colour", async ({ arguments: { thing } }) => `${thing}: blue`)"""
        )
        await client.do("client.sendText('What colour is the sky?')")
        assert (await client.expect("llmFunctionCallStarted"))["function_name"] == "ask_colour"
        begun = await client.expect("llmFunctionCallInProgress")
        assert (begun["tool_call_id"], begun["arguments"]) == ("c1", {"thing": "sky"})
        stopped = await client.expect("llmFunctionCallStopped")
        assert (stopped["tool_call_id"], stopped["cancelled"]) == ("c1", False)
        assert "result" not in stopped
        await client.expect("botTtsText", "data.text.includes('blue')")
        assert bot.model.requests[-1].messages[-1]["content"] == "sky: blue"

        # It has the bot leave: the session ends, and the client does not come back.
        await client.do("client.disconnectBot()")
        await client.expect("botDisconnected")
        await client.expect("disconnected")
        await no_sessions(app)
        assert bot.sessions == 1


async def test_the_client_leaves_and_comes_again(chromium: str, client_page: Path, burst: Path) -> None:
    bot = Bot()
    app = create_app(bot.run, max_sessions=1)
    async with (
        bot.model.serving(),
        serving(app) as url,
        browsing(chromium, burst, bypass_csp=True) as browser,
        client_at(browser, url, client_page) as client,
    ):
        for times in (1, 2):
            assert (await client.do("connect()"))["version"] == VERSION
            assert bot.sessions == times
            await client.do("client.disconnect()")
            await client.expect("disconnected")
            await no_sessions(app)


async def test_by_websocket(chromium: str, client_page: Path, burst: Path) -> None:
    bot = Bot()
    app = create_app(bot.run, run_socket_bot=bot.run)
    async with (
        bot.model.serving(),
        serving(app) as url,
        browsing(chromium, burst, bypass_csp=True) as browser,
        client_at(browser, url, client_page, "websocket") as client,
    ):
        bot.model.script(["It was", " loud."], [LONG])
        assert (await client.do("connect()"))["version"] == VERSION
        await client.expect("userTranscript", "data.final && data.text === 'A loud sound.'")
        await client.expect("botOutput", "data.spoken_status === 'completed' && data.text === 'It was loud.'")
        await client.expect("botStoppedSpeaking")
        await client.do("client.sendText('Tell me a long story.')")
        story = client.at
        await client.expect("botTtsText", "data.text.includes('number')")
        assert await client.do("client.sendClientRequest('interrupt', {level: 'speech'})") == {}
        report = await client.since(story, "serverMessage", "data.reason === 'client_request'")
        assert (report["level"], LONG.startswith(report["heard"])) == ("speech", True)
        await client.since(story, "botOutput", "!data.will_be_spoken && data.text.includes('number 59')")
        await client.do("client.disconnectBot()")
        await client.expect("disconnected")
        await no_sessions(app)
        assert bot.sessions == 1


@pytest.mark.local_models
async def test_a_voice_is_understood_by_the_default_bot(
    chromium: str, client_page: Path, tmp_path: Path
) -> None:
    microphone = recorded_voice(tmp_path / "voice.wav")
    async with (
        command() as url,
        browsing(chromium, microphone, bypass_csp=True) as browser,
        client_at(browser, url, client_page) as client,
    ):
        await client.do("connect()")
        said = await client.expect("userLlmText", "/consider how much there might be/i.test(data.text)")
        await client.expect("botStartedSpeaking")
        await client.expect("botOutput", "data.spoken_status === 'in-progress'")
        assert await client.do("client.sendClientRequest('interrupt', {})") == {}
        await client.expect("serverMessage", "data.type === 'interruption' && data.response_id")
        finals = [d for d in named(await client.events(), "userTranscript") if d["final"]]
        assert " ".join(d["text"] for d in finals).startswith(said["text"])
        await client.do("client.disconnectBot()")
        await client.expect("botDisconnected")
