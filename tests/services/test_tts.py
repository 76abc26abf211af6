"""Stock Pipecat text-to-speech services, hosted, against servers that speak their providers' protocols."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.cartesia.tts import CartesiaTTSService
from pipecat.services.deepgram.tts import DeepgramTTSService
from pipecat.services.elevenlabs.tts import ElevenLabsTTSService
from pipecat.services.neuphonic.tts import NeuphonicTTSService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.services.rime.tts import RimeTTSService
from pipecat.services.together.tts import TogetherTTSService
from pipecat.services.xai.tts import XAITTSService

from bargein.pipeline import Level, Processor
from bargein.pipeline.frames import LLMTextFrame
from bargein.pipeline.testing import PipelineTest
from bargein.processors.context import INTERRUPTED_MARK, SPEECH_STOPPED_MARK, Context
from bargein.processors.llm import LLM
from bargein.processors.tts import Sentences
from bargein.transports.output import AudioOutput

from ..servers import openai_audio, speech
from ..servers.cartesia_contexts_server import CartesiaContextsServer
from ..servers.deepgram_server import DeepgramTTSServer
from ..servers.elevenlabs_server import ElevenLabsServer
from ..servers.faults import Fault
from ..servers.neuphonic_server import NeuphonicServer
from ..servers.openai_audio import OpenAIAudioServer
from ..servers.openai_server import OpenAIServer
from ..servers.rime_server import RimeServer
from ..servers.together_server import TogetherServer
from ..servers.xai_server import XAIServer
from .bots import (
    LIBRARY_WARNINGS,
    LONG,
    NEXT,
    RATE,
    WAIT_S,
    Bot,
    Loudspeaker,
    Tap,
    closing_client,
    outcomes,
    until,
)

pytestmark = [pytest.mark.real_time, *LIBRARY_WARNINGS]


class Stream(Protocol):
    """A text at the provider, and how its speech ended."""

    @property
    def outcome(self) -> asyncio.Future[str]: ...


class Server(Protocol):
    """What the tests need of a provider's server."""

    chunk_s: float

    @property
    def spoken(self) -> Sequence[Stream]: ...
    def serving(self) -> AbstractAsyncContextManager[Any]: ...


@dataclass(frozen=True)
class Voice:
    """A service and its provider.

    Attributes:
        sound: How the provider speaks a text, s16le bytes at `RATE`.
        word_ms: How long it speaks a word of the tests' long answer, if it tells when words are spoken.
        chunk_s: A pace at which an answer can be interrupted before all of its audio is made.
    """

    server: Callable[[], Server]
    service: Callable[[Any], FrameProcessor]
    sound: Callable[[str], bytes] = lambda text: speech.voice_of(text, RATE)
    word_ms: float | None = speech.WORD_MS
    chunk_s: float = 0.04


VOICES = {
    "deepgram": Voice(
        DeepgramTTSServer,
        lambda server: DeepgramTTSService(api_key="k", base_url=server.ws_url),
        word_ms=None,
    ),
    "cartesia": Voice(
        CartesiaContextsServer,
        lambda server: CartesiaTTSService(
            api_key="k",
            url=f"{server.ws_url}/tts/websocket",
            settings=CartesiaTTSService.Settings(voice="v"),
        ),
    ),
    "elevenlabs": Voice(
        ElevenLabsServer,
        lambda server: ElevenLabsTTSService(
            api_key="k", url=server.ws_url, settings=ElevenLabsTTSService.Settings(voice="v")
        ),
    ),
    "rime": Voice(
        RimeServer,
        lambda server: RimeTTSService(
            api_key="k", url=f"{server.ws_url}/ws3", settings=RimeTTSService.Settings(voice="v")
        ),
    ),
    "neuphonic": Voice(
        NeuphonicServer,
        lambda server: NeuphonicTTSService(
            api_key="k", url=server.ws_url, sample_rate=RATE, settings=NeuphonicTTSService.Settings(voice="v")
        ),
        word_ms=None,
    ),
    "together": Voice(
        TogetherServer,
        lambda server: TogetherTTSService(
            api_key="k", url=f"{server.ws_url}/v1/audio/speech/websocket", sample_rate=RATE
        ),
        word_ms=None,
    ),
    "xai": Voice(
        XAIServer,
        lambda server: XAITTSService(api_key="k", base_url=f"{server.ws_url}/v1/tts"),
    ),
    "openai": Voice(
        OpenAIAudioServer,
        lambda server: OpenAITTSService(api_key=openai_audio.KEY, base_url=server.base_url),
        sound=openai_audio.voice_of,
        word_ms=None,
        chunk_s=0.03,
    ),
}

IGNORING_GARBAGE = [VOICES[name] for name in ("deepgram", "together", "xai")]
SOCKETS = {name: voice for name, voice in VOICES.items() if name != "openai"}
sockets = pytest.mark.parametrize("voice", SOCKETS.values(), ids=SOCKETS)
voices = pytest.mark.parametrize("voice", VOICES.values(), ids=VOICES)
levels = pytest.mark.parametrize("level", Level)

