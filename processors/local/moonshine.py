"""Moonshine speech to text in a child process."""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import IntEnum

import numpy as np
from loguru import logger

from .errors import LocalModelError
from .packages import package_directory, package_file
from .worker import ModelWorker

_BYTES_PER_S = 2 * 16_000
# Of less it makes guesswork: with the STT's pre-roll of 0.5 s this is some 0.6 s of speech.
_FIRST_PARTIAL_S = 1.0
_PARTIAL_EVERY_S = 0.5
# The model works on the whole utterance each time and gets slower and less sure with its length (11 s take
# 0.25 s, 40 s nearly 4 s), so what is longer is cut where it is quietest and the first part settled.
_LONGEST_S = 12
_EARLIEST_CUT_S = 6
_CUT_WINDOW_S = 0.1


class _Urgency(IntEnum):
    FINAL = 0
    SNAPSHOT = 1
    PARTIAL = 2


class MoonshineSTT:
    """Speech to text (English, tiny) for many concurrent streams, in one child process.

    The sound stays on this side until it is transcribed, so when the child dies the request that was pending
    raises, and the next one, of the same stream too, goes to a new child with nothing lost.
    """

    def __init__(self) -> None:
        package_directory("moonshine_voice")
        weights = package_file("moonshine_voice", "assets/tiny-en/encoder_model.ort")
        self.worker = ModelWorker("moonshine", str(weights.parent))
        self._gate = _Gate()

    async def start(self) -> None:
        """Starts the child and waits until the model is loaded.

        Raises:
            WorkerStartFailed: the child ended before the model was loaded.
        """
        await self.worker.start()

    async def close(self) -> None:
        """Ends the child; what is pending raises WorkerDied."""
        await self.worker.close()

    def open(self, on_partial: Callable[[str], None]) -> "MoonshineStream":
        """A stream for one utterance. `on_partial` gets the text so far, about twice a second."""
        return MoonshineStream(self.worker, self._gate, on_partial)


class MoonshineStream:
    """One utterance: fed while it is spoken, then finished or cancelled."""

    def __init__(self, worker: ModelWorker, gate: "_Gate", on_partial: Callable[[str], None]) -> None:
        self._worker = worker
        self._gate = gate
        self._on_partial = on_partial
        # Sound that is not settled; grows in feed(), shrinks in _text_of_all().
        self._pcm = bytearray()
        # Texts of the parts that were cut off because the utterance was long.
        self._settled: list[str] = []
        self._fed = 0  # bytes
        # The text of the first so many bytes fed: a second request for the same sound costs nothing.
        self._latest = (0, "")
        self._one_at_a_time = asyncio.Lock()
        self._in_child = False  # the child works for this stream
        self._partial: asyncio.Task[None] | None = None
        self._next_partial_at = _FIRST_PARTIAL_S * _BYTES_PER_S  # bytes fed
        # Running snapshot() and finish() calls, for cancel().
        self._requests: set[asyncio.Task[str]] = set()
        self._open = True

    def feed(self, pcm: bytes) -> None:
        """Adds sound: 16 kHz mono signed 16-bit little-endian PCM of any length. Ignored when not open."""
        if not self._open:
            return
        self._pcm += pcm
        self._fed += len(pcm)
        if self._fed >= self._next_partial_at and (self._partial is None or self._partial.done()):
            self._partial = asyncio.create_task(self._send_partial(), name="partial transcript")

    async def snapshot(self) -> str:
        """The text of all that was fed up to now, as good as a final one; the stream stays open.

        "" when the stream is cancelled meanwhile.

        Raises:
            WorkerDied, WorkerStartFailed, ModelRequestFailed: a later call tries again, with all the sound.
        """
        return await self._request(_Urgency.SNAPSHOT)

    async def finish(self) -> str:
        """The text of all that was fed; the stream takes no more sound.

        At once when nothing was fed since the last snapshot. "" when the stream is cancelled meanwhile.

        Raises:
            WorkerDied, WorkerStartFailed, ModelRequestFailed: a later call tries again, with all the sound.
        """
        self._open = False
        return await self._request(_Urgency.FINAL)

    def cancel(self) -> None:
        """Drops the sound; no partial follows, pending calls of finish() and snapshot() return ""."""
        self._open = False
        self._pcm.clear()
        self._latest = (self._fed, "")
        self._settled.clear()
        for task in (self._partial, *self._requests):
            if task:
                task.cancel()

    async def _request(self, urgency: _Urgency) -> str:
        if self._partial and not self._in_child:  # else the child has to end it first anyway
            self._partial.cancel()
        request = asyncio.create_task(self._text_of_all(urgency), name=f"transcript {urgency.name}")
        self._requests.add(request)
        try:
            await asyncio.wait({request})
        finally:
            request.cancel()
            self._requests.discard(request)
        return "" if request.cancelled() else request.result()

    async def _send_partial(self) -> None:
        start, fed = asyncio.get_running_loop().time(), self._fed
        before = self._latest[1]
        try:
            text = await self._text_of_all(_Urgency.PARTIAL)
        except LocalModelError as error:
            logger.debug("No partial transcript: {}", error)
            return
        # Partials of a long utterance take long: leave the child free for half of the time.
        took = asyncio.get_running_loop().time() - start
        self._next_partial_at = fed + max(_PARTIAL_EVERY_S, 2 * took) * _BYTES_PER_S
        if text and text != before:
            self._on_partial(text)

    async def _transcribe(self, pcm: bytes, urgency: _Urgency) -> str:
        async with self._gate.pass_through(urgency):
            self._in_child = True
            try:
                reply, _ = await self._worker.call({}, pcm)
            finally:
                self._in_child = False
        return str(reply["text"])

    async def _text_of_all(self, urgency: _Urgency) -> str:
        async with self._one_at_a_time:
            while len(self._pcm) > _LONGEST_S * _BYTES_PER_S:
                cut = quietest(self._pcm[: _LONGEST_S * _BYTES_PER_S])
                text = await self._transcribe(bytes(self._pcm[:cut]), urgency)
                self._settled.append(text)
                del self._pcm[:cut]
            fed = self._fed
            if fed != self._latest[0]:
                text = await self._transcribe(bytes(self._pcm), urgency)
                self._latest = (fed, " ".join(part for part in (*self._settled, text) if part))
            return self._latest[1]


def quietest(pcm: bytes | bytearray) -> int:
    """Where to cut a long utterance: the middle, in bytes, of its quietest 0.1 s after the first 6 s."""
    window = int(_CUT_WINDOW_S * _BYTES_PER_S) // 2
    first = _EARLIEST_CUT_S * _BYTES_PER_S // 2
    samples = np.frombuffer(pcm, "<i2")[first:].astype(np.float32)
    windows = samples[: len(samples) // window * window].reshape(-1, window)
    quiet = int(np.square(windows).mean(axis=1).argmin())
    return 2 * (first + quiet * window + window // 2)


class _Gate:
    """Lets one request through at a time, the most urgent first."""

    def __init__(self) -> None:
        self._busy = False
        self._waiting: list[tuple[_Urgency, int, asyncio.Future[None]]] = []  # a heap
        self._order = itertools.count()

    @asynccontextmanager
    async def pass_through(self, urgency: _Urgency) -> AsyncIterator[None]:
        if self._busy:
            turn = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (urgency, next(self._order), turn))
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._let_next()
                raise
        self._busy = True
        try:
            yield
        finally:
            self._let_next()

    def _let_next(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._busy = False
