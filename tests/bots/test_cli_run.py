"""`bargein run`, as a process: a port that is taken, metrics and logs, reload, Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from ..servers.openai_server import OpenAIServer
from .command import PATIENCE_S, Running, answered, bargein, free_port, started

pytestmark = pytest.mark.real_time


def write_bot(directory: Path, name: str, server: OpenAIServer) -> Path:
    path = directory / "bot.yaml"
    llm = json.dumps({"service": "openai", "model": "scripted", "base_url": server.base_url})
    path.write_text(f"name: {name}\nllm: {llm}\ntools: ['./own.py:hours']\n")
    (directory / "own.py").write_text('def hours() -> str:\n    """Hours."""\n    return "nine to five"\n')
    return path


async def ask(port: int, text: str) -> str:
    """Write to the bot over a WebSocket; returns the whole answer."""
    async with connect(f"ws://127.0.0.1:{port}/ws", open_timeout=PATIENCE_S) as socket_:
        await socket_.send(json.dumps({"type": "start"}))
        await socket_.send(json.dumps({"type": "text", "text": text}))
        async with asyncio.timeout(PATIENCE_S):
            async for message in socket_:
                found = json.loads(message)
                if found["type"] == "transcript" and found["role"] == "assistant" and found["final"]:
                    return str(found["text"])
    raise AssertionError("no answer")


async def get(port: int, path: str) -> str:
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        response = await client.get(f"http://127.0.0.1:{port}{path}")
        assert response.status_code == 200
        return response.text


async def scraped(port: int, until: str) -> str:
    """The metrics, once this is in them."""
    async with asyncio.timeout(PATIENCE_S):
        while until not in (metrics := await get(port, "/metrics")):
            pass
    return metrics


async def asked_to_stop(command: Running) -> None:
    assert await command.stop(signal.SIGINT) == 130
    assert "Traceback" not in command.output


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = bargein("run", "--port", str(port), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"bargein: port {port} is in use; choose another with --port\n"


async def test_it_serves_metrics_and_logs(tmp_path: Path) -> None:
    port = free_port()
    async with OpenAIServer().serving() as server:
        server.script(["Nine", " to five."])
        bot = write_bot(tmp_path, "desk", server)
        async with started("run", bot, "--port", str(port), "--log", "logs", cwd=tmp_path) as command:
            await command.until(f"Talk to desk at http://127.0.0.1:{port}")
            assert json.loads(await get(port, "/api/bot"))["name"] == "desk"
            assert await ask(port, "When are you open?") == "Nine to five."
            metrics = await scraped(port, "bargein_sessions 0.0")
            assert 'bargein_turns_total{outcome="finished"} 1.0' in metrics
            assert "five" not in metrics
            await asked_to_stop(command)
    (log,) = (tmp_path / "logs").iterdir()
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [e["text"] for e in events if e["event"] == "bot_text"] == ["Nine", " to five."]
    (turn,) = answered("trace", log, cwd=tmp_path)["turns"]
    assert (turn["outcome"], turn["tokens"]) == ("finished", 2)


async def test_without_metrics(tmp_path: Path) -> None:
    port = free_port()
    async with OpenAIServer().serving() as server:
        bot = write_bot(tmp_path, "desk", server)
        async with started("run", bot, "--port", str(port), "--no-metrics", cwd=tmp_path) as command:
            await command.until("Talk to desk")
            async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
                assert (await client.get(f"http://127.0.0.1:{port}/metrics")).status_code == 404
            await asked_to_stop(command)


async def test_it_starts_again_when_the_bot_changes(tmp_path: Path) -> None:
    port = free_port()
    async with OpenAIServer().serving() as server:
        bot = write_bot(tmp_path, "first", server)
        async with started("run", bot, "--port", str(port), "--reload", cwd=tmp_path) as command:
            await command.until("Talk to first")
            right = bot.read_text()

            bot.write_text(right.replace("llm:", "lm:"))  # a mistake is told, and what runs goes on
            await command.until("bot.yaml:2:1: lm: unknown; did you mean llm?")
            assert "ok" in await get(port, "/healthz")
            assert command.output.count("Talk to") == 1

            bot.write_text(right.replace("first", "second"))
            await command.until("Talk to second")
            assert json.loads(await get(port, "/api/bot"))["name"] == "second"

            (tmp_path / "base.yaml").write_text(bot.read_text().replace("second", "third"))
            bot.write_text("include: base.yaml\n")
            await command.until("Talk to third")

            (tmp_path / "base.yaml").write_text(
                (tmp_path / "base.yaml").read_text().replace("third", "fourth")
            )
            await command.until("Talk to fourth")

            os.utime(tmp_path / "own.py", (1, 1))
            await command.until("Talk to fourth", 2)
            await asked_to_stop(command)


@pytest.mark.local_models
async def test_ctrl_c_while_it_loads(tmp_path: Path) -> None:
    async with started("run", "--port", str(free_port()), cwd=tmp_path) as command:
        await command.until("language model:")
        await asked_to_stop(command)