SHORT = "Good morning. How are you today?"


@dataclass
class Speaker(Bot):
    """A bot whose voice is the service under test, with its provider's server."""

    server: Any
    tap: Tap

    def ask(self, answer: str) -> None:
        self.tap.audio.clear()
        super().ask(answer)


@asynccontextmanager
async def talking(voice: Voice, server: Any = None, *before: Processor) -> AsyncIterator[Speaker]:
    server = server or voice.server()
    model, context, output = OpenAIServer(), Context(), AudioOutput(RATE)
    async with server.serving(), model.client() as client:
        llm, service = LLM(client, "m"), voice.service(server)
        tap = Tap()
        test = PipelineTest(context.user, llm, context.assistant, *before, service, tap, output)
        speaker = Loudspeaker(output)
        async with closing_client(service), test, speaker.playing():
            yield Speaker(test, model, context, speaker, server, tap)
            assert test.stats.undead == 0
        if isinstance(server, speech.SpeechProvider):
            await until(lambda: server.open == 0)


async def _next_answer_is_said(bot: Speaker, voice: Voice) -> None:
    bot.server.chunk_s = 0.0
    bot.ask(NEXT)
    await bot.said()
    assert bot.tap.audio == voice.sound(NEXT)
    assert bot.speaker.has_played(voice.sound(NEXT))
    assert bot.last_message == {"role": "assistant", "content": NEXT}


@voices
async def test_an_answer_is_said_and_heard(voice: Voice) -> None:
    async with talking(voice) as bot:
        for answer in (SHORT, NEXT):
            bot.ask(answer)
            await bot.said()
            assert bot.tap.audio == bot.speaker.played
            assert bot.last_message == {"role": "assistant", "content": answer}
        assert bot.speaker.played == voice.sound(NEXT)
        assert await outcomes(s.outcome for s in bot.server.spoken) == ["finished"] * len(bot.server.spoken)


