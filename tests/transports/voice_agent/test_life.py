"""The life of a connection, over real sockets: a real server, a real client library."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
from openai import AsyncOpenAI
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from bargein.pipeline import InputRejected
from bargein.transports.voice_agent.protocol import MAX_AUDIO_BYTES, MAX_MESSAGE_BYTES
from bargein.transports.websocket import WebSocketConnection

from ...servers.openai_server import OpenAIServer
from ..websocket.bot import Bots
from ..websocket.served import WAIT_S, Client, Served, served
from .agent import RECORDING, WORDS, Agent

pytestmark = pytest.mark.real_time

LONG = WORDS * 30


class Agents(Bots):
    """A new agent for each connection, all with one model server."""

    def __init__(self, client: AsyncOpenAI, **options: Any) -> None:
        super().__init__()
        self.agent = Agent(client, **options)
        self.sessions = self.agent.sessions

    async def run(self, connection: WebSocketConnection) -> None:
        self.connections.append(connection)
        await self.agent.run(connection)


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[Served, OpenAIServer]]:
    async with OpenAIServer().serving() as model:
        model.token_s = 0.005
        model.answer = lambda messages: list(LONG)
        client = AsyncOpenAI(base_url=model.base_url, api_key="secret")
        async with client, served(Agents(client, **options)) as server:
            yield server, model


@asynccontextmanager
async def joined(server: Served, path: str = "/ws/voice") -> AsyncIterator[Client]:
    async with connect(server.url + path, max_size=None, compression=None) as connection:
        client = Client(connection)
        try:
            yield client
        finally:
            await client.leave()


async def ended(model: OpenAIServer, count: int) -> str:
    await model.came(count)
    return await asyncio.wait_for(asyncio.shield(model.requests[count - 1].outcome), WAIT_S)


@pytest.mark.parametrize(
    ("path", "audio_format"), [("/ws/voice", "wav"), ("/ws/voice/mp3", "mp3"), ("/ws/voice/opus", "opus")]
)
async def test_the_path_chooses_the_format(path: str, audio_format: str) -> None:
    async with serving() as (server, _), joined(server, path) as client:
        await client.say({"type": "transcript", "text": "hello"})
        assert (await client.expect("audio_chunk"))["format"] == audio_format


async def test_a_client_that_leaves_stops_everything() -> None:
    async with serving(transcripts=[("x", 60.0)]) as (server, model):
        async with joined(server) as client:
            await client.say({"type": "transcript", "text": "hello"})
            await client.expect("audio_chunk")
            await client.say({"type": "audio", "data": RECORDING})
            await client.say({"type": "transcript", "text": "queued behind the recording"})
            await client.expect("speech_interrupted")
        assert await ended(model, 1) == "closed"
        await server.empty()
        assert len(model.requests) == 1  # what waited is not asked any more
        bots = cast(Agents, server.bots)
        assert not bots.sessions[0].tasks
        async with joined(server) as client:  # and nothing crashed
            await client.say({"type": "transcript", "text": "hello"})
            await client.expect("audio_chunk")


async def test_a_client_that_leaves_while_it_is_answered_aborts_the_model() -> None:
    async with serving() as (server, model):
        async with joined(server) as client:
            await client.say({"type": "transcript", "text": "hello"})
            await client.expect("text_delta")
        assert await ended(model, 1) == "closed"
        await server.empty()


async def test_an_input_that_waits_is_rejected_when_the_client_leaves() -> None:
    async with serving() as (server, _):
        async with joined(server) as client:
            await client.say({"type": "transcript", "text": "hello"})
            await client.expect("audio_chunk")
            bots = cast(Agents, server.bots)
            waiting = bots.sessions[0].send_text("and this")
        await server.empty()
        with pytest.raises(InputRejected):
            await waiting


async def test_a_transcript_that_comes_late_is_asked_of_nobody() -> None:
    async with serving(transcripts=[("too late", 0.2)]) as (server, model):
        async with joined(server) as client:
            await client.say({"type": "audio", "data": RECORDING})
        await server.empty()
        assert model.requests == []


async def test_a_second_client_gets_nothing_of_the_first_ones_answer() -> None:
    async with serving() as (server, model):
        async with joined(server) as first:
            await first.say({"type": "transcript", "text": "hello"})
            await first.expect("audio_chunk")
            async with joined(server) as second:
                await first.leave()
                assert await ended(model, 1) == "closed"
                await second.say({"type": "interrupt"})
                await second.expect("speech_interrupted")
                assert [m["type"] for m in second.got if isinstance(m, dict)] == ["speech_interrupted"]
                await second.say({"type": "transcript", "text": "and me?"})
                await second.expect("audio_chunk")
                assert model.requests[1].messages[1:] == [{"role": "user", "content": "and me?"}]
        await server.empty()


async def test_audio_over_the_limit_is_answered_and_a_flood_ends_it() -> None:
    async with serving() as (server, _):
        async with joined(server) as client:
            data = b64encode(bytes(MAX_AUDIO_BYTES + 3)).decode()
            await client.say({"type": "audio", "data": data})
            assert "too large" in (await client.expect("error"))["error"]
            await client.say({"type": "transcript", "text": "hello"})
            await client.expect("audio_chunk")
            with suppress(ConnectionClosed):  # in the middle of it
                await client.connection.send("x" * (MAX_MESSAGE_BYTES + 1))
            assert (await client.closed())[0] == 1009
        await server.empty()


async def test_a_burst_of_text_over_a_socket_is_no_slow_client() -> None:
    async with serving() as (server, model), joined(server) as client:
        model.token_s = 0.0
        model.answer = lambda messages: ["x "] * 1_000
        await client.say({"type": "transcript", "text": "hello"})
        complete = await client.expect("response_complete")
        assert complete["text"] == "x " * 1_000
        assert len(client.all("text_delta")) == 1_000


async def test_a_bot_that_fails_is_told_in_the_protocols_own_form() -> None:
    class Failing(Bots):
        async def run(self, connection: WebSocketConnection) -> None:
            raise RuntimeError("a secret detail")

    async with served(Failing()) as server, joined(server) as client:
        error = await client.expect("error")
        assert "secret" not in json.dumps(error)
        assert error["fatal"] is True
        await client.closed()
        await server.empty()
