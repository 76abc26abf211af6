"""A check for tasks and sockets that are left behind."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .errors import BargeinError
from .virtual_time import describe_task


class Leaked(BargeinError, AssertionError):
    """Raised when tasks or sockets opened inside a leak check are left at its end."""


@asynccontextmanager
async def leak_check() -> AsyncIterator[None]:
    """Fail if tasks or sockets that were opened inside the block are left at its end.

    Other errors go first: a block that raises is not checked.

    Raises:
        Leaked: Some are left; names each.
    """
    tasks, sockets = asyncio.all_tasks(), _open_sockets()
    yield
    left: list[str] = []
    # Closing a transport or ending a task takes the loop some rounds.
    for _ in range(10):
        await asyncio.sleep(0)
        left = [describe_task(task) for task in asyncio.all_tasks() - tasks]
        left += [f"  {name}" for fd, name in _open_sockets().items() if sockets.get(fd) != name]
        if not left:
            return
    raise Leaked("\n".join(["left running or open; end each where it was started:", *sorted(left)]))


def _open_sockets() -> dict[int, str]:
    """The process's sockets by file descriptor, each with a name no later socket has."""
    found: dict[int, str] = {}
    # Linux and macOS list the process's own descriptors here; on other systems sockets are not checked.
    try:
        descriptors = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        return found
    for fd in descriptors:
        try:
            status = os.fstat(fd)
            if stat.S_ISSOCK(status.st_mode):
                found[fd] = f"socket fd {fd} (inode {status.st_ino}) {_addresses(fd)}"
        except OSError:  # the descriptor of the listing itself
            continue
    return found


def _addresses(fd: int) -> str:
    with socket.socket(fileno=os.dup(fd)) as copy:
        try:
            peer = copy.getpeername()
        except OSError:
            return f"at {copy.getsockname()!r}"
        return f"from {copy.getsockname()!r} to {peer!r}"
