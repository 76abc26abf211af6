"""Services that stand in for one another: when one fails the next takes over, and the turn goes on.

```python
LLM(FallbackChat(ChatCompletions(AsyncOpenAI(), "gpt-4.1-mini"), ChatCompletions(local, "smollm2")))
```
A service fails here after its own attempts, so it then rests for a while, and others are asked first.
After that one turn alone tries it again. All sessions that share such an object share what it knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from loguru import logger

from ...pipeline import UPSTREAM, Processor, SessionNotRunning
from ...pipeline.frames import ErrorFrame
from .chat import ChatModel, Piece, ToolChoice, is_answer
from .continuing import Answer
from .deadline import before
from .errors import RequestRejected, ServiceError, service_error

S = TypeVar("S")
T = TypeVar("T")

# How long a service that failed is not asked, s.
REST_S = 60.0

# A service that is silent for so long is given up if another can replace it, s. Two of them fit into the time
# that `STT` gives a turn.
TAKEOVER_S = 4.0


@dataclass(eq=False)
class _Member(Generic[S]):
    """One of the services, and how it did last; written by `Fallback` alone."""

    service: S
    name: str
    failed: bool = False
    rests_until: float = 0.0  # loop time, s; counts while `failed`
    on_trial: bool = False  # a turn is finding out whether it works again


class Fallback(Generic[S]):
    """Knows which of several services is to be asked. Their attribute `service`, if any, names them.

    Args:
        services: The best first.
        takeover_s: Seconds of silence after which a service is given up that another can replace, its own
            further attempts included. Waiting is all there is to do for the last one, which has only its own
            limits.
        rest_s: Seconds for which a service that failed is not asked.
        on_failure: Called when a service has failed, before the next is asked.

    Attributes:
        users: The processors that use it. When another service takes over, those in a running session
            push an ErrorFrame upstream that says so.
    """

    def __init__(
        self,
        *services: S,
        takeover_s: float = TAKEOVER_S,
        rest_s: float = REST_S,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        if not services:
            raise ValueError(f"{type(self).__name__} needs at least one service")
        self.users: WeakSet[Processor] = WeakSet()
        self._members = [_Member(s, getattr(s, "service", type(s).__name__)) for s in services]
        self._takeover_s = takeover_s
        self._rest_s = rest_s
        self._on_failure = on_failure
        self._used = self._members[0]  # what worked last

    @property
    def service(self) -> str:
        """The name of the service that the next request goes to."""
        return self._order()[0].name

    def _order(self) -> list[_Member[S]]:
        """Those to be asked in their order; those at rest come last, for when all others fail."""
        now = asyncio.get_running_loop().time()
        return sorted(self._members, key=lambda m: m.failed and (m.rests_until > now or m.on_trial))

    def _begin(self, member: _Member[S]) -> None:
        member.on_trial = member.failed

    def _worked(self, member: _Member[S]) -> None:
        member.failed = False
        if member is not self._used:
            self._used = member
            logger.info("{} is used from now on", member.name)

    def _failed(self, member: _Member[S], error: Exception) -> ServiceError:
        failure = service_error(member.name, error)
        if not isinstance(failure, RequestRejected):  # which says nothing about the service
            member.failed = True
            member.rests_until = asyncio.get_running_loop().time() + self._rest_s
        self._on_failure()
        return failure

    def _take_over(self, failure: ServiceError, member: _Member[S]) -> None:
        notice = f"{failure}; {member.name} takes over"
        logger.warning("{}", notice)
        for user in list(self.users):
            frame = ErrorFrame(error=notice, exception=failure)
            frame.metadata["processor"] = user.name
            with suppress(SessionNotRunning):
                user.push(frame, UPSTREAM)

    async def _next(self, result: Awaitable[T], following: object) -> T:
        """The next that a service gives; in time, if another one follows."""
        now = asyncio.get_running_loop().time()
        deadline = None if following is None else now + self._takeover_s
        return await before(deadline, result, f"nothing within {self._takeover_s:g} s")

    async def _stream(
        self,
        ask: Callable[[S], AsyncGenerator[T, None]],
        counts: Callable[[T], bool] = lambda item: True,
        can_go_on: Callable[[], bool] = lambda: False,
    ) -> AsyncGenerator[T, None]:
        """The items of the first service that gives any that count.

        It cannot be replaced after that, unless another one can go on behind all that has come.
        """
        members = self._order()
        came = final = False
        for member, following in zip(members, [*members[1:], None], strict=True):
            self._begin(member)
            try:
                async with aclosing(ask(member.service)) as stream:
                    while True:
                        try:
                            item = await self._next(anext(stream), None if final else following)
                        except StopAsyncIteration:  # nothing is an answer too
                            self._worked(member)
                            return
                        self._worked(member)
                        came = came or counts(item)
                        final = came and not can_go_on()
                        yield item
            except Exception as error:
                failure = self._failed(member, error)
            finally:
                member.on_trial = False
            if final or following is None:
                raise failure
            self._take_over(failure, following)


class FallbackChat(Fallback[ChatModel]):
    """A language model made of several: the next one answers, or goes on with the answer."""

    @property
    def model(self) -> str:
        """The model that the next request goes to."""
        return self._order()[0].service.model

    def stream(
        self,
        messages: Sequence[Any],
        tools: Sequence[dict[str, Any]] = (),
        tool_choice: ToolChoice = "auto",
    ) -> AsyncGenerator[Piece, None]:
        """See `ChatModel.stream`."""
        answer = Answer(messages)
        return self._stream(
            lambda chat: answer.follow(chat.stream(answer.messages, tools, tool_choice)),
            is_answer,
            answer.can_go_on,
        )


__all__ = ["Fallback", "FallbackChat"]
