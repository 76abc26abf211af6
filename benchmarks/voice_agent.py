"""Interruptions by a client of voice-agent-ai-sdk, over real sockets, at every time of an answer.

A client asks, and sends `interrupt` a stepped time later: from before the first word to after the last
chunk of speech. The model server gives a token each 20 ms and the voice takes 150 ms a sentence, as in the
runs of voice-agent-ai-sdk 1.0.1 (Node 20, loopback, model and voice in its own process) whose figures stand
beside ours. Model server, agent and client share this process and its event loop; bytes go through
sockets. Ours are counted from before the client sends; theirs, for the model, from when the server has
received it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import uvicorn
from openai import AsyncOpenAI
from websockets.asyncio.client import ClientConnection, connect

from bargein import Pipeline, Session
from bargein.bots.server import config, create_app
from bargein.processors.context import Context
from bargein.processors.llm import LLM
from bargein.processors.tts import TTS, Sentences
from bargein.transports.ends import ends_of
from bargein.transports.webrtc import WebRTCConnection
from bargein.transports.websocket import WebSocketConnection
from benchmarks.report import progress
from tests.servers.openai_server import OpenAIServer

TRIALS = 200
STEP_S = 0.0115  # between the times of two trials: 0 to 2.3 s after the question
TOKEN_S = 0.020
VOICE_S = 0.150
SETTLE_S = 0.6  # what is left to listen for audio that comes after the interruption
RATE = 24_000  # Hz

WORDS = [
    f" {word}" for n in range(8) for word in f"This is sentence number {n} of a rather long answer.".split()
]


@dataclass(frozen=True)
class Speech:
    """A sentence's audio, as one piece without the times of its words."""

    pcm: bytes
    sample_rate: int = RATE
    words: tuple[Any, ...] = ()


class Voice:
    """Takes as long for a sentence as a service does."""

    async def synthesize(self, text: str) -> AsyncGenerator[Speech, None]:
        """Speak a text."""
        await asyncio.sleep(VOICE_S)
        yield Speech(np.full(len(text) * RATE // 20, 100, np.int16).tobytes())


@dataclass
class Trial:
    """One interruption; times in ms from the sending of `interrupt`.

    Attributes:
        after_ms: How long after the question it was sent.
        aborted: The model server saw its connection closed; None if it had finished.
        told: `speech_interrupted` came.
        reports: How many of them came.
        stale: Messages with audio, or the start or end of speech, that came after it.
        in_flight: Messages with audio that came between sending and it; the page drops them.
    """

    after_ms: float
    aborted: float | None = None
    told: float | None = None
    reports: int = 0
    stale: int = 0
    in_flight: int = 0


@dataclass
class Client:
    """What a trial's client gets.

    Attributes:
        got: (time, type) of each message.
    """

    connection: ClientConnection
    got: list[tuple[float, str]] = field(default_factory=list)

    async def read(self) -> None:
        """Keep all that comes."""
        async for data in self.connection:
            self.got.append((time.perf_counter(), json.loads(data)["type"]))


async def interrupt(url: str, model: OpenAIServer, after_s: float) -> Trial:
    """Ask, wait, interrupt, and listen to what still comes."""
    trial = Trial(after_s * 1000)
    requests = len(model.requests)
    async with connect(url, max_size=None, compression=None) as connection:
        client = Client(connection)
        reading = asyncio.create_task(client.read())
        await connection.send(json.dumps({"type": "transcript", "text": "Tell me something long."}))
        await model.came(requests + 1)
        await asyncio.sleep(after_s)
        request = model.requests[-1]
        aborted: list[float] = []
        if not request.outcome.done():
            request.outcome.add_done_callback(lambda _: aborted.append(time.perf_counter()))
        sent = time.perf_counter()
        await connection.send(json.dumps({"type": "interrupt"}))
        await asyncio.sleep(SETTLE_S)
        reading.cancel()
        await asyncio.wait([reading])
    told = [at for at, kind in client.got if kind == "speech_interrupted"]
    trial.reports = len(told)
    audible = ("audio_chunk", "audio", "speech_stream_start", "speech_stream_end")
    if told:
        trial.told = (told[0] - sent) * 1000
        trial.stale = sum(kind in audible and at > told[0] for at, kind in client.got)
        trial.in_flight = sum(kind == "audio_chunk" and sent < at < told[0] for at, kind in client.got)
    if aborted and request.outcome.result() == "closed":
        trial.aborted = (aborted[0] - sent) * 1000
    return trial


async def measure(trials: int = TRIALS, step_s: float = STEP_S) -> list[Trial]:
    """Serve an agent on loopback and interrupt it."""
    async with OpenAIServer().serving() as model:
        model.token_s = TOKEN_S
        model.answer = lambda messages: list(WORDS)
        async with AsyncOpenAI(base_url=model.base_url, api_key="none") as client:

            async def run(connection: WebSocketConnection) -> None:
                ends, context = ends_of(connection), Context()
                thinking = [context.user, LLM(client, "m"), context.assistant, *ends.clients]
                await Session(Pipeline([ends.source, *thinking, Sentences(), TTS(Voice()), ends.sink])).run()

            async def no_peer(connection: WebRTCConnection) -> None:
                connection.lose("this benchmark has no WebRTC")

            app = create_app(no_peer, run_socket_bot=run)
            with socket.create_server(("127.0.0.1", 0)) as listener:
                server = uvicorn.Server(config(app, *listener.getsockname()))
                serving = asyncio.create_task(server.serve(sockets=[listener]))
                url = f"ws://127.0.0.1:{listener.getsockname()[1]}/ws/voice"
                try:
                    found: list[Trial] = []
                    for number in range(trials):
                        progress(f"interruption {number + 1} of {trials}")
                        found.append(await interrupt(url, model, number * step_s))
                    progress("")
                    return found
                finally:
                    server.should_exit = True
                    await serving


def main() -> int:
    """Measure and print; 1 if an interruption was not told once, or audio came after one."""
    return show(asyncio.run(measure()))


def show(trials: list[Trial]) -> int:
    """Print what was found; returns the exit code."""
    aborted = [t.aborted for t in trials if t.aborted is not None]
    told = [t.told for t in trials if t.told is not None]
    late = sum(t.aborted is None for t in trials)
    stale = sum(t.stale > 0 for t in trials)
    wrong = sum(t.reports != 1 for t in trials)
    print(
        f"{len(trials)} interruptions by a client, 0 to {trials[-1].after_ms / 1000:.1f} s after its question"
    )
    print(f"{'':44}{'p50':>8}{'p95':>8}{'max':>8}   voice-agent-ai-sdk 1.0.1")
    print(_row("interrupt to model aborted, ms", aborted, "p50 0.16, max 0.59 (in its process)"))
    print(_row("interrupt to speech_interrupted, ms", told, "p50 1.2, max 5.3; missing in 7 of 20"))
    print(f"{'trials with audio after it':44}{stale:8}{'':16}   7 of 20")
    print(f"{'trials without exactly one report':44}{wrong:8}{'':16}   7 of 20")
    print(f"The model had finished in {late} trials. Chunks on their way when it was sent, which the client")
    print(f"drops: {sum(t.in_flight for t in trials)}.")
    return int(bool(stale or wrong))


def _row(what: str, values: list[float], theirs: str) -> str:
    ordered = sorted(values)
    p95 = ordered[int(0.95 * (len(ordered) - 1))]
    return f"{what:44}{median(ordered):8.2f}{p95:8.2f}{ordered[-1]:8.2f}   {theirs}"
