"""Trying again: after a growing, random pause, and only what is safe to repeat."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from loguru import logger

from .errors import RateLimited, ServiceError, service_error

T = TypeVar("T")


@dataclass(frozen=True)
class Backoff:
    """How often, and with which pauses, a request is repeated. The user hears silence meanwhile.

    Attributes:
        attempts: Requests in all; 1 never repeats.
        first_s: The first pause is at most this long; each further one at most twice as long, s.
        cap_s: No pause is longer. A service that asks for a longer one is given up at once, s.
        patience_s: No attempt begins later than this after the first one began, s.
    """

    attempts: int = 3
    first_s: float = 0.5
    cap_s: float = 4.0
    patience_s: float = 8.0

    def pause_s(self, attempt: int, failure: ServiceError, elapsed_s: float) -> float | None:
        """Seconds to wait after the attempt of this number (from 1), or None to give up.

        Random between 0 and the limit, so that clients that failed together do not come back together.
        """
        if not failure.retryable or attempt >= self.attempts:
            return None
        pause = random.uniform(0, min(self.cap_s, self.first_s * 2.0 ** (attempt - 1)))
        asked = failure.retry_after_s if isinstance(failure, RateLimited) else None
        if asked is not None:
            pause = asked + random.uniform(0, self.first_s)
        if (asked or 0.0) > self.cap_s or elapsed_s + pause > self.patience_s:
            return None
        return pause


async def retrying(attempt: Callable[[], Awaitable[T]], *, service: str, backoff: Backoff | None = None) -> T:
    """The result of the first attempt that succeeds. For requests that may be repeated at any point.

    Raises:
        ServiceError: The last attempt failed, or one that is not worth repeating did.
    """

    async def result() -> AsyncGenerator[T, None]:
        yield await attempt()

    async with aclosing(retrying_stream(result, service=service, backoff=backoff)) as results:
        return await anext(results)


async def retrying_stream(
    open_stream: Callable[[], AsyncGenerator[T, None]],
    *,
    service: str,
    backoff: Backoff | None = None,
    counts: Callable[[T], bool] = lambda item: True,
    can_go_on: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[T, None]:
    """The items of a stream, opened again as long as nothing that counts has come out of it.

    Once such an item came, a failure is final, since it would come twice; unless the stream, opened again,
    goes on behind it. Closing the generator closes the stream, or ends the pause.

    Args:
        open_stream: Makes one attempt.
        service: What errors and logs call it.
        backoff: How it is repeated; its patience begins anew with each item that counts.
        counts: Whether an item does; others may come twice.
        can_go_on: Whether the stream would go on behind all that has come.

    Raises:
        ServiceError: As `retrying`, or the stream broke off.
    """
    backoff = backoff or Backoff()
    loop = asyncio.get_running_loop()
    began = loop.time()
    attempt = 0
    while True:
        attempt += 1
        came = False
        try:
            async with aclosing(open_stream()) as stream:
                async for item in stream:
                    if counts(item):
                        came, began = True, loop.time()
                    yield item
            return
        except Exception as error:
            failure = service_error(service, error)
        final = came and not can_go_on()
        pause_s = None if final else backoff.pause_s(attempt, failure, loop.time() - began)
        if pause_s is None:
            raise failure
        logger.info("{}; attempt {} in {:.1f} s", failure, attempt + 1, pause_s)
        await asyncio.sleep(pause_s)


__all__ = ["Backoff", "retrying", "retrying_stream"]
