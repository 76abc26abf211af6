"""Recognisers behind a WebSocket: what was not transcribed when a connection is lost is sent again.

An utterance is cut into segments where its text is asked for, which is where the user paused. A `_Line`
holds a connection; it serves one utterance at a time, and the next as soon as the last audio of the one
before is out. So a session needs one line, and sessions that share a recogniser get as many as speak at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Protocol

from loguru import logger

from .errors import ServiceError, ServiceUnavailable, service_error
from .retry import Backoff
from .writing import is_east_asian

# Longest wait for the text of audio that was sent, s.
SETTLE_S = 3.0
# The user waits for the text, so the pauses are short.
BACKOFF = Backoff(attempts=4, first_s=0.25, cap_s=1.0, patience_s=6.0)

SAMPLE_RATE = 16_000  # Hz, of what utterances are fed

OnPartial = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Heard:
    """What the recogniser says about a segment.

    Attributes:
        segment: Its number, counted from 0 by the commits of the connection; the open one comes next.
        text: All of the segment so far, not only what is new.
        final: Whether this is its last word.
    """

    segment: int
    text: str
    final: bool = False


class Wire(Protocol):
    """One connection to a recogniser."""

    async def append(self, pcm: bytes) -> None:
        """Send 16 kHz mono s16le audio of the open segment."""
        ...

    async def commit(self) -> None:
        """Close the open segment: its text is wanted."""
        ...

    async def discard(self) -> None:
        """Forget the open segment; nothing is told of it any more. May close the connection instead."""
        ...

    async def receive(self) -> Heard:
        """The next news; raises when the connection has ended, or the server tells of an error."""
        ...

    async def close(self) -> None:
        """Close the connection; its server may be gone."""
        ...


class StreamingTranscriber:
    """The `Transcriber` over a `Wire`; shared between sessions, whoever made it closes it.

    Args:
        connect: Makes a connection.
        service: What errors and logs call it.
    """

    def __init__(self, connect: Callable[[], Awaitable[Wire]], service: str) -> None:
        self._connect = connect
        self.service = service
        self._lines: list[_Line] = []
        self._free: list[_Line] = []  # those that no open utterance holds

    def open(self, on_partial: OnPartial) -> StreamingUtterance:
        """Begin an utterance; connects if there is no connection."""
        return StreamingUtterance(self, on_partial)

    async def close(self) -> None:
        """Close the connections; what is pending raises ServiceUnavailable."""
        await asyncio.gather(*[line.close() for line in self._lines])

    def _lease(self) -> _Line:
        if not self._free:
            self._lines.append(_Line(self._connect, self.service))
            self._free.append(self._lines[-1])
        line = self._free.pop()
        line.wake()
        return line

    def _release(self, line: _Line) -> None:
        self._free.append(line)


class StreamingUtterance:
    """One stretch of speech; see `Utterance`."""

    def __init__(self, transcriber: StreamingTranscriber, on_partial: OnPartial) -> None:
        self._transcriber = transcriber
        self._on_partial: OnPartial | None = on_partial  # None once finished or cancelled
        self._line: _Line | None = transcriber._lease()  # until the last audio is on its way
        self._segments: list[_Segment] = []  # all, in order; the last may be open
        self._told = ""  # the last partial text

    def feed(self, pcm: bytes) -> None:
        """Take 16 kHz mono s16le audio; returns at once. Ignored when finished or cancelled."""
        if self._line is None or not pcm:
            return
        if not self._segments or self._segments[-1].closed:
            self._segments.append(_Segment(self._heard))
            self._line.take(self._segments[-1])
        self._segments[-1].pcm += pcm
        if self._segments[-1].failure is None:  # else it waits for `snapshot` or `finish` to try again
            self._line.wake()

    async def snapshot(self) -> str:
        """The text of all that was fed so far; more may be fed afterwards. "" when cancelled meanwhile.

        Raises:
            ServiceError: A later call tries again, with all the audio that has no text yet.
        """
        self._ask()
        return await self._text()

    async def finish(self) -> str:
        """The text of all that was fed; at once when nothing was fed since a snapshot.

        Raises:
            ServiceError: As `snapshot`.
        """
        self._on_partial = None
        self._ask()
        self._let_go()
        try:
            return await self._text()
        except asyncio.CancelledError:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Give the utterance up: the server forgets its audio, pending calls return "" at once."""
        self._on_partial = None
        self._let_go()
        for segment in self._segments:
            segment.cancel()
        self._segments.clear()

    def _let_go(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            self._transcriber._release(line)

    def _ask(self) -> None:
        """Have the text of the open segment made, and of those that failed once more."""
        if self._segments:
            self._segments[-1].closed = True
        failed = [segment for segment in self._segments if segment.failure is not None]
        line = self._line or (self._transcriber._lease() if failed else None)
        if line is None:
            return
        for segment in failed:
            line.take(segment)
        line.wake()
        if self._line is None:
            self._transcriber._release(line)

    async def _text(self) -> str:
        segments = list(self._segments)
        for segment in segments:
            await segment.settled.wait()
            if segment.failure is not None:
                raise segment.failure
        return joined([segment.text for segment in segments])

    def _heard(self) -> None:
        """A segment has new text."""
        text = joined([segment.text for segment in self._segments])
        if self._on_partial is not None and text and text != self._told:
            self._told = text
            self._on_partial(text)


class _Segment:
    """A stretch of audio to be transcribed as one."""

    def __init__(self, on_text: Callable[[], None]) -> None:
        self._on_text = on_text
        self.line: _Line | None = None  # on which it is sent, or was
        self.pcm = bytearray()  # all of it, until its text is known
        self.closed = False  # nothing more will be fed
        self.sent = 0  # bytes on the present connection
        self.committed = False  # on the present connection
        self.text = ""  # so far
        self.failure: ServiceError | None = None
        self.settled = asyncio.Event()  # the text is final, or there is a failure

    def rewind(self) -> None:
        """To be sent from the start."""
        self.sent, self.committed, self.text, self.failure = 0, False, "", None
        self.settled.clear()

    def tell(self, text: str) -> None:
        self.text = text
        self._on_text()

    def cancel(self) -> None:
        if self.line is not None:
            self.line.drop(self)
        self.settle("")

    def settle(self, text: str, failure: ServiceError | None = None) -> None:
        self.text, self.failure = text, failure
        if failure is None:
            self.pcm.clear()
        self.settled.set()


class _Line:
    """A connection while it is needed, and afterwards until the other side closes it.

    Its task works in an empty context: it outlives turns and sessions, whose work must not be inherited.
    """

    def __init__(self, connect: Callable[[], Awaitable[Wire]], service: str) -> None:
        self._connect = connect
        self._service = service
        self._segments: list[_Segment] = []  # those without their final text, in the order they are sent
        self._on_wire: dict[int, _Segment] = {}  # by their number on the present connection
        self._commits = 0  # on the present connection
        self._stale = False  # the open segment of the present connection was dropped
        self._progress = False  # a segment was settled since the last failure
        self._changed = asyncio.Event()  # there may be something to send
        self._patience: asyncio.Timeout | None = None  # with the connection; runs while a text is due
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Something may have changed: connect if need be, and send."""
        self._changed.set()
        self._wait_for_text(anew=False)
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), name=f"{self._service} line", context=Context())

    def take(self, segment: _Segment) -> None:
        """Have a segment transcribed: what is fed to it, once it is closed."""
        segment.rewind()
        segment.line = self
        self._segments.append(segment)

    def drop(self, segment: _Segment) -> None:
        """Forget a segment, if it has no text yet."""
        if segment in self._segments:
            self._segments.remove(segment)
            self._stale = self._stale or (segment.sent > 0 and not segment.committed)
            self._changed.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._fail(ServiceUnavailable(self._service, "the connection was closed"))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        attempt, began = 0, 0.0
        while True:
            since = loop.time()
            try:
                await self._serve()
            except Exception as error:
                failure = service_error(self._service, error)
            if not self._segments:
                return  # closed while idle, which servers do; the next utterance connects again
            if self._progress or loop.time() - since > BACKOFF.patience_s:
                attempt = 0  # it worked
            self._progress = False
            attempt += 1
            began = loop.time() if attempt == 1 else began
            pause_s = BACKOFF.pause_s(attempt, failure, loop.time() - began)
            if pause_s is None:
                self._fail(failure)
                return
            logger.info("{}; connecting again in {:.1f} s", failure, pause_s)
            await asyncio.sleep(pause_s)

    def _fail(self, failure: ServiceError) -> None:
        for segment in self._segments:
            segment.settle("", failure)
        self._segments.clear()

    async def _serve(self) -> None:
        """One connection, until it ends; raises."""
        wire = await self._connect()
        self._on_wire.clear()
        self._commits, self._stale = 0, False
        for segment in self._segments:
            segment.rewind()
        tasks = [asyncio.create_task(work) for work in (self._receive(wire), self._send(wire))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await wire.close()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self, wire: Wire) -> None:
        try:
            async with asyncio.timeout(None) as self._patience:
                self._wait_for_text(anew=True)
                while True:
                    self._hear(await wire.receive())
        except TimeoutError:
            raise ServiceUnavailable(self._service, f"no text within {SETTLE_S} s") from None
        finally:
            self._patience = None

    async def _send(self, wire: Wire) -> None:
        while True:
            self._changed.clear()
            while (step := self._step(wire)) is not None:
                await step
            await self._changed.wait()

    def _step(self, wire: Wire) -> Coroutine[Any, Any, None] | None:
        """The next thing to send; None when all is sent that there is."""
        if self._stale:
            self._stale = False
            self._on_wire.pop(self._commits, None)
            return wire.discard()
        for segment in self._segments:
            if segment.sent < len(segment.pcm):
                pcm = bytes(segment.pcm[segment.sent :])
                segment.sent = len(segment.pcm)
                self._on_wire[self._commits] = segment
                return wire.append(pcm)
            if not segment.closed:
                return None
            if not segment.committed:
                segment.committed = True
                self._commits += 1
                return wire.commit()
        return None

    def _hear(self, heard: Heard) -> None:
        segment = self._on_wire.get(heard.segment)
        if segment is not None and segment in self._segments:
            if heard.final:
                self._progress = True
                self._segments.remove(segment)
                segment.settle(heard.text)
            else:
                segment.tell(heard.text)
        if heard.final:
            self._on_wire.pop(heard.segment, None)
        self._wait_for_text(anew=True)

    def _wait_for_text(self, *, anew: bool) -> None:
        """The connection is given up when a text that is due does not come, nor any news."""
        patience = self._patience
        if patience is None or patience.expired():
            return
        if not any(segment.closed for segment in self._segments):
            patience.reschedule(None)
        elif anew or patience.when() is None:
            patience.reschedule(asyncio.get_running_loop().time() + SETTLE_S)


def joined(texts: list[str]) -> str:
    """Texts that follow each other, with a space between them where the script has spaces."""
    whole = ""
    for text in filter(None, map(str.strip, texts)):
        spaced = whole and not (is_east_asian(whole[-1]) or is_east_asian(text[0]))
        whole += f" {text}" if spaced else text
    return whole
