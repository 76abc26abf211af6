"""The default bot with real models and recordings, talked to over a real WebSocket."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import numpy as np
import pytest

from bargein import Session
from bargein.bots import Bot
from bargein.transports.ends import ends_of
from bargein.transports.file import Samples, load_recording
from bargein.transports.websocket import WebSocketConnection

from ..servers.openai_server import OpenAIServer
from ..transports.websocket.bot import Bots
from ..transports.websocket.served import Client, joined, served

pytestmark = [pytest.mark.real_time, pytest.mark.local_models]

DATA = Path(__file__).parent.parent / "data"
QUESTION = load_recording(DATA / "sense_and_sensibility_01_austen_64kb-0880.wav")
INTERRUPTION = load_recording(DATA / "sense_and_sensibility_01_austen_64kb-0890.wav")
LONG_ANSWER = (
    "Every morning the old sailor walked down to the harbor and counted the boats. "
    "There were seven of them, painted green and yellow, and none had left the shore for years. "
    "One day a young girl asked him why he counted boats that never sailed."
)
SHORT_ANSWER = "All right, then tell me more about it."


class Microphone:
    """Sends 20 ms each 20 ms: silence, or what is being said."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._saying = np.empty(0, np.int16)

    def say(self, recording: Samples) -> None:
        self._saying = recording

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            block = np.zeros(320, "<i2")
            piece, self._saying = self._saying[:320], self._saying[320:]
            block[: len(piece)] = piece
            await self._client.connection.send(block.tobytes())
            due += 0.02
            await asyncio.sleep(due - loop.time())


async def test_it_answers_and_is_interrupted() -> None:
    async with OpenAIServer().serving() as llm:
        llm.answer = lambda messages: re.findall(
            r"\s*\S+", LONG_ANSWER if sum(m["role"] == "user" for m in messages) == 1 else SHORT_ANSWER
        )
        scripted = {"service": "openai", "model": "scripted", "base_url": llm.base_url}
        bot = Bot(name="scripted", stt="local", llm=scripted, tts="local")
        async with bot.open(max_sessions=1) as running_bot:
            context = bot.new_context()

            class Assistant(Bots):
                async def run(self, connection: WebSocketConnection) -> None:
                    ends = ends_of(connection)
                    with running_bot.pipeline(
                        ends.source, ends.sink, *ends.clients, context=context
                    ) as pipeline:
                        await Session(pipeline).run()

            async with served(Assistant()) as server, joined(server) as client:
                microphone = Microphone(client)
                running = asyncio.create_task(microphone.run())
                microphone.say(QUESTION)
                said = await client.expect("transcript", role="user", final=True)
                assert len(said["text"].split()) > 3
                await client.expect("state", state="speaking")
                await client.until(lambda: len(client.pcm()) > 1.5 * 32_000)
                assert np.abs(np.frombuffer(client.pcm(), "<i2").astype(int)).max() > 1_000

                microphone.say(INTERRUPTION)
                report = await client.expect("interruption", reason="user_speaking", response_id="r1")
                assert client.all("hold"), "the voice was held before it was clear that it was to stop"
                assert report["heard"]
                assert LONG_ANSWER.startswith(report["heard"])
                cleared = client.cleared()
                assert cleared < client.got.index(report)
                assert report["heard"] in context.messages[2]["content"]

                final = await client.expect("transcript", role="assistant", final=True, response_id="r2")
                assert final["text"] == SHORT_ANSWER
                # From `clear` to the next answer there is no sound.
                begun = client.got.index(await client.expect("transcript", response_id="r2"))
                assert not any(b"".join(m for m in client.got[cleared:begun] if isinstance(m, bytes)))
                await client.expect("state", state="speaking", response_id="r2")
                await client.until(lambda: client.all("state")[-1]["state"] == "listening")
                assert context.messages[-1]["content"] == SHORT_ANSWER
                running.cancel()
                await asyncio.wait([running])
