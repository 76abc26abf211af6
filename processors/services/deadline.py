"""Waiting up to a moment, and saying what did not come by then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def before(deadline: float | None, result: Awaitable[T], problem: str) -> T:
    """A result, if it comes before a loop time (s); None is never.

    Raises:
        TimeoutError: It did not; the message is `problem`.
    """
    try:
        async with asyncio.timeout_at(deadline) as timeout:
            return await result
    except TimeoutError:
        if timeout.expired():
            raise TimeoutError(problem) from None
        raise
