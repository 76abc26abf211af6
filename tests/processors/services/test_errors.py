"""What the exceptions of real client libraries mean."""

from __future__ import annotations

import asyncio
import email.utils
import json
import time
from collections.abc import Awaitable, Callable

import aiohttp
import httpx
import pytest
import websockets
from cartesia import AsyncCartesia
from openai import APIConnectionError, AsyncOpenAI
from websockets.asyncio.server import ServerConnection, serve

from bargein.pipeline.frames import ErrorFrame
from bargein.processors.services.errors import (
    KeyRejected,
    RateLimited,
    RequestRejected,
    ServiceError,
    ServiceUnavailable,
    service_error,
)

from ...servers.openai_server import OpenAIServer, Trouble, refuse

pytestmark = pytest.mark.real_time

CASES: list[tuple[Trouble, type[ServiceError], bool]] = [
    (refuse(400, "context_length_exceeded"), RequestRejected, False),
    (refuse(401, "invalid_api_key"), KeyRejected, False),
    (refuse(403), KeyRejected, False),
    (refuse(404, "model_not_found"), RequestRejected, False),
    (refuse(408), ServiceUnavailable, True),
    (refuse(409), ServiceUnavailable, True),
    (refuse(422), RequestRejected, False),
    (refuse(429, "rate_limit_exceeded"), RateLimited, True),
    (refuse(429, "insufficient_quota"), RateLimited, False),
    (refuse(500), ServiceUnavailable, True),
    (refuse(503), ServiceUnavailable, True),
]


async def failure(attempt: Callable[[], Awaitable[object]], service: str = "OpenAI chat") -> ServiceError:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is what the test asks
        await attempt()
    return service_error(service, caught.value)


@pytest.mark.parametrize(("trouble", "meaning", "retryable"), CASES)
async def test_a_status_means_the_same_from_every_client(
    trouble: Trouble, meaning: type[ServiceError], retryable: bool
) -> None:
    async with OpenAIServer().serving() as server:
        server.plan(trouble, trouble, trouble)
        async with (
            AsyncOpenAI(base_url=server.base_url, api_key="sk-secret", max_retries=0) as openai,
            AsyncCartesia(base_url=server.base_url, api_key="sk-secret", max_retries=0) as cartesia,
            httpx.AsyncClient(base_url=server.base_url) as plain,
        ):

            async def post() -> None:
                answer = await plain.post("/chat/completions", json={"messages": []})
                answer.raise_for_status()

            errors = [
                await failure(lambda: openai.chat.completions.create(model="m", messages=[])),
                await failure(lambda: cartesia.post("/x", body={"messages": []}, cast_to=object)),
            ]
            if trouble.code != "insufficient_quota":  # httpx's exception has no body
                errors.append(await failure(post))
    for error in errors:
        assert type(error) is meaning
        assert error.retryable is retryable
        assert error.service == "OpenAI chat"
        assert str(error).startswith("[OpenAI chat] ")
        assert "sk-secret" not in str(error)
        if meaning is KeyRejected:
            assert str(error).endswith("check OPENAI_API_KEY")


async def test_a_service_at_an_address_of_ones_own_has_no_variable() -> None:
    async with OpenAIServer().serving() as server:
        server.plan(refuse(401))
        async with AsyncOpenAI(base_url=server.base_url, api_key="sk-secret", max_retries=0) as client:
            error = await failure(
                lambda: client.chat.completions.create(model="m", messages=[]), "127.0.0.1 m"
            )
    assert str(error) == "[127.0.0.1 m] the key was rejected (401); check the key given to it"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "2"}, 2.0),
        ({"retry_after": "2", "retry_after_ms": "150"}, 0.15),
        ({"retry_after": "in an hour"}, 3600),
        ({"retry_after": "an hour ago"}, 0.0),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-1"}, None),
        ({"retry_after": "nan"}, None),
        ({}, None),
    ],
)
async def test_how_long_a_service_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    hour = {"in an hour": 3600, "an hour ago": -3600}.get(headers.get("retry_after", ""))
    if hour is not None:  # from now, not from when the tests were collected
        headers = {"retry_after": email.utils.formatdate(time.time() + hour, usegmt=True)}
    async with OpenAIServer().serving() as server:
        server.plan(refuse(429, **headers))
        async with AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
            error = await failure(lambda: client.chat.completions.create(model="m", messages=[]))
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == (None if seconds is None else pytest.approx(seconds, abs=600))


