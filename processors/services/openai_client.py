"""What the models behind the `openai` client share: timeouts, streams that really close, names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from loguru import logger

from .deadline import before
from .errors import service_error

if TYPE_CHECKING:
    from openai import AsyncOpenAI, AsyncStream

T = TypeVar("T")

# How long the usage is waited for when the answer has ended, s: a tool that it calls waits, too.
LAST_S = 1.0


@dataclass(frozen=True)
class Timeouts:
    """How long a streaming request may be silent, s. Somebody is waiting for the answer.

    Attributes:
        connect_s: Until the connection stands.
        first_token_s: From the request to the first event.
        between_tokens_s: From one event to the next. Thoughts count, keep-alive comments do not.
    """

    connect_s: float = 5.0
    first_token_s: float = 20.0
    between_tokens_s: float = 10.0


def with_timeouts(client: AsyncOpenAI, timeouts: Timeouts) -> AsyncOpenAI:
    """The same client, on the same connections, that leaves repeating to us."""
    from openai import Timeout

    return client.with_options(max_retries=0, timeout=Timeout(None, connect=timeouts.connect_s))


def service_name(client: AsyncOpenAI, model: str) -> str:
    """What people call it: "OpenAI gpt-4.1-mini"; other providers by their host."""
    host = client.base_url.host
    return f"{'OpenAI' if host == 'api.openai.com' else host} {model}"


async def events(
    create: Callable[[], Awaitable[AsyncStream[T]]], timeouts: Timeouts
) -> AsyncGenerator[T, None]:
    """The events of one streaming request; closing the generator closes the connection.

    Raises:
        TimeoutError: The server was silent for too long.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeouts.first_token_s
    problem = f"no token within {timeouts.first_token_s:g} s"
    stream = await before(deadline, create(), problem)
    async with stream:
        try:
            while True:
                yield await before(deadline, anext(stream), problem)
                deadline = loop.time() + timeouts.between_tokens_s
                problem = f"no further token within {timeouts.between_tokens_s:g} s"
        except StopAsyncIteration:
            return


async def to_the_end(stream: AsyncGenerator[T, None], ended: Callable[[], bool]) -> AsyncGenerator[T, None]:
    """The events of a request; once its answer has ended, silence or a failure only ends them, too."""
    loop = asyncio.get_running_loop()
    async with aclosing(stream):
        try:
            while True:
                deadline = loop.time() + LAST_S if ended() else None
                yield await before(deadline, anext(stream), f"nothing within {LAST_S:g} s")
        except StopAsyncIteration:
            return
        except Exception as error:
            if not ended():
                raise
            logger.debug("behind the end of an answer: {}", service_error("the model", error))
