"""Notices that a bot's file, a file it includes, or a module of one's own has changed."""

from __future__ import annotations

import asyncio
import sys
import sysconfig
from pathlib import Path

from .shipped import shipped_bots
from .yaml_file import read_document

POLL_S = 0.5


def sources(name: str) -> set[Path]:
    """The files that a bot is made of: once it is loaded, its tools and other modules are among them.

    Modules of Python and of installed packages do not count.

    Args:
        name: As `load_bot` takes it.
    """
    path = shipped_bots().get(name, Path(name))
    files = set(read_document(path).files) if path.suffix in (".yaml", ".yml") else set()
    modules = (getattr(module, "__file__", None) for module in tuple(sys.modules.values()))
    return files | {Path(file) for file in modules if file is not None and _is_own(Path(file))}


async def changed(name: str) -> None:
    """Wait until something of it has changed, and the bot is right as it is now."""
    known = _stamps(name)
    while True:
        await asyncio.sleep(POLL_S)
        found = _stamps(name)
        if found != known:
            known = found
            if await _is_right(name):
                return


def _is_own(file: Path) -> bool:
    libraries = [Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib")]
    installed = {"site-packages", "dist-packages"} & set(file.parts)
    return not installed and not any(file.is_relative_to(library) for library in libraries)


def _stamps(name: str) -> dict[Path, int]:
    """When each file was changed; one that is just being written may be missing for a moment."""
    stamps: dict[Path, int] = {}
    for file in sources(name):
        try:
            stamps[file] = file.stat().st_mtime_ns
        except OSError:
            continue
    return stamps


async def _is_right(name: str) -> bool:
    """Whether it can be loaded, in a process that has seen nothing of it; tells what is wrong."""
    command = (sys.executable, "-m", "bargein", "check", name)
    checking = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    return await checking.wait() == 0