@voices
async def test_a_full_interruption_ends_the_speech_here_and_there(voice: Voice) -> None:
    async with talking(voice) as bot:
        bot.server.chunk_s = voice.chunk_s
        bot.ask(LONG)
        await bot.speaker.until_played(350)
        heard_ms = len(bot.speaker.played) / RATE * 500
        report = await bot.interrupt(Level.FULL)
        made = len(bot.tap.audio)
        assert LONG.startswith(report.heard)
        if voice.word_ms is not None:
            assert len(report.heard.split()) in (heard_ms // voice.word_ms, heard_ms // voice.word_ms + 1)
        assert report.heard
        ends = await outcomes(s.outcome for s in bot.server.spoken)
        assert ends[-1] in ("cancelled", "closed")
        heard = report.heard.rstrip()
        assert bot.last_message["content"] == (heard + INTERRUPTED_MARK if heard else "Tell me.")
        assert len(bot.tap.audio) == made
        await _next_answer_is_said(bot, voice)


@voices
async def test_a_speech_only_interruption_ends_the_speech_and_leaves_the_text(voice: Voice) -> None:
    async with talking(voice) as bot:
        bot.server.chunk_s = voice.chunk_s
        bot.model.token_s = 0.02
        bot.ask(LONG)
        await bot.speaker.until_played(350)
        report = await bot.interrupt(Level.SPEECH)
        made, asked = len(bot.tap.audio), len(bot.server.spoken)
        assert LONG.startswith(report.heard)
        assert (await outcomes(s.outcome for s in bot.server.spoken))[-1] in ("cancelled", "closed")
        assert await asyncio.wait_for(bot.model.requests[0].outcome, WAIT_S) == "finished"
        await until(lambda: LONG.split()[-1] in bot.last_message["content"])
        shown = bot.last_message["content"]
        assert shown.replace(SPEECH_STOPPED_MARK, "").split() == LONG.split()
        assert (len(bot.tap.audio), len(bot.server.spoken)) == (made, asked)
        bot.model.token_s = 0.0
        await _next_answer_is_said(bot, voice)


@voices
@levels
async def test_interrupted_before_the_first_sound(voice: Voice, level: Level) -> None:
    async with talking(voice) as bot:
        bot.server.chunk_s = 1e6
        bot.ask(NEXT)
        await until(lambda: bot.server.spoken)
        assert (await bot.interrupt(level)).heard == ""
        assert await outcomes(s.outcome for s in bot.server.spoken) != ["finished"]
        assert not bot.tap.audio
        await _next_answer_is_said(bot, voice)


@voices
@levels
async def test_interrupted_over_and_over(voice: Voice, level: Level) -> None:
    async with talking(voice) as bot:
        for _ in range(5):
            bot.server.chunk_s = voice.chunk_s
            bot.ask(LONG)
            await bot.speaker.until_played(50)
            await bot.interrupt(level)
        assert bot.test.stats.interruptions == 5
        await _next_answer_is_said(bot, voice)
        ends = await outcomes(s.outcome for s in bot.server.spoken)
        assert ends[-1] == "finished"
        assert len([end for end in ends if end != "finished"]) >= 5


@sockets
@levels
async def test_audio_that_comes_after_the_cancellation_is_not_heard(voice: Voice, level: Level) -> None:
    async with talking(voice) as bot:
        bot.server.chunk_s = voice.chunk_s
        bot.server.cancels_late = True
        bot.ask(LONG)
        await bot.speaker.until_played(150)
        await bot.interrupt(level)
        await _next_answer_is_said(bot, voice)


@sockets
@pytest.mark.parametrize("fault", [Fault.CUT, Fault.GARBAGE])
async def test_a_broken_connection_is_made_anew(voice: Voice, fault: Fault) -> None:
    async with talking(voice) as bot:
        bot.server.faults.plan(fault)
        bot.ask(LONG)
        if fault is Fault.CUT or voice not in IGNORING_GARBAGE:
            await until(lambda: bot.server.connections >= 2)
        await bot.take_errors()
        await bot.interrupt(Level.FULL)
        await _next_answer_is_said(bot, voice)
        await bot.take_errors()  # a service may tell late that what broke had no sound


@sockets
async def test_an_answer_that_breaks_off_does_not_keep_the_next_one(voice: Voice) -> None:
    async with talking(voice) as bot:
        bot.server.faults.plan(Fault.CUT)
        bot.ask(LONG)
        await until(lambda: bot.server.connections >= 2)
        await bot.said()
        await _next_answer_is_said(bot, voice)
        await bot.take_errors()


@sockets
@pytest.mark.parametrize("fault", [Fault.RATE_LIMITED, Fault.BROKEN])
async def test_a_refused_connection_is_told_and_tried_again(voice: Voice, fault: Fault) -> None:
    server: Any = voice.server()
    server.refusals.plan(fault)
    async with talking(voice, server) as bot:
        assert fault.value in " ".join(await bot.take_errors())
        await _next_answer_is_said(bot, voice)


@sockets
async def test_a_provider_that_hangs_holds_nobody_up(voice: Voice) -> None:
    async with talking(voice) as bot:
        bot.server.faults.plan(Fault.HANG)
        bot.ask(LONG)
        await until(lambda: bot.server.spoken)
        await bot.interrupt(Level.FULL)
        await _next_answer_is_said(bot, voice)


@voices
async def test_a_slow_provider_is_waited_for(voice: Voice) -> None:
    async with talking(voice) as bot:
        bot.server.chunk_s = 2 * voice.chunk_s
        bot.ask(NEXT)
        sound = voice.sound(NEXT)
        await bot.speaker.until_played(len(sound) / RATE * 500)
        assert bot.speaker.played == sound
        assert bot.last_message == {"role": "assistant", "content": NEXT}


@voices
async def test_sentences_cut_by_ours_are_said(voice: Voice) -> None:
    async with talking(voice, None, Sentences()) as bot:
        bot.ask(SHORT)
        await bot.said()
        assert bot.last_message == {"role": "assistant", "content": SHORT}
        bot.server.chunk_s = voice.chunk_s
        bot.ask(LONG)
        await bot.speaker.until_played(50)
        report = await bot.interrupt(Level.FULL)
        assert LONG.startswith(report.heard)
        await _next_answer_is_said(bot, voice)


@voices
@levels
async def test_what_must_be_said_is_said_through_an_interruption(voice: Voice, level: Level) -> None:
    async with talking(voice) as bot:
        bot.server.chunk_s = voice.chunk_s
        bot.test.session.say(NEXT, critical=True)
        await bot.speaker.until_played(50)
        await bot.interrupt(level)
        await bot.said()
        assert bot.speaker.played == voice.sound(NEXT)
        assert bot.last_message == {"role": "assistant", "content": NEXT}
        await _next_answer_is_said(bot, voice)


@voices
async def test_the_end_of_the_session_waits_for_what_is_being_said(voice: Voice) -> None:
    async with talking(voice) as bot:
        bot.ask(NEXT)
        await bot.speaker.until_played(50)
        bot.test.session.end()
        async with asyncio.timeout(WAIT_S):
            await bot.test.session.finished()
        assert bot.speaker.played == voice.sound(NEXT)


@voices
async def test_a_cancelled_session_ends_the_speech(voice: Voice) -> None:
    async with talking(voice) as bot:
        bot.server.chunk_s = voice.chunk_s
        bot.ask(LONG)
        await bot.speaker.until_played(50)
        bot.test.session.cancel()
    assert "finished" not in (await outcomes(s.outcome for s in bot.server.spoken))[-1:]


@voices
async def test_text_of_the_answer_is_shown_while_it_is_said(voice: Voice) -> None:
    async with talking(voice) as bot:
        bot.ask(SHORT)
        await bot.said()
        assert "".join(f.text for f in bot.test.received(LLMTextFrame)) == SHORT
