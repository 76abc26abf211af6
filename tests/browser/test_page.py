"""The page in Chromium with a scripted bot: what the user sees and what the buttons do."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from pipecat.frames.frames import LLMMessagesAppendFrame
from pipecat.processors.frameworks.rtvi.frames import RTVIServerMessageFrame
from playwright.async_api import Locator, Page, expect

from bargein import Processor, SpeechHoldFrame, SpeechInterruptedFrame, SpeechReleaseFrame, handles
from bargein.bots.server import create_app
from bargein.pipeline.frames import BotStartedSpeakingFrame, FrameDirection
from bargein.transports.rtvi import Message, rtvi
from bargein.transports.webrtc import WebRTCConnection

from . import scripted_bot
from .harness import BLOCK, PATIENCE_MS, Measurement, browsing, serving, visit, write_wav

LONG = " ".join(f"word{number}" for number in range(200))
# Of `LONG` so much is left to be said when a test stops it: silence sooner than that was made by the stop.
LEFT_S = 190 * scripted_bot.WORD_S

pytestmark = [pytest.mark.browser, pytest.mark.real_time]


@pytest.fixture
def silence(tmp_path: Path) -> Path:
    """A minute of silence for a microphone."""
    return write_wav(tmp_path / "silence.wav", bytes(60 * 2 * 48_000))


@pytest.fixture
def bursts(tmp_path: Path) -> Path:
    """For a microphone: a voice's tone for 0.7 of every four seconds, first two seconds after the start."""
    seconds = np.arange(40 * 48_000) / 48_000
    voice = sum(np.sin(2 * np.pi * 140 * harmonic * seconds) / harmonic for harmonic in range(1, 20))
    talking = (seconds % 4 >= 2) & (seconds % 4 < 2.7)
    return write_wav(tmp_path / "bursts.wav", (6000 * voice * talking).astype("<i2").tobytes())


def bot(max_sessions: int = 4) -> FastAPI:
    return create_app(scripted_bot.run, max_sessions=max_sessions)


async def settled(app: FastAPI, sessions: int) -> None:
    """Wait until no more than so many sessions are left."""
    async with asyncio.timeout(PATIENCE_MS / 1000):
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
    async with (
        serving(create_app(partial(scripted_bot.run, text=LONG))) as url,
        browsing(chromium, silence) as browser,
    ):
        tab = await visit(browser, url)
        keys = tab.page.keyboard
        await keys.press("Tab")
        await expect(button(tab.page, "Connect")).to_be_focused()
        await keys.press("Enter")
        await expect(tab.page.get_by_role("textbox", name="Message")).to_be_focused()
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
        await tab.page.evaluate(
            """() => {
                window.interims = [];
                const note = () => interims.push(document.querySelector("li.user .interim")?.textContent);
                new MutationObserver(note).observe(document.body, { childList: true, subtree: true });
            }"""
        )
        await tab.connect()
        await expect(tab.page.locator("li.user .final")).to_have_text("A loud sound.")
        assert "a loud" in await tab.page.evaluate("interims")
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
        await expect(early.page.get_by_role("textbox", name="Message")).to_be_disabled()
        await button(late.page, "Connect").click()
        assert "cannot be reached" in await notice(late.page, "unreachable")


async def test_the_bot_ends_the_conversation(chromium: str, silence: Path) -> None:
    enough = asyncio.Event()

    async def run(connection: WebRTCConnection) -> None:
        bot = asyncio.ensure_future(scripted_bot.run(connection))
        await enough.wait()
        connection.lose("enough")
        await bot

    async with serving(create_app(run)) as url, browsing(chromium, silence) as browser:
        tab = await visit(browser, url)
        await tab.connect()
        enough.set()
        assert "The conversation is over" in await notice(tab.page, "over")
        assert tab.problems == []


