"""A pseudo-terminal in which a command runs."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import struct
import termios
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from .command import COMMAND, PATIENCE_S, environment

ESCAPE, TAB, CTRL_C, CTRL_D = "\x1b", "\t", "\x03", "\x04"


class Terminal:
    """Its screen and its keys."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._raw = ""
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    @property
    def screen(self) -> str:
        """All that was written to it, without escape sequences: of what changes in place only the changes."""
        return re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>])", "", self._raw).replace("\r", "")

    def _read(self) -> None:
        try:
            self._raw += os.read(self._master, 65_536).decode(errors="replace")
        except OSError:  # the command has ended
            asyncio.get_running_loop().remove_reader(self._master)
        self._news.set()

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    async def leave(self, process: asyncio.subprocess.Process) -> None:
        """Type Ctrl-D until the command has ended: one that is typed while a line is printed may be lost."""
        ended = asyncio.ensure_future(process.wait())
        while not ended.done():
            self.type(CTRL_D)
            await asyncio.wait([ended], timeout=1)

    async def until(self, text: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while text not in self.screen:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} is not in\n{self.screen}") from None


@asynccontextmanager
async def terminal(
    *arguments: str | Path,
    cwd: Path | None = None,
    command: Sequence[str] = COMMAND,
    columns: int = 100,
    **variables: str,
) -> AsyncIterator[tuple[Terminal, asyncio.subprocess.Process]]:
    """The command in a terminal; waits for its end, which the block must bring about."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *command,
        *map(str, arguments),
        cwd=cwd,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env=environment(**{"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"} | variables),
    )
    os.close(slave)
    try:
        yield Terminal(master), process
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)
