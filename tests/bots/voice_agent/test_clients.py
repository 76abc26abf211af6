"""Clients of the facade: they come, replace each other, leave, and are let go."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from fastapi import FastAPI, WebSocket
from openai import AsyncOpenAI
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bargein.bots.server import config
from bargein.bots.voice_agent import VoiceAgent
from bargein.bots.voice_agent.events import (
    AudioReceived,
    Disconnected,
    SpeechInterrupted,
    Text,
    Transcription,
)
from bargein.pipeline import InputRejected
from bargein.processors.services.openai_chat import ChatCompletions
from bargein.transports.voice_agent.output import NoTranscriber

from ...processors.fakes import FakeVoice
from ...servers.openai_server import OpenAIServer, Token
from ...transports.voice_agent.agent import RECORDING, PageWire
from .scripted import SECOND, Talk, doing, talking

WORDS: list[Token] = [f" Number {n}." for n in range(60)]


@asynccontextmanager
async def joined(talk: Talk) -> AsyncIterator[PageWire]:
    """A client in memory."""
    page = PageWire()
    serving = asyncio.create_task(talk.agent.handle_socket(page.websocket))
    await talk.until(lambda: talk.agent.connected or serving.done())
    try:
        yield page
    finally:
        page.leave()
        await serving


async def closed(page: PageWire) -> tuple[int, str]:
    """Wait for the close frame: its code and reason."""
    async with asyncio.timeout(60):
        while page.code is None:  # noqa: ASYNC110 - the wire tells nobody of it
            await asyncio.sleep(0.01)
    return page.code


async def test_what_a_client_says_and_hears() -> None:
    async with talking("And you?") as talk, joined(talk) as page:
        talk.server.script(["All", " is", " well."], ["Me too."])
        page.say(type="transcript", text="How are you?")
        assert (await page.expect("response_complete"))["text"] == "All is well."
        await page.expect("speech_stream_end")
        await asyncio.sleep(3)
        page.say(type="audio", data=RECORDING)
        assert (await page.expect("transcription_result"))["text"] == "And you?"
        assert (await page.expect("response_complete", 2))["text"] == "Me too."
        assert [text.text for text in talk.of(Text)][:3] == ["How are you?", "All is well.", "And you?"]
        assert talk.of(Transcription) == [Transcription("And you?")]
        assert [received.size for received in talk.of(AudioReceived)] == [3_200]
        assert not talk.sounds  # they went to the client
        await page.expect("audio_chunk", 2)
        assert talk.agent.speaking
        await talk.until(lambda: talk.names.count("speech_complete") == 2)
    assert talk.names.count("connected") == talk.names.count("disconnected") == 1


async def test_the_application_and_the_client_are_in_one_conversation() -> None:
    async with talking() as talk:
        talk.server.script(["Hello, Ann."], ["You are Ann."], ["Bye, Ann."])
        assert await talk.agent.send_text("I am Ann.") == "Hello, Ann."
        async with joined(talk) as page:
            answer = asyncio.create_task(talk.agent.send_text("Who am I?"))
            assert (await page.expect("response_complete"))["text"] == "You are Ann."
            assert await answer == "You are Ann."
        assert not talk.agent.connected
        assert await talk.agent.send_text("Bye.") == "Bye, Ann."
        assert len(talk.server.requests[2].messages) == 6
        assert talk.sounds


async def test_an_interruption_by_either_side_is_told_to_both() -> None:
    async with talking() as talk, joined(talk) as page:
        talk.server.answer = lambda messages: WORDS
        page.say(type="transcript", text="Count.")
        await page.expect("audio_chunk")
        talk.agent.interrupt_speech("user_clicked_stop")
        assert (await page.expect("speech_interrupted"))["reason"] == "user_clicked_stop"
        page.say(type="interrupt")
        await page.expect("speech_interrupted", 2)
        assert [e.reason for e in talk.of(SpeechInterrupted)] == ["user_clicked_stop", "client_request"]


async def test_disconnect_ends_everything_and_says_so() -> None:
    async with talking("Late.", stt_s=60.0) as talk, joined(talk) as page:
        talk.server.answer = lambda messages: WORDS * 10
        page.say(type="transcript", text="Count.")
        await page.expect("audio_chunk")
        waiting = asyncio.create_task(talk.agent.send_text("And then?"))
        late = asyncio.create_task(talk.agent.send_audio(SECOND, "pcm"))
        await asyncio.sleep(1)
        await talk.agent.disconnect()
        assert not talk.agent.connected
        assert not doing(talk.agent)
        for rejected in (waiting, late):
            with pytest.raises(InputRejected):
                await rejected
        assert talk.of(Disconnected) == [Disconnected("disconnected")]
        assert talk.server.requests[0].outcome.result() == "closed"
        spoken, requests = len(talk.voice.spoken), len(talk.server.requests)
        assert await closed(page) == (1000, "disconnected")
        await asyncio.sleep(60)
        assert (len(talk.voice.spoken), len(talk.server.requests)) == (spoken, requests)
        answer = talk.history[-2]["content"]
        assert answer.endswith("—")  # and no more of it than was heard
        assert len(answer) < len("".join(map(str, WORDS)))
        await talk.agent.disconnect()


async def test_a_second_client_gets_nothing_of_the_first_ones_answer() -> None:
    async with talking() as talk, joined(talk) as first:
        talk.server.answer = lambda messages: WORDS
        first.say(type="transcript", text="Count.")
        await first.expect("audio_chunk")
        second = PageWire()
        serving = asyncio.create_task(talk.agent.handle_socket(second.websocket))
        assert await closed(first) == (1000, "another client has connected")
        await talk.until(lambda: talk.names.count("connected") == 2)
        assert talk.server.requests[0].outcome.result() == "closed"
        await asyncio.sleep(10)
        assert second.told == []
        second.say(type="transcript", text="Again.")
        await second.expect("audio_chunk")
        assert talk.names.count("disconnected") == 1
        second.leave()
        await serving


async def test_a_client_that_leaves_stops_everything_and_the_agent_lives_on() -> None:
    async with talking() as talk:
        talk.server.answer = lambda messages: WORDS
        async with joined(talk) as page:
            page.say(type="transcript", text="Count.")
            await page.expect("audio_chunk")
        assert talk.server.requests[0].outcome.result() == "closed"
        assert talk.names[-2:] == ["disconnected", "listening"]
        talk.server.answer = lambda messages: ["Yes."]
        assert await talk.agent.send_text("There?") == "Yes."


async def test_destroy_lets_the_client_go() -> None:
    async with talking() as talk:
        async with joined(talk) as page:
            await talk.agent.destroy()
            assert await closed(page) == (1000, "the agent was destroyed")
        assert talk.names[-1] == "disconnected"


async def test_a_bot_that_hangs_up_closes_the_socket() -> None:
    async with talking() as talk, joined(talk) as page:
        talk.agent.session.end()
        assert await closed(page) == (1000, "the bot has ended it")


@pytest.mark.parametrize("speaks", [True, False])
async def test_a_recording_for_an_agent_that_hears_nothing(speaks: bool) -> None:
    voice = FakeVoice() if speaks else None
    async with talking(transcription_model=None, speech_model=voice) as talk, joined(talk) as page:
        page.say(type="audio", data=RECORDING)
        assert "transcription_model" in (await page.expect("error"))["error"]
        with pytest.raises(NoTranscriber):
            await talk.agent.send_audio(SECOND, "pcm")
        talk.server.script(["Yes."])
        page.say(type="transcript", text="There?")
        assert (await page.expect("response_complete"))["text"] == "Yes."


async def test_unknown_messages_are_ignored() -> None:
    async with talking() as talk, joined(talk) as page:
        page.say(type="video_frame", sessionId="s", sequence=1)
        page.say(type="client_ready", capabilities={})
        talk.server.script(["Yes."])
        page.say(type="transcript", text="There?")
        assert (await page.expect("response_complete"))["text"] == "Yes."
        assert "error" not in page.kinds


@pytest.mark.real_time
async def test_it_connects_to_a_server() -> None:
    """Over a real socket: the agent is the one that opens it."""
    got: list[str] = []
    reasons: list[str] = []

    async def page(connection: ServerConnection) -> None:
        await connection.send(json.dumps({"type": "transcript", "text": "hello"}))
        try:
            async for message in connection:
                got.append(json.loads(message)["type"])
                if got[-1] == "speech_stream_end":
                    await connection.send(json.dumps({"type": "interrupt"}))
        except ConnectionClosed:
            pass
        reasons.append(str(connection.close_reason))

    async with OpenAIServer().serving() as model, serve(page, "127.0.0.1", 0) as server:
        model.answer = lambda messages: ["All", " is", " well."]
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = AsyncOpenAI(base_url=model.base_url, api_key="secret")
        interrupted = asyncio.Event()
        async with client:
            chat = ChatCompletions(client, "m")
            async with VoiceAgent(model=chat, speech_model=FakeVoice(), endpoint=url) as agent:
                agent.on("speech_interrupted", lambda event: interrupted.set())
                await agent.connect()
                await asyncio.wait_for(interrupted.wait(), 60)
                await agent.disconnect()
                assert not agent.connected
        server.close()
        await server.wait_closed()
    assert got[0] == "stream_start"
    assert "audio_chunk" in got
    assert reasons == ["disconnected"]


@pytest.mark.real_time
async def test_it_is_served() -> None:
    """A real server, a real client, an agent for each connection."""
    async with OpenAIServer().serving() as model:
        model.answer = lambda messages: ["All", " is", " well."]
        client = AsyncOpenAI(base_url=model.base_url, api_key="secret")
        app = FastAPI()

        @app.websocket("/voice")
        async def voice(websocket: WebSocket) -> None:
            async with VoiceAgent(model=ChatCompletions(client, "m"), speech_model=FakeVoice()) as agent:
                await agent.handle_socket(websocket)

        async with client, served(app) as url, connect(f"{url}/voice", max_size=None) as page:
            await page.send(json.dumps({"type": "transcript", "text": "hello"}))
            kinds: list[str] = []
            async with asyncio.timeout(60):
                while "speech_stream_end" not in kinds:
                    kinds.append(json.loads(await page.recv())["type"])
            assert kinds.index("response_complete") < kinds.index("speech_stream_end")


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(config(app, *listener.getsockname()))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody of it
            await asyncio.sleep(0.01)
        try:
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


@pytest.mark.real_time
async def test_nobody_to_connect_to() -> None:
    async with OpenAIServer().serving() as model:
        client = AsyncOpenAI(base_url=model.base_url, api_key="secret")
        async with client:
            agent = VoiceAgent(model=ChatCompletions(client, "m"))
            async with agent:
                with pytest.raises(OSError, match="9"):
                    await agent.connect("ws://127.0.0.1:9")
                assert not agent.connected