async def test_the_network_is_gone(chromium: str, silence: Path) -> None:
    # What Chromium says of a connection whose packets do not arrive any more, without waiting for it.
    async with serving(bot()) as url, browsing(chromium, silence, bypass_csp=True) as browser:
        tab = await visit(browser, url, measuring=True)
        await tab.connect()
        await tab.page.evaluate(
            """() => {
                const [peer] = __kept.peers;
                Object.defineProperty(peer, "connectionState", { value: "failed" });
                peer.dispatchEvent(new Event("connectionstatechange"));
            }"""
        )
        assert "Check your network, then connect again" in await notice(tab.page, "lost")
        await expect(button(tab.page, "Connect")).to_be_enabled()
        assert tab.problems == []


async def test_it_is_told_why_the_bot_ends_the_conversation(chromium: str, silence: Path) -> None:
    class Farewell(Processor):
        @handles(LLMMessagesAppendFrame)
        def leave(self, frame: LLMMessagesAppendFrame) -> None:
            self.push(RTVIServerMessageFrame({"type": "ending", "reason": "it has lasted 900 s"}))
            self.session.end()

    async def run(connection: WebRTCConnection) -> None:
        await scripted_bot.run(connection, scripted_bot.ANSWER, Farewell())

    async with serving(create_app(run)) as url, browsing(chromium, silence) as browser:
        tab = await visit(browser, url)
        await tab.connect()
        await tab.type("hello")
        told = await notice(tab.page, "over")
        assert "The bot has ended it: it has lasted 900 s. Connect to begin a new one." in told
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
@pytest.mark.parametrize("width", [360, 390, 1280])
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


def onsets(levels: Measurement) -> list[float]:
    """The samples at which the microphone became loud after half a second of quiet."""
    loud = levels.frames[levels.microphone > 0.02]
    apart = np.diff(loud, prepend=-np.inf) > levels.rate / 2
    return [float(frame) for frame in loud[apart] if frame - levels.frames[0] > levels.rate / 2]


async def test_the_voice_is_ducked_at_once_and_comes_back(chromium: str, bursts: Path) -> None:
    async with (
        serving(create_app(partial(scripted_bot.run, text=LONG))) as url,
        browsing(chromium, bursts, bypass_csp=True) as browser,
    ):
        tab = await visit(browser, url, measuring=True)
        await tab.connect()
        await tab.measure()
        await tab.type("hello")
        await tab.wait_for_state("speaking")
        await tab.page.evaluate("__mark('speaking')")
        await tab.page.wait_for_function(
            "() => window.__measured().marks.filter(([name]) => name === 'volume 1.00').length >= 2"
        )
        levels = await tab.measured()
        assert tab.problems == []
    volumes = [(1.0, 0.0), *levels.volumes()]
    starts = [at for (before, _), (after, at) in pairwise(volumes) if after < before == 1]
    begins = starts[1]  # the first burst may have begun before the bot's speech
    onset = max(sample for sample in onsets(levels) if sample <= begins)
    assert onset > levels.at("speaking")
    low = next(at for volume, at in volumes if volume == 0.2 and at >= begins)
    up = next(at for volume, at in volumes if volume > 0.2 and at > low)
    ms = {name: 1000 * (at - onset) / levels.rate for name, at in [("begins", begins), ("is low", low)]}
    ms["comes back"] = 1000 * (up - onset) / levels.rate
    print("the duck, in ms from the onset:", {name: round(at, 1) for name, at in ms.items()})
    assert ms["begins"] < 500, "about 30 ms; a slow machine may take its time"
    quiet = levels.frames[(levels.microphone > 0.02) & (levels.frames < up)][-1] + BLOCK
    assert up > quiet, "it lasts until the user has paused"


