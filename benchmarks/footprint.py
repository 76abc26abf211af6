"""What a session costs: memory, tasks, and the time to the first one in a fresh process.

Both sides: sessions of eight processors without models, each in a task of its own. Every processor has
handled one audio and one text frame, so all that is made on first use is there.

- Memory: growth of the process's resident memory by many sessions at once, divided by their number,
  while they are idle. In a process of its own for each side, after a collection of garbage.
- Tasks: likewise, idle, and with every processor at work on a frame.
- Start-up: from the start of the Python process until the first session's last processor has a frame.
  Modules are compiled before.

Pipecat's memory and tasks are measured without any observer, and with its default ones.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import resource
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from loguru import logger

from benchmarks.report import Report, Row, progress

PROCESSORS = 8
READY = "ready"
# Turns of the event loop for frames to reach what they keep busy.
TURNS = 20


def run(sessions: int = 200, repeats: int = 5) -> Report:
    """Measure both engines in processes of their own."""
    costs = {}
    for engine, observed in (("bargein", False), ("pipecat", False), ("pipecat", True)):
        progress(f"footprint: {sessions} sessions of {engine}")
        costs[engine, observed] = _measured(engine, sessions, observed)
    times: dict[str, list[float]] = {"bargein": [], "pipecat": []}
    for repeat in range(repeats + 1):
        for engine, found in times.items():
            progress(f"footprint: start-up {repeat} of {repeats} of {engine}")
            found.append(_start_up_ms(engine))
    progress("")
    ours = costs["bargein", False]
    rows = []
    for suffix, stock in (
        ("", costs["pipecat", False]),
        (", Pipecat with its default observers", costs["pipecat", True]),
    ):
        rows += [
            Row(f"memory of a session{suffix}", "KiB", (ours["kib"],), (stock["kib"],)),
            Row(f"tasks of an idle session{suffix}", "tasks", (ours["idle"],), (stock["idle"],)),
            Row(f"tasks of a busy session{suffix}", "tasks", (ours["busy"],), (stock["busy"],)),
        ]
    # The first start compiles.
    starts = tuple(times["bargein"][1:]), tuple(times["pipecat"][1:])
    rows.append(Row("process start to first session", "ms", *starts))
    return Report(
        f"Sessions of {PROCESSORS} processors without models, {sessions} at once",
        tuple(rows),
        ("Aims: under 80 KiB and 8 tasks a session.",),
    )


def main() -> None:
    """Measure and print the table."""
    print(run())


def _measured(engine: str, sessions: int, observed: bool) -> dict[str, float]:
    process = _spawn(engine, str(sessions), str(int(observed)))
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the process that measured {engine} failed with code {process.returncode}")
    found: dict[str, float] = json.loads(output)
    return found


def _start_up_ms(engine: str) -> float:
    begun = time.perf_counter()
    process = _spawn(engine)
    assert process.stdout is not None
    line = process.stdout.readline()
    taken = (time.perf_counter() - begun) * 1000
    process.communicate()
    if line.strip() != READY or process.returncode:
        raise RuntimeError(f"{engine} did not start: {line!r}, code {process.returncode}")
    return taken


def _spawn(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.footprint", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )


# In the measured process ------------------------------------------------------------------------------


async def _many(engine: Any, count: int, observed: bool) -> dict[str, float]:
    gate = asyncio.Event()
    gate.set()
    async with AsyncExitStack() as stack:
        # The first session also pays for what all share.
        await stack.enter_async_context(engine.session(PROCESSORS, gate, observed=observed))
        memory, tasks = _resident_kib(), len(asyncio.all_tasks())
        held = [
            await stack.enter_async_context(engine.session(PROCESSORS, gate, observed=observed))
            for _ in range(count)
        ]
        found = {
            "kib": (_resident_kib() - memory) / count,
            "idle": (len(asyncio.all_tasks()) - tasks) / count,
        }
        gate.clear()
        for parts in held:
            await engine.keep_busy(parts)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        found["busy"] = (len(asyncio.all_tasks()) - tasks) / count
        gate.set()
    return found


async def _first(engine: Any) -> None:
    gate = asyncio.Event()
    gate.set()
    async with engine.session(PROCESSORS, gate, observed=True):
        print(READY, flush=True)


def _resident_kib() -> float:
    """What the process holds now; not its peak, which on Linux a child takes over from its parent."""
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 1024


def _measure(name: str, sessions: str = "", observed: str = "0") -> None:
    logger.remove()  # neither side pays for its log
    engine = importlib.import_module(f"benchmarks.footprint_{name}")
    if not sessions:
        asyncio.run(_first(engine))
        return
    print(json.dumps(asyncio.run(_many(engine, int(sessions), observed == "1"))))


if __name__ == "__main__":
    _measure(*sys.argv[1:])
