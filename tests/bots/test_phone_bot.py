"""The phone bot on a Twilio media stream, with local models; only the language model's words are scripted."""

from __future__ import annotations

import re

import numpy as np
import pytest
import soxr
from websockets.asyncio.client import connect

from bargein.bots import Bot, RunningBot, load_bot
from bargein.bots.app import run_session
from bargein.bots.parts import ServicePart, every
from bargein.bots.place import Shared
from bargein.transports.file import RATE, Samples, load_recording
from bargein.transports.websocket import WebSocketConnection

from ..processors.fakes import FakeVAD
from ..servers.openai_server import Messages, OpenAIServer
from ..transports.websocket import phones
from ..transports.websocket.bot import Bots
from ..transports.websocket.served import served
from .test_conversation import INTERRUPTION, LONG_ANSWER, QUESTION, SHORT_ANSWER

pytestmark = pytest.mark.real_time


class OneBot(Bots):
    """Runs a declared bot on each connection."""

    def __init__(self, running: RunningBot) -> None:
        super().__init__()
        self.running = running

    async def run(self, connection: WebSocketConnection) -> None:
        await run_session(self.running, connection)


def with_services(bot: Bot, services: RunningBot) -> RunningBot:
    """The bot, with these services in place of its own."""
    known = {type(part): opened for part, opened in services.shared.opened}
    shared = Shared(services.shared.new_vad, services.shared.end_of_turn)
    for part in every(bot.declaration.parts):
        if isinstance(part, ServicePart):
            shared.opened.append((part, known[type(part)]))
    return RunningBot(bot, shared)


def on_the_line(samples: Samples) -> Samples:
    return np.asarray(soxr.resample(samples, RATE, phones.RATE), np.int16)


def answers(messages: Messages) -> list[str]:
    first = sum(m["role"] == "user" for m in messages) == 1
    return re.findall(r"\s*\S+", LONG_ANSWER if first else SHORT_ANSWER)


@pytest.mark.local_models
async def test_a_call_is_answered_and_interrupted() -> None:
    async with OpenAIServer().serving() as server:
        server.answer = answers
        llm = {"service": "openai", "model": "scripted", "base_url": server.base_url}
        models = Bot(name="models", stt="local", llm=llm, tts="local")
        async with models.open(max_sessions=1) as services:
            bot = with_services(load_bot("phone"), services)
            async with served(OneBot(bot)) as line, phones.calling(line, "twilio") as caller:
                caller.say(on_the_line(load_recording(QUESTION)))
                await caller.until(lambda: len(caller.heard) > 2 * phones.RATE)
                caller.say(on_the_line(load_recording(INTERRUPTION)))
                await caller.until(lambda: caller.cleared)
                await caller.until(lambda: len(server.requests) >= 2 and len(caller.heard) > phones.RATE)
            heard = np.concatenate([*caller.cleared, caller.heard])
            assert np.abs(heard).max() > 1000
            second = server.requests[-1].messages
            assert [m["role"] for m in second] == ["system", "user", "assistant", "user"]
            assert "selfish" in second[3]["content"]
            assert LONG_ANSWER.startswith(second[2]["content"].removesuffix("—"))
            assert len(second[2]["content"]) < len(LONG_ANSWER)


async def test_a_bot_for_the_telephone_takes_no_other_connections() -> None:
    running = RunningBot(load_bot("phone"), Shared(FakeVAD, None))
    async with served(OneBot(running)) as line, connect(line.url + "/ws") as connection:
        await connection.send(bytes(640))
        await connection.wait_closed()
        assert connection.close_reason == "phone takes no websocket connections"
