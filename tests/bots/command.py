"""The command `bargein` as a process of its own, without keys."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-m", "bargein")
PATIENCE_S = 300.0  # a slow machine may take its time


def environment(**variables: str) -> dict[str, str]:
    """This process's, without keys."""
    own = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return own | {"PYTHONUNBUFFERED": "1"} | variables


def bargein(
    *arguments: str | Path, cwd: Path, said: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        input=said,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(**variables),
        check=False,
    )


def free_port() -> int:
    """Of those below which the system gives to nobody who asks for any: it stays free."""
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def answered(*arguments: str | Path, cwd: Path) -> Any:
    """What it wrote for programs; it must have succeeded, and written nothing besides."""
    done = bargein(*arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Running:
    """The command while it runs.

    Attributes:
        output: All that it wrote, to both streams.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = ""

    async def until(self, text: str, count: int = 1) -> None:
        """Read until it has written a text so many times."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while self.output.count(text) < count:
                line = await self.process.stdout.readline()
                assert line, f"ended without {text!r}:\n{self.output}"
                self.output += line.decode()

    async def stop(self, signal: int) -> int | None:
        """Send a signal and wait for the end; returns the exit code."""
        self.process.send_signal(signal)
        async with asyncio.timeout(PATIENCE_S):
            rest, _ = await self.process.communicate()
        self.output += rest.decode()
        return self.process.returncode


@asynccontextmanager
async def started(
    *arguments: str | Path, cwd: Path, command: Sequence[str] = COMMAND, **variables: str
) -> AsyncIterator[Running]:
    """The command, ended with the block."""
    process = await asyncio.create_subprocess_exec(
        *command,
        *map(str, arguments),
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment(**variables),
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