async def test_a_server_that_is_not_there() -> None:
    async def open_socket() -> None:
        async with websockets.connect("ws://127.0.0.1:9"):
            pass

    async def get(url: str) -> None:
        async with aiohttp.ClientSession() as session, session.get(url):
            pass

    async with (
        AsyncOpenAI(base_url="http://127.0.0.1:9", api_key="k", max_retries=0) as openai,
        AsyncCartesia(base_url="http://127.0.0.1:9", api_key="k", max_retries=0) as cartesia,
        httpx.AsyncClient() as plain,
    ):
        errors = [
            await failure(openai.models.list),
            await failure(lambda: cartesia.get("/x", cast_to=object)),
            await failure(lambda: plain.get("http://127.0.0.1:9")),
            await failure(open_socket),
            await failure(lambda: get("http://127.0.0.1:9")),
            await failure(lambda: asyncio.open_connection("127.0.0.1", 9)),
        ]
    assert [type(e) for e in errors] == [ServiceUnavailable] * 6
    assert all("connect" in str(e) for e in errors)


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (1000, ServiceUnavailable),
        (1011, ServiceUnavailable),
        (1008, RequestRejected),
        (3000, KeyRejected),
        (3003, KeyRejected),
    ],
)
async def test_a_websocket_that_is_closed(code: int, meaning: type[ServiceError]) -> None:
    async def close(socket: ServerConnection) -> None:
        await socket.close(code, "because")

    async with serve(close, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with websockets.connect(f"ws://127.0.0.1:{port}") as socket:
            assert type(await failure(socket.recv, "Cartesia voice")) is meaning


async def test_a_websocket_that_is_refused() -> None:
    async with serve(
        lambda socket: socket.wait_closed(),
        "127.0.0.1",
        0,
        process_request=lambda socket, request: socket.respond(401, "no: sk-secret"),
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        error = await failure(lambda: websockets.connect(f"ws://127.0.0.1:{port}"), "Cartesia voice")
    assert str(error) == "[Cartesia voice] the key was rejected (401); check CARTESIA_API_KEY"


def test_timeouts_garbage_and_bugs() -> None:
    assert type(service_error("it", TimeoutError("no token within 10 s"))) is ServiceUnavailable
    with pytest.raises(json.JSONDecodeError) as garbage:
        json.loads("{]")
    assert type(service_error("it", garbage.value)) is ServiceUnavailable
    bug = KeyError("name")
    unknown = service_error("it", bug)
    assert (type(unknown), unknown.retryable, unknown.__cause__) == (ServiceError, False, bug)
    assert service_error("other", unknown) is unknown


def test_an_error_frame_says_whose_key_was_rejected() -> None:
    """Pipecat's frame masks what looks like a key."""
    error = KeyRejected("OpenAI chat", "the key was rejected (401); check OPENAI_API_KEY")
    text = f"LLM: {type(error).__name__}: {error}"
    assert ErrorFrame(error=text).error == text


def test_what_a_provider_says_is_cut_and_keys_in_it_are_masked() -> None:
    error = service_error("it", OSError(f"Authorization: Bearer sk-proj-{'a' * 40} " + "word " * 500))
    assert "aaaa" not in str(error)
    assert len(str(error)) < 400


@pytest.mark.parametrize("key", ["sk-proj-abcdef\n0123456789abcdef", "sk_car_abcdef\tghi\nk"])
async def test_a_key_that_no_header_can_hold_is_not_shown(key: str) -> None:
    async with serve(lambda _: asyncio.sleep(0), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, max_retries=0)
        async with client:
            with pytest.raises(APIConnectionError) as caught:
                await client.models.list()
    message = str(service_error("OpenAI", caught.value))
    assert "Bearer [REDACTED]" in message
    assert "abcdef" not in message


def test_a_key_that_a_provider_echoes_is_masked_whoever_made_it() -> None:
    for key in ("sk_car_abcdefghij0123456789", "gsk_abcdefghijklmnop0123456789"):
        message = str(service_error("Cartesia", OSError(f"invalid API key {key}")))
        assert key not in message
        assert "[REDACTED]" in message
