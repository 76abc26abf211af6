import asyncio
import os
import subprocess
import sys
from typing import Any

import pytest

from bargein.processors.local import MoonshineSTT, WorkerDied, WorkerStartFailed
from bargein.processors.local.worker import ModelWorker

from .conftest import Run, wait_for_end

pytestmark = pytest.mark.local_models

_PARENT = """
import asyncio
from bargein.processors.local import MoonshineSTT

async def main():
    stt = MoonshineSTT()
    await stt.start()
    stream = stt.open(print)
    stream.feed(bytes(32_000 * 11))
    finish = asyncio.create_task(stream.finish())  # so the end finds the child at work
    await asyncio.sleep(0)
    print(stt.worker.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux to wait for a process not its own")
def test_the_child_dies_with_a_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        parent.kill()
    wait_for_end(child)


def test_a_model_that_does_not_load_says_why(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    async def start() -> None:
        worker = ModelWorker("moonshine", "/no/such/directory")
        for _ in range(2):
            with pytest.raises(WorkerStartFailed, match=r"(?s)exit code 1.*Failed to load transcriber"):
                await worker.start()
        await worker.close()

    run(start())
    assert capfd.readouterr().out == ""


def test_starts_by_itself_and_only_once(run: Run) -> None:
    async def requests() -> None:
        stt = MoonshineSTT()
        assert stt.worker.pid is None
        streams = [stt.open(print) for _ in range(2)]
        for stream in streams:
            stream.feed(bytes(3_200))
        await asyncio.gather(*(stream.finish() for stream in streams), stt.start())
        assert repr(stt.worker) == "<ModelWorker moonshine running>"
        await stt.close()
        assert repr(stt.worker) == "<ModelWorker moonshine closed>"
        with pytest.raises(WorkerDied, match=r"call start\(\) first"):
            await stt.worker.call({}, b"")

    run(requests())


@pytest.mark.parametrize("when", ["before it is spawned", "while it loads"])
def test_close_during_the_start(run: Run, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    spawn = asyncio.create_subprocess_exec

    async def start_and_close() -> None:
        spawned: asyncio.Future[asyncio.subprocess.Process] = asyncio.get_running_loop().create_future()

        async def watched(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
            spawned.set_result(await spawn(*arguments, **options))
            return spawned.result()

        monkeypatch.setattr(asyncio, "create_subprocess_exec", watched)
        stt = MoonshineSTT()
        starting = asyncio.create_task(stt.start())
        await (asyncio.sleep(0) if when == "before it is spawned" else spawned)
        await stt.close()
        with pytest.raises(WorkerStartFailed, match="was closed"):
            await starting
        assert (await spawned).returncode is not None

    run(start_and_close())


def test_close_ends_a_request_under_way(run: Run, jfk: bytes) -> None:
    async def transcribe_and_close() -> None:
        stt = MoonshineSTT()
        await stt.start()
        stream = stt.open(lambda text: None)
        stream.feed(jfk)
        finish = asyncio.create_task(stream.finish())
        for _ in range(5):
            await asyncio.sleep(0)
        await stt.close()
        with pytest.raises(WorkerDied, match="closed"):
            await finish

    run(transcribe_and_close())
