"""The sessions of an agent, one after the other: one for each client, and one while there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field

from ...pipeline import InputRejected, Pipeline, Processor, Session
from ...processors.context import Context
from ...processors.tools import Tools
from ...transports.ends import Ends, ends_of
from ...transports.voice_agent.encoding import Format
from ...transports.websocket import WebSocketConnection
from ..bot import Bot, RunningBot
from ..parts import STTPart, made
from ..place import Place
from .errors import AgentClosed
from .events import AudioChunk, Connected, Disconnected, Event, Listening, Stopped
from .voice import HandedOut
from .watching import Inputs, Watch


@dataclass(frozen=True, slots=True, eq=False)
class Live:
    """A session that runs.

    Attributes:
        connection: The client; None if there is none.
        stack: Ends the session.
        transcribing: What recordings will be found to say.
    """

    session: Session
    watch: Watch
    ends: Ends
    connection: WebSocketConnection | None
    stack: AsyncExitStack
    transcribing: set[asyncio.Future[str]] = field(default_factory=set)


class Sessions:
    """Begins and ends them; what was said in one is known in the next.

    Args:
        bot: Its models are shared by all.
        tools: Likewise.
        new_context: Makes the context of one; what was said is copied into it.
        further_parts: Makes what else stands behind a session's source.
        emit: Takes the events.
        audio_format: Of `audio` events.

    Attributes:
        context: Of the session that runs, or else of the next one.
        live: The session that runs; None before `open`, after `close`, and while clients change.
    """

    def __init__(
        self,
        bot: Bot,
        tools: Tools,
        new_context: Callable[[], Context],
        further_parts: Callable[[Context], list[Processor]],
        emit: Callable[[Event], None],
        audio_format: Format,
    ) -> None:
        self.context = new_context()
        self.live: Live | None = None
        self._bot = bot
        self._tools = tools
        self._new_context = new_context
        self._further_parts = further_parts
        self._emit = emit
        self._audio_format = audio_format
        self._hears = any(isinstance(part, STTPart) for part in bot.declaration.parts)
        self._opened = AsyncExitStack()
        self._running: RunningBot | None = None  # None before `open`
        self._closed = False
        self._changing = asyncio.Lock()
        self._serving: set[asyncio.Task[None]] = set()  # clients that nobody waits for
        self._chunks = 0  # of audio that were handed out

    async def open(self) -> RunningBot:
        """Begin the first one, without a client."""
        if self._running is not None:
            raise AgentClosed("an agent is entered once; make a new one")
        self._running = await self._opened.enter_async_context(self._bot.open(max_sessions=1))
        try:
            await self.attach(None)
        except BaseException:
            await self._opened.aclose()
            raise
        return self._running

    async def close(self) -> None:
        """End the last one."""
        self._closed = True
        async with self._changing:
            await self._leave("the agent was destroyed")
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._opened.aclose()

    @property
    def closed(self) -> bool:
        """Whether there will be no more."""
        return self._closed

    @property
    def between(self) -> bool:
        """Whether one has ended and the next one has not begun."""
        return self.live is None and self._changing.locked()

    def now(self) -> Live:
        """The session that runs.

        Raises:
            AgentClosed: None does.
        """
        if self.live is None or self._closed:
            state = "was destroyed" if self._closed else "is not running: use it in `async with agent:`"
            raise AgentClosed(f"the agent {state}")
        return self.live

    async def soon(self) -> Live:
        """The same, or the next one while clients change."""
        async with self._changing:
            return self.now()

    async def attach(self, connection: WebSocketConnection | None, reason: str = "") -> None:
        """End the session and begin one with this client, or with none."""
        async with self._changing:
            await self._leave(reason)
            if not self._closed:
                await self._enter(connection)

    async def serve(self, connection: WebSocketConnection) -> None:
        """Read and write until the client is gone, or the bot has ended the session."""
        if self.live is None or self.live.connection is not connection:
            connection.lose("the agent talks to another client, or not any more")
            await connection.serve()
            return
        over = asyncio.create_task(self.live.session.finished())
        over.add_done_callback(lambda _: connection.lose("the bot has ended it"))
        try:
            await connection.serve()
        finally:
            over.cancel()
            if self.live is not None and self.live.connection is connection:
                await self.attach(None, "the client is gone")

    def serve_aside(self, connection: WebSocketConnection) -> None:
        """The same in a task of its own."""
        task = asyncio.create_task(self.serve(connection), name=f"client {connection.id[:8]}")
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _enter(self, connection: WebSocketConnection | None) -> None:
        assert self._running is not None
        alone = Ends(Processor(), HandedOut(self._hand_out), ())
        ends = alone if connection is None else ends_of(connection)
        context = self._new_context()
        context.messages[1:] = self.context.messages[1:]
        async with AsyncExitStack() as opening:
            stack = opening.enter_context(ExitStack())
            place = Place(
                self._running.shared, context, self._tools, ends.source, ends.sink, ends.clients, stack
            )
            source, *rest = made(self._bot.declaration.parts, place)
            inputs = Inputs(self._emit, hears=self._hears)
            session = Session(Pipeline([source, inputs, *self._further_parts(context), *rest]))
            watch = Watch(session, inputs, self._emit, self._audio_format)
            await opening.enter_async_context(session)
            self.context = context
            self.live = Live(session, watch, ends, connection, opening.pop_all())
        self._emit(Listening())
        if connection is not None:
            self._emit(Connected())

    async def _leave(self, reason: str) -> None:
        live, self.live = self.live, None
        if live is None:
            return
        live.watch.reject(InputRejected("the session ended before this was answered"))
        if live.session.responding:
            live.session.interrupt(reason)  # so that the history keeps what was heard
        if live.connection is not None:
            live.connection.lose(reason)
        live.watch.ending = True
        await live.stack.aclose()
        for transcript in live.transcribing:
            if not transcript.done():
                transcript.set_exception(InputRejected("the session ended before this was transcribed"))
        self._emit(Stopped())
        if live.connection is not None:
            self._emit(Disconnected(live.connection.closed.result()))

    def _hand_out(self, pcm: bytes) -> None:
        if self.live is not None:
            said = [response for response in self.live.session.responses if not response.silenced]
            self._chunks += 1
            rate = self.live.ends.sink.sample_rate
            self._emit(AudioChunk(self._chunks, pcm, rate, said[0].id if said else None))