async def test_what_ducks_and_what_does_not(chromium: str) -> None:
    """The same blocks of sound, of the level given in dBFS, at any speed."""
    async with serving(bot()) as url, browsing(chromium) as browser:
        tab = await visit(browser, url)
        await tab.page.evaluate(
            """async () => {
                const { Duck } = await import("/duck.js");
                window.voice = { volume: 0 };
                window.duck = new Duck(voice);
                window.hear = (db, ms) => {
                    const volumes = [];
                    for (let at = 0; at < ms; at += 5) {
                        duck.hear(10 ** (db / 10), 5);
                        volumes.push(voice.volume);
                    }
                    return volumes;
                };
            }"""
        )

        async def hear(db: float, ms: int) -> list[float]:
            volumes: list[float] = await tab.page.evaluate("([db, ms]) => hear(db, ms)", [db, ms])
            return volumes

        async def do(action: str) -> None:
            await tab.page.evaluate(f"() => {{ {action} }}")

        assert set(await hear(-70, 1000) + await hear(-25, 500)) == {1}, "the bot does not speak"
        await hear(-70, 3000)
        await do("duck.speaking = true")
        assert set(await hear(-70, 500) + await hear(-20, 10) + await hear(-70, 500)) == {1}, "a click"
        volumes = await hear(-25, 100)
        assert volumes.index(0.2) * 5 < 50
        assert max(abs(np.diff(volumes))) < 0.3, "no step that clicks"
        assert set(await hear(-70, 250)) == {0.2}, "a pause within speech"
        back = await hear(-70, 250)
        assert back[-1] == 1
        assert np.all(np.diff(back) >= 0)

        await hear(-25, 100)
        await do("duck.hold()")
        assert set(await hear(-25, 3000) + await hear(-70, 1000)) == {0.2}, "the server decides"
        await do("duck.release()")
        assert (await hear(-25, 500))[-1] == 1, "this sound has been judged"
        await hear(-70, 500)
        assert (await hear(-25, 200))[-1] == 0.2, "the next one has not"
        await do("duck.speaking = false")
        assert (await hear(-25, 200))[-1] == 1

        await hear(-70, 3000)
        await do("duck.speaking = true")
        for db in range(-70, -38):  # the bot's echo, a little louder with each syllable
            assert set(await hear(db, 200)) == {1}
        assert set(await hear(-34, 500)) == {1}, "not much louder than the echo"
        assert (await hear(-15, 100))[-1] == 0.2, "the user above it"
        noise = await hear(-15, 10_000)
        assert noise[-1] == 1, "the server has heard no speech"


async def test_an_interruption_by_the_server_flushes_what_is_on_the_way(chromium: str, silence: Path) -> None:
    async with (
        serving(create_app(partial(scripted_bot.run, text=LONG))) as url,
        browsing(chromium, silence) as browser,
    ):
        tab = await visit(browser, url)
        await tab.connect()
        await tab.type("hello")
        await expect(tab.page.locator("li.bot .heard")).to_contain_text("word1")
        await tab.page.evaluate(
            """() => {
                const voice = document.getElementById("voice");
                voice.onvolumechange = () => (document.body.dataset.muted += ` ${voice.muted}`);
                document.body.dataset.muted = "";
            }"""
        )
        await tab.type("again")  # what is typed interrupts, and nobody pressed Stop
        await expect(tab.page.locator("li.bot .note")).to_have_text("interrupted: you wrote")
        await expect(tab.page.locator("body")).to_have_attribute("data-muted", " true false")
        await expect(tab.page.locator("li.bot").nth(1).locator(".heard")).to_contain_text("word1")
        assert tab.problems == []


