"""A model in a process of its own: start, requests, crash, restart, end."""

import asyncio
import itertools
import json
import sys
from pathlib import Path

from loguru import logger

from .errors import ModelRequestFailed, WorkerDied, WorkerStartFailed
from .worker_main import LENGTHS, Header, encode

_PROGRAM = Path(__file__).with_name("worker_main.py")
_END_TIMEOUT_S = 2.0
_STDERR_KEPT = 2_000  # characters


class ModelWorker:
    """Runs one engine of `worker_main` in a child process, and starts it anew when it has died.

    Requests are answered one after another, in the order in which they were made. A request whose caller was
    cancelled is computed to its end, and its reply thrown away. The child ends with the parent, however the
    parent ends.
    """

    def __init__(self, engine: str, *arguments: str) -> None:
        self._engine = engine
        self._arguments = arguments
        # The child of this moment: set by _launch, left in place after its death, taken away by close().
        self._child: _Child | None = None
        # The launch under way or done last; callers of start() share it.
        self._launching: asyncio.Task[_Child] | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "running" if self._alive() else "not running"
        return f"<ModelWorker {self._engine} {state}>"

    @property
    def pid(self) -> int | None:
        """Process id of the child, None while there is none."""
        return self._child.process.pid if self._child and self._alive() else None

    async def start(self) -> None:
        """Starts the child unless it runs, and waits until its model is loaded.

        Raises:
            WorkerStartFailed: the child ended before its model was loaded.
        """
        self._closed = False
        await self._loaded_child()

    async def call(self, header: Header, body: bytes = b"") -> tuple[Header, bytes]:
        """One request and its reply. Starts the child when it is not running.

        Raises:
            WorkerStartFailed: the child had to be started and ended before its model was loaded.
            WorkerDied: the child ended before the reply, or the worker is closed.
            ModelRequestFailed: the engine failed on this request.
        """
        if self._closed:
            raise WorkerDied(f"The process of {self._engine} is closed: call start() first.")
        return await (await self._loaded_child()).call(header, body)

    async def ended(self) -> None:
        """Waits until the child of this moment has ended."""
        if self._child:
            await asyncio.wait({self._child.listening})

    async def close(self) -> None:
        """Ends the child; requests that are pending raise WorkerDied, a start under way WorkerStartFailed."""
        self._closed = True
        if self._child:
            await self._child.end()
        if self._launching:
            await asyncio.wait({self._launching})
        self._child = None

    def _alive(self) -> bool:
        return self._child is not None and self._child.alive

    async def _loaded_child(self) -> "_Child":
        if self._child and self._child.alive and self._child.ready.done():
            return self._child
        if self._launching is None or self._launching.done():
            self._launching = asyncio.create_task(self._launch(), name=f"start {self._engine}")
            self._launching.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(self._launching)

    async def _launch(self) -> "_Child":
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # or the modules beside the program would hide those of the standard library
            _PROGRAM,
            self._engine,
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=2**20,
        )
        child = self._child = _Child(self._engine, process)
        if self._closed:
            await child.end()
        await asyncio.wait({child.ready})
        child.ready.result()
        return child


class _Child:
    """One life of a worker's process."""

    def __init__(self, engine: str, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.alive = True
        # Done when the child is loaded or has ended, whichever comes first.
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.listening = asyncio.create_task(self._listen(), name=f"replies of {engine}")
        self._engine = engine
        # Requests without a reply; their callers wait for these futures.
        self._pending: dict[int, asyncio.Future[tuple[Header, bytes]]] = {}
        self._ids = itertools.count(1)
        self._said = ""  # the end of what it wrote to standard error
        self._ending = False

    async def call(self, header: Header, body: bytes) -> tuple[Header, bytes]:
        assert self.process.stdin
        request = next(self._ids)
        reply: asyncio.Future[tuple[Header, bytes]] = asyncio.get_running_loop().create_future()
        self._pending[request] = reply
        self.process.stdin.write(encode({**header, "id": request}, body))
        try:
            return await reply
        finally:
            del self._pending[request]

    async def end(self) -> None:
        assert self.process.stdin
        self._ending = True
        self.process.stdin.close()
        _, still_running = await asyncio.wait({self.listening}, timeout=_END_TIMEOUT_S)
        if still_running:
            self.process.kill()
            await asyncio.wait({self.listening})

    async def _listen(self) -> None:
        errors = asyncio.create_task(self._keep_stderr(), name=f"errors of {self._engine}")
        assert self.process.stdout
        try:
            while True:
                head, body = LENGTHS.unpack(await self.process.stdout.readexactly(LENGTHS.size))
                header = json.loads(await self.process.stdout.readexactly(head))
                self._take(header, await self.process.stdout.readexactly(body))
        except asyncio.IncompleteReadError:
            self.alive = False
        await errors
        self._fail_all(await self.process.wait())

    async def _keep_stderr(self) -> None:
        assert self.process.stderr
        while text := await self.process.stderr.read(4096):
            self._said = (self._said + text.decode(errors="replace"))[-_STDERR_KEPT:]

    def _take(self, header: Header, body: bytes) -> None:
        if "ready" in header:
            self.ready.set_result(None)
            return
        reply = self._pending.get(header["id"])
        if reply is None or reply.done():
            return
        if "failed" in header:
            what = f"{self._engine} failed on a request:\n{header['failed']}"
            reply.set_exception(ModelRequestFailed(what))
        else:
            reply.set_result((header, body))

    def _fail_all(self, exit_code: int) -> None:
        if self._ending:
            what = f"The process of {self._engine} was closed."
        else:
            what = f"The process of {self._engine} ended by itself with exit code {exit_code}."
            if self._said:
                what += f" Its last words:\n{self._said.rstrip()}"
            logger.warning(what)
        if not self.ready.done():
            self.ready.set_exception(WorkerStartFailed(what))
        for reply in self._pending.values():
            if not reply.done():
                reply.set_exception(WorkerDied(what))
