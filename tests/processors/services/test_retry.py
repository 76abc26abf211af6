"""Trying again, in virtual time: when, how often, and never after something came out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bargein.processors.services.errors import KeyRejected, RateLimited, ServiceError, ServiceUnavailable
from bargein.processors.services.retry import Backoff, retrying, retrying_stream

DOWN = ServiceUnavailable("it", "down")


class Flaky:
    """Fails as scripted, then works; keeps the times of its attempts."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.at: list[float] = []
        self.closed = 0

    async def call(self) -> str:
        self.at.append(asyncio.get_running_loop().time())
        if self.failures:
            raise self.failures.pop(0)
        return "result"

    async def stream(self) -> AsyncGenerator[str, None]:
        try:
            yield await self.call()
            yield "more"
        finally:
            self.closed += 1


async def test_what_fails_for_a_moment_is_repeated() -> None:
    flaky = Flaky(DOWN, TimeoutError())
    assert await retrying(flaky.call, service="it") == "result"
    first, second, third = flaky.at
    assert 0 <= second - first <= 0.5
    assert 0 <= third - second <= 1.0


async def test_after_the_last_attempt_the_failure_is_told() -> None:
    flaky = Flaky(DOWN, DOWN, DOWN)
    with pytest.raises(ServiceUnavailable, match=r"^\[it\] down$"):
        await retrying(flaky.call, service="it")
    assert len(flaky.at) == 3


@pytest.mark.parametrize(
    "failure",
    [KeyRejected("it", "no"), RateLimited("it", "quota", retryable=False), RateLimited("it", "later", 30.0)],
)
async def test_what_waiting_does_not_cure_is_not_repeated(failure: ServiceError) -> None:
    flaky = Flaky(failure)
    with pytest.raises(type(failure)):
        await retrying(flaky.call, service="it")
    assert len(flaky.at) == 1


async def test_the_pause_a_service_asks_for_is_kept() -> None:
    flaky = Flaky(RateLimited("it", "slowly", 3.0))
    await retrying(flaky.call, service="it")
    assert 3.0 <= flaky.at[1] - flaky.at[0] <= 3.5


async def test_no_attempt_begins_when_patience_is_over() -> None:
    async def hang() -> str:
        await asyncio.sleep(9)
        raise TimeoutError

    began = asyncio.get_running_loop().time()
    with pytest.raises(ServiceUnavailable):
        await retrying(hang, service="it")
    assert asyncio.get_running_loop().time() == began + 9


@given(
    attempt=st.integers(1, 8),
    first_s=st.floats(0.01, 5),
    cap_s=st.floats(0.01, 5),
    asked=st.none() | st.floats(0, 10),
)
async def test_no_pause_is_longer_than_allowed_or_shorter_than_asked(
    attempt: int, first_s: float, cap_s: float, asked: float | None
) -> None:
    backoff = Backoff(9, first_s, cap_s, patience_s=1e9)
    pause = backoff.pause_s(attempt, RateLimited("it", "slowly", asked), 0)
    if asked is not None and asked > cap_s:
        assert pause is None
    else:
        assert pause is not None
        assert (asked or 0) <= pause <= (cap_s if asked is None else asked + first_s)


async def test_a_stream_is_opened_again_only_while_nothing_came() -> None:
    flaky = Flaky(DOWN)
    assert [item async for item in retrying_stream(flaky.stream, service="it")] == ["result", "more"]

    async def breaks() -> AsyncGenerator[str, None]:
        opened.append(1)
        yield "half"
        raise ConnectionResetError

    opened: list[int] = []
    stream = retrying_stream(breaks, service="it")
    assert await anext(stream) == "half"
    with pytest.raises(ServiceUnavailable):
        await anext(stream)
    assert opened == [1]


async def test_closing_closes_the_stream_and_a_pause_can_be_cancelled() -> None:
    flaky = Flaky()
    async with aclosing(retrying_stream(flaky.stream, service="it")) as stream:
        assert await anext(stream) == "result"
        assert flaky.closed == 0
    assert flaky.closed == 1

    waiting = Flaky(*[DOWN] * 5)
    endless = Backoff(attempts=9, first_s=1e6, cap_s=1e6, patience_s=1e9)
    task = asyncio.create_task(retrying(waiting.call, service="it", backoff=endless))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert len(waiting.at) == 1
