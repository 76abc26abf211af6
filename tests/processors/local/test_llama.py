import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError

from bargein.processors.local import LlamaServer, ModelRequestFailed

from .conftest import Run

pytestmark = pytest.mark.local_models

SYSTEM = {"role": "system", "content": "You are a friendly voice assistant. Be brief and kind. " * 3}


@pytest.fixture(scope="module")
def server(run: Run) -> Iterator[LlamaServer]:
    engine = LlamaServer()
    run(engine.start())
    run(engine.warm([SYSTEM]))
    yield engine
    run(engine.close())


@asynccontextmanager
async def client_of(server: LlamaServer) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=server.base_url, api_key="none", max_retries=0, default_headers=server.headers
    ) as client:
        yield client


async def answer(
    client: AsyncOpenAI, messages: list[Any], tokens: int = 16, **extra: Any
) -> tuple[str, dict[str, Any]]:
    """The text, and what the server says about the tokens it computed and had cached."""
    text = ""
    timings: dict[str, Any] = {}
    stream = await client.chat.completions.create(
        model=LlamaServer.model, messages=messages, max_tokens=tokens, stream=True, extra_body=extra
    )
    async for chunk in stream:
        timings = (chunk.model_extra or {}).get("timings", timings)
        for choice in chunk.choices:
            text += choice.delta.content or ""
    return text, timings


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_streams_an_answer(run: Run, server: LlamaServer) -> None:
    async def ask() -> tuple[str, dict[str, Any]]:
        async with client_of(server) as client:
            return await answer(client, [SYSTEM, user("Hello, who are you?")])

    text, timings = run(ask())
    assert text.strip()
    assert timings["cache_n"] > 30, "the warm system message is not computed again"


def test_an_abandoned_stream_frees_the_server(run: Run, server: LlamaServer) -> None:
    async def ask() -> str:
        async with client_of(server) as client:
            for _ in range(4):  # more than slots
                stream = await client.chat.completions.create(
                    model=server.model,
                    messages=[{"role": "user", "content": "Count to a thousand."}],
                    stream=True,
                    extra_body={"ignore_eos": True, "n_predict": -1},  # to the end of the context
                )
                async for _ in stream:
                    break
                await stream.close()
            text, _ = await answer(client, [user("Hello!")], tokens=4)
            return text

    assert run(ask())


def test_conversations_in_claimed_slots_compute_only_what_is_new(run: Run, server: LlamaServer) -> None:
    async def talk() -> list[dict[str, Any]]:
        slots = [server.claim_slot() for _ in range(2)]
        assert sorted(slots) == [0, 1]
        timings = []
        async with client_of(server) as client:
            talks: dict[int, list[Any]] = {slot: [SYSTEM] for slot in slots}
            for turn in range(3):
                for slot, messages in talks.items():
                    messages.append(user(f"Question {turn}: tell me about the number {slot}."))
                    text, timing = await answer(client, messages, tokens=8, id_slot=slot)
                    messages.append({"role": "assistant", "content": text})
                    timings.append(timing)
        for slot in slots:
            server.release_slot(slot)
        return timings

    *_, first, second = run(talk())
    for timing in (first, second):
        assert timing["cache_n"] > 2 * timing["prompt_n"]


def test_answers_two_at_the_same_time(run: Run, server: LlamaServer) -> None:
    async def ask() -> list[str]:
        order: list[str] = []

        async def request(client: AsyncOpenAI, name: str, tokens: int) -> None:
            await answer(client, [SYSTEM, user(f"Who is {name}?")], tokens, ignore_eos=True)
            order.append(name)

        async with client_of(server) as client:
            await asyncio.gather(request(client, "Alice", 60), request(client, "Bob", 4))
        return order

    assert run(ask()) == ["Bob", "Alice"]


def test_says_when_a_request_is_too_long(run: Run, server: LlamaServer) -> None:
    async def ask() -> None:
        async with client_of(server) as client:
            with pytest.raises(BadRequestError, match="exceeds the available context size"):
                await answer(client, [user("word " * 3_000)])
            with pytest.raises(ModelRequestFailed, match="exceeds the available context size"):
                await server.warm([user("word " * 3_000)])

    run(ask())


def test_a_dead_server_comes_back_warm_at_the_same_address(
    run: Run, server: LlamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm = server.warm

    async def crash() -> dict[str, Any]:
        warmed = asyncio.Event()

        async def watched(messages: list[dict[str, Any]]) -> None:
            await warm(messages)
            warmed.set()

        monkeypatch.setattr(server, "warm", watched)
        pid = server.worker.pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        await warmed.wait()
        assert server.worker.pid != pid
        async with client_of(server) as client:
            _, timings = await answer(client, [SYSTEM, user("Hello!")], tokens=4)
            return timings

    assert run(crash())["cache_n"] > 30
