"""What the tests of the local models share: an event loop for each module, and recordings."""

import asyncio
import os
import select
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import av
import pytest

Run = Callable[[Coroutine[Any, Any, Any]], Any]

_DATA = Path(__file__).parents[2] / "data"
_OF_ENGINES = ("replies of ", "errors of ", "keep the llama server running")


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs coroutines on one loop for the whole module, so that its tests share a loaded model."""
    with asyncio.Runner() as runner:

        async def checked(coroutine: Coroutine[Any, Any, Any]) -> Any:
            before = asyncio.all_tasks()
            result = await coroutine
            new = asyncio.all_tasks() - before
            ending = {task for task in new if not task.get_name().startswith(_OF_ENGINES)}
            if ending:  # a cancelled task ends in one of the next rounds of the loop
                _, left = await asyncio.wait(ending, timeout=60)
                assert not left
            return result

        yield lambda coroutine: runner.run(checked(coroutine))


def recording(name: str) -> bytes:
    """A file of tests/data as 16 kHz mono signed 16-bit PCM."""
    resampler = av.AudioResampler("s16", "mono", 16_000)
    with av.open(str(_DATA / name)) as container:
        frames = [*container.decode(audio=0), None]
        return b"".join(
            bytes(resampled.planes[0])[: 2 * resampled.samples]
            for frame in frames
            for resampled in resampler.resample(frame)
        )


def wait_for_end(pid: int) -> None:
    """Blocks until the process has ended; fails after a minute."""
    ended, _, _ = select.select([os.pidfd_open(pid)], [], [], 60)
    assert ended, f"process {pid} still runs"


@pytest.fixture(scope="session")
def jfk() -> bytes:
    return recording("jfk.flac")


@pytest.fixture(scope="session")
def sentence() -> bytes:
    """ "unless to be rather cold hearted and rather selfish is to be ill disposed" """
    return recording("sense_and_sensibility_01_austen_64kb-0890.wav")