async def test_what_comes_too_late_changes_nothing(chromium: str, silence: Path) -> None:
    about = {"response_id": "r1"}
    late: list[Message] = [
        rtvi("bot-llm-started", {**about, "interruptible": True}),
        rtvi("bot-llm-text", {**about, "text": "late"}),
        rtvi("bot-tts-text", {**about, "text": "late", "heard": " ".join(LONG.split()[:150])}),
        rtvi("bot-llm-stopped", about),
        rtvi("server-message", {**about, "type": "state", "state": "speaking"}),
        rtvi("server-message", {**about, "type": "hold"}),
        rtvi(
            "server-message",
            {
                **about,
                "type": "interruption",
                "level": "speech",
                "reason": "late",
                "cut": ["r1"],
                "heard": "",
            },
        ),
        rtvi("server-message", {**about, "type": "state", "state": "listening"}),
    ]

    class Gossip(Processor):
        """Tells of the first answer again and again, once it was cut and when the next one begins."""

        def __init__(self, connection: WebRTCConnection) -> None:
            self.connection = connection
            self.cut = False
            self.rounds = 0

        @handles(SpeechInterruptedFrame)
        def tell(self, frame: SpeechInterruptedFrame, direction: FrameDirection) -> None:
            self.push(frame, direction)
            self.cut = self.cut or frame.response_id == "r1"
            asyncio.get_running_loop().call_soon(self.gossip)  # after the report

        @handles(BotStartedSpeakingFrame)
        def tell_again(self, frame: BotStartedSpeakingFrame, direction: FrameDirection) -> None:
            self.push(frame, direction)
            self.gossip()

        def gossip(self) -> None:
            if self.cut:
                self.rounds += 1
                for message in late:
                    self.connection.send(message)
                said = {"text": f"round {self.rounds}.", "final": True}
                self.connection.send(rtvi("user-transcription", said))

    async def run(connection: WebRTCConnection) -> None:
        await scripted_bot.run(connection, LONG, Gossip(connection))

    async with serving(create_app(run)) as url, browsing(chromium, silence) as browser:
        tab = await visit(browser, url)
        await tab.page.evaluate(
            """() => {
                window.states = [];
                new MutationObserver(() => states.push(document.body.dataset.state))
                    .observe(document.body, { attributeFilter: ["data-state"] });
            }"""
        )
        await tab.connect()
        await tab.type("hello")
        answers = tab.page.locator("li.bot")
        await expect(answers.locator(".heard")).to_contain_text("word1")
        await expect(answers).to_contain_text("word199")
        await tab.page.evaluate("states.length = 0")
        await button(tab.page, "Stop").click()
        await expect(answers.locator(".note")).to_have_text("interrupted: you pressed Stop")
        cut = await answers.inner_html()
        await expect(tab.page.locator("li.user").last).to_contain_text("round 1.")
        assert await answers.inner_html() == cut
        assert set(await tab.page.evaluate("states")) == {"listening"}
        # While the next answer is spoken, too.
        await tab.type("again")
        await tab.wait_for_state("speaking")
        await expect(tab.page.locator("li.user").last).to_contain_text("round 3.")
        await expect(answers).to_have_count(2)
        await expect(answers.last.locator(".heard")).to_contain_text("word3")
        assert await answers.first.inner_html() == cut
        assert set(await tab.page.evaluate("states")) == {"listening", "thinking", "speaking"}
        assert not await tab.page.evaluate("document.getElementById('voice').muted")
        assert tab.problems == []


async def test_a_voice_that_is_held_listens(chromium: str, silence: Path) -> None:
    decided = asyncio.Event()

    class Hesitant(Processor):
        """Holds the voice as soon as it sounds, until the test has decided."""

        @handles(BotStartedSpeakingFrame)
        async def hold(self, frame: BotStartedSpeakingFrame, direction: FrameDirection) -> None:
            self.push(frame, direction)
            self.broadcast(SpeechHoldFrame)
            await decided.wait()
            self.broadcast(SpeechReleaseFrame)

    async def run(connection: WebRTCConnection) -> None:
        await scripted_bot.run(connection, LONG, Hesitant())

    async with serving(create_app(run)) as url, browsing(chromium, silence) as browser:
        tab = await visit(browser, url)
        await tab.connect()
        await tab.type("hello")
        await tab.wait_for_state("held")
        await expect(tab.page.locator("#status-text")).to_have_text("Listening")
        await expect(button(tab.page, "Stop")).to_be_enabled()
        voice = tab.page.locator("#voice")
        await expect(voice).to_have_js_property("volume", 0.2)
        decided.set()
        await tab.wait_for_state("speaking")
        await expect(voice).to_have_js_property("volume", 1)
        await expect(tab.page.locator("li.bot .heard")).to_contain_text("word3")
        await button(tab.page, "Stop").click()
        await tab.wait_for_state("listening")
        assert tab.problems == []
