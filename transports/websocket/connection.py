"""One WebSocket client: audio both ways and messages both ways. Knows nothing of pipelines."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import uuid4

from loguru import logger
from starlette.websockets import WebSocket, WebSocketDisconnect

from ...pipeline.frames import Frame
from .pace import Pace
from .protocol import Audio, Data, Event, Left, Message, Played, Pushed, Reply, Said, WebSocketProtocol
from .uplink import BLOCK_S, Uplink

START_S = 15.0  # a client that has not said how to begin this long after connecting is given up
SLOW_S = 5.0  # a client that takes what it is sent so much later than in real time is dropped
AHEAD_S = 1.0  # audio that comes so far ahead of real time waits in the socket
GOODBYE_S = 1.0  # how long closing waits for the last messages to leave
END_S = 5.0  # how long hanging up a call may take
MAX_UNSENT = 8_192  # messages, some MB: an answer that was ready may come all at once, with several to a word

# RFC 6455 section 7.4.1, and the registry it opened
NORMAL, POLICY, TOO_BIG, FAILED, TRY_LATER = 1000, 1008, 1009, 1011, 1013
MAX_CLOSE_REASON = 123  # bytes (RFC 6455 section 5.5)

OnBlock = Callable[[bytes], None]
OnFrame = Callable[[Frame], None]
OnMessage = Callable[[Message], None]
Encode = Callable[[], Awaitable[list[Data]]]


class WebSocketConnection:
    """The server's end of one WebSocket.

    `begin` learns what the session needs to know, `serve` then runs until the client is gone.

    Args:
        websocket: Accepted.
        protocol: What the client speaks.

    Attributes:
        id: Names the connection in the log.
        on_message: Called with each RTVI message of the client.
        closed: Done once the client is gone or `lose` was called; its result says why.
    """

    def __init__(self, websocket: WebSocket, protocol: WebSocketProtocol) -> None:
        loop = asyncio.get_running_loop()
        self.id = uuid4().hex
        self.protocol = protocol
        self.on_message: OnMessage | None = None
        self.closed: asyncio.Future[str] = loop.create_future()
        self._websocket = websocket
        self._clock = loop.time
        self._on_block: OnBlock | None = None
        self._on_frame: OnFrame | None = None
        self._listening = asyncio.Event()  # until the session does, nothing is read
        self._served = asyncio.Event()
        self._code = NORMAL  # with which the connection closes
        self._gone = False  # nothing can be sent any more
        self._first: list[Event] = []  # what the client said in beginning
        self._uplink = Uplink()
        self._spoken_until = 0.0  # loop time at which a user who never pauses says what came last
        self._pace: Pace | None = None
        self._unsent: deque[Encode] = deque()  # all but audio, which stays in the playout until it is due
        self._wake = asyncio.Event()  # something was added to `_unsent`, or the end has come
        self._late = 0.0  # s that sending has taken beyond real time

    async def begin(self) -> bool:
        """Wait until the client has said how to begin; whether it has."""
        try:
            async with asyncio.timeout(START_S):
                while not self._begun and (data := await self._receive()) is not None:
                    await self._take_first(await self.protocol.decode(data))
        except TimeoutError:
            self.lose(f"nothing to begin with came within {START_S:.0f} s", POLICY)
        return not self.closed.done()

    async def serve(self) -> None:
        """Read and write until the client is gone, or `lose` was called; then close the WebSocket."""
        tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
        ends: list[asyncio.Future[Any]] = [*tasks, self.closed]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done() and (error := task.exception()) is not None:
                    logger.opt(exception=error).error("connection {}: failed", self.id[:8])
                    self.lose("the server failed", FAILED)
            self.lose("closed")
            self._wake.set()
            await asyncio.wait(tasks[1:], timeout=GOODBYE_S)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            try:
                await self._say_goodbye()
            finally:
                self._served.set()

    def listen(self, on_block: OnBlock, on_frame: OnFrame) -> None:
        """Begin to read: the user's voice, 640 bytes of mono s16le at 16 kHz at a time, and frames."""
        self._on_block, self._on_frame = on_block, on_frame
        self._listening.set()

    def ignore(self) -> None:
        """Read on, but call nobody."""
        self._on_block = self._on_frame = None

    def play(self, pace: Pace) -> None:
        """Send the blocks that come due."""
        self._pace = pace

    def send(self, message: Message) -> None:
        """Send an RTVI message; dropped once the client is gone."""
        self._enqueue(partial(self.protocol.message, message))

    def clear(self) -> None:
        """Have the client drop what it has not played. No audio read before this is sent after it."""
        self._enqueue(self.protocol.clear)

    def lose(self, reason: str, code: int = NORMAL) -> None:
        """Declare the client gone: `closed` gets the reason, unless it has one; the close frame tells it."""
        if not self.closed.done():
            self._code = code
            self.closed.set_result(reason)
            logger.debug("connection {}: {}", self.id[:8], reason)

    async def close(self) -> None:
        """End it, and wait until the WebSocket is closed; `serve` must be running, or have run."""
        self.lose("closed")
        await self._served.wait()

    # Reading ---------------------------------------------------------------------------------------

    async def _read(self) -> None:
        await self._listening.wait()
        events = self._first
        while True:
            for event in events:
                await self._take(event)
            data = await self._receive()
            if data is None:
                return
            events = await self.protocol.decode(data)

    async def _receive(self) -> Data | None:
        """One message, or None at the end of the connection."""
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            self._gone = True
            self.lose(f"the client closed the connection ({message.get('code', 1005)})")
            return None
        data: Data = message["text"] if message.get("text") is not None else message["bytes"]
        if len(data) > (limit := self.protocol.max_message_bytes):
            self.lose(f"a message may have {limit} bytes", TOO_BIG)
            return None
        return data

    async def _take(self, event: Event) -> None:
        match event:
            case Audio(pcm, sample_rate):
                await self._hear(pcm, sample_rate)
            case Said(message) if self.on_message is not None:
                self.on_message(message)
            case Pushed(frame) if self._on_frame is not None:
                self._on_frame(frame)
            case Played(mark) if self._pace is not None:
                self._pace.acknowledge(mark, self._clock())
            case Reply(data):
                self._enqueue(partial(_unchanged, data))
            case Left(reason):
                self.lose(reason)

    async def _hear(self, pcm: bytes, sample_rate: int) -> None:
        """Hand audio on at the pace of speech, also that of a client that sends it all at once."""
        for block in self._uplink.feed(pcm, sample_rate):
            self._spoken_until = max(self._spoken_until, self._clock() - AHEAD_S) + BLOCK_S
            early = self._spoken_until - self._clock()
            if early > 0:
                await asyncio.sleep(early)
            if self._on_block is not None:
                self._on_block(block)

    @property
    def _begun(self) -> bool:
        return self.protocol.started or self.closed.done()

    async def _take_first(self, events: list[Event]) -> None:
        """Keep what a client said in beginning until the session listens; answer one that has not begun."""
        if self.protocol.started:
            self._first = events
            return
        for event in events:
            if isinstance(event, Reply):
                await self._send([event.data])
            elif isinstance(event, Left):
                self.lose(event.reason, POLICY)

    # Writing ---------------------------------------------------------------------------------------

    def _enqueue(self, encode: Encode) -> None:
        if self._gone:
            return
        if len(self._unsent) >= MAX_UNSENT:
            self.lose("the client is too slow: it does not read its messages", POLICY)
            return
        self._unsent.append(encode)
        self._wake.set()

    async def _write(self) -> None:
        """Messages first, then the audio that is due; at the end of the session the messages alone."""
        while not self._gone:
            if self._unsent:
                await self._send(await self._unsent.popleft()())
            elif self.closed.done():
                return
            elif not await self._send_block():
                await self._rest()

    async def _send_block(self) -> bool:
        due = self._pace.take(self._clock()) if self._pace is not None else None
        if due is None:
            return False
        pcm, mark = due
        await self._send(await self.protocol.audio(pcm))
        if mark is not None:
            await self._send(await self.protocol.mark(mark))
        return True

    async def _rest(self) -> None:
        """Wait for a message or for the next block."""
        self._wake.clear()
        wait_s = self._pace.wait_s(self._clock()) if self._pace is not None else BLOCK_S
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _send(self, messages: list[Data]) -> None:
        """Send, as long as the client keeps up: being a little late for long counts like a long stall."""
        for data in messages:
            began = self._clock()
            try:
                async with asyncio.timeout(SLOW_S - self._late):
                    if isinstance(data, bytes):
                        await self._websocket.send_bytes(data)
                    else:
                        await self._websocket.send_text(data)
            except TimeoutError:
                self._gone = True
                self.lose(f"the client is too slow: {SLOW_S:.0f} s behind", POLICY)
                return
            except (WebSocketDisconnect, RuntimeError):  # Starlette's for a WebSocket that is closed
                self._gone = True
                self.lose("the client is gone")
                return
            self._late = max(0.0, self._late + self._clock() - began - self.protocol.block_ms / 1000)

    async def _say_goodbye(self) -> None:
        try:
            if not self._gone:
                async with asyncio.timeout(END_S):
                    await self.protocol.end()
            async with asyncio.timeout(GOODBYE_S):
                await self._websocket.close(self._code, _cut(self.closed.result()))
        except (TimeoutError, WebSocketDisconnect, RuntimeError) as error:
            logger.debug("connection {}: no goodbye ({!r})", self.id[:8], error)

    def __repr__(self) -> str:
        ended = f", closed: {self.closed.result()}" if self.closed.done() else ""
        return f"<WebSocketConnection {self.id[:8]}, {len(self._unsent)} unsent, {self._pace!r}{ended}>"


async def _unchanged(data: Data) -> list[Data]:
    return [data]


def _cut(reason: str) -> str:
    return reason.encode()[:MAX_CLOSE_REASON].decode(errors="ignore")
