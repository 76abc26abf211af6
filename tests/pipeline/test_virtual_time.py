"""The loop whose clock jumps: when it does, and when it must not."""

import asyncio
import re
import socket
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from bargein.pipeline.testing import Deadlock, VirtualTimeLoop, run_in_virtual_time, settle

DAY = 86_400.0


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_the_clock_jumps_to_the_next_timer() -> None:
    started, really = now(), time.monotonic()
    await asyncio.sleep(30 * DAY)
    assert now() - started == pytest.approx(30 * DAY)
    assert time.monotonic() - really < DAY


async def test_timers_fire_in_order_at_their_times() -> None:
    loop = asyncio.get_running_loop()
    fired: list[tuple[str, float]] = []
    started = now()

    def fire(name: str) -> None:
        fired.append((name, round(now() - started, 6)))

    for name, delay in (("c", 3.0), ("a", 0.1), ("b", 0.2)):
        loop.call_later(delay, fire, name)
    loop.call_later(2, fire, "cancelled").cancel()
    await asyncio.sleep(5)
    assert fired == [("a", 0.1), ("b", 0.2), ("c", 3.0)]


async def test_a_timeout_beats_what_comes_later() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await asyncio.sleep(1.5)


async def test_settle_waits_for_everything_due_now_and_nothing_later() -> None:
    done: list[str] = []

    async def work(name: str, delay: float) -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        await asyncio.sleep(delay)
        done.append(name)

    tasks = [asyncio.create_task(work("now", 0)), asyncio.create_task(work("later", 1))]
    started = now()
    await settle()
    assert (done, now()) == (["now"], started)
    await asyncio.gather(*tasks)


@pytest.mark.real_time
async def test_settle_needs_virtual_time() -> None:
    with pytest.raises(RuntimeError, match="virtual_time"):
        await settle()


async def test_the_clock_does_not_overtake_a_thread() -> None:
    may_end = threading.Event()
    asyncio.get_running_loop().call_later(0.05, may_end.set)
    async with asyncio.timeout(DAY):
        await asyncio.to_thread(may_end.wait)


async def test_the_clock_does_not_overtake_a_thread_whose_waiter_was_cancelled() -> None:
    loop = asyncio.get_running_loop()
    may_end, ended = threading.Event(), asyncio.Event()

    def work() -> None:
        may_end.wait()
        loop.call_soon_threadsafe(ended.set)

    task = asyncio.create_task(asyncio.to_thread(work))
    await asyncio.sleep(0)
    task.cancel()
    loop.call_later(0.05, may_end.set)
    async with asyncio.timeout(DAY):
        await ended.wait()
    assert task.cancelled()


async def test_the_clock_does_not_overtake_a_child_process() -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "print('hi')")
    async with asyncio.timeout(DAY):
        assert await child.wait() == 0


async def test_the_clock_does_not_overtake_a_shell_with_pipes() -> None:
    child = await asyncio.create_subprocess_shell("cat", stdin=-1, stdout=-1)
    async with asyncio.timeout(DAY):
        assert (await child.communicate(b"hi"))[0] == b"hi"


async def test_the_clock_does_not_overtake_a_process_pool() -> None:
    with ProcessPoolExecutor(1) as pool:
        async with asyncio.timeout(DAY):
            assert await asyncio.get_running_loop().run_in_executor(pool, abs, -1) == 1


async def test_the_clock_does_not_overtake_a_socket() -> None:
    near, far = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=near)
    answer = threading.Timer(0.05, far.sendall, (b"hi",))
    answer.start()
    async with asyncio.timeout(DAY):
        assert await reader.readexactly(2) == b"hi"
    answer.join()
    far.close()
    writer.close()
    await writer.wait_closed()


def test_waiting_for_ever_is_an_error_that_names_who_waits() -> None:
    async def wait_for_godot() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(wait_for_godot(), name="estragon")
        await task

    with pytest.raises(Deadlock) as caught:
        run_in_virtual_time(main())
    message = str(caught.value)
    assert "  task 'estragon' in test_waiting_for_ever" in message
    assert re.search(r"wait_for_godot at .*test_virtual_time\.py:\d+", message)
    assert message.count("  task ") == 2


def test_it_runs_with_an_asyncio_runner() -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(asyncio.sleep(DAY, "done")) == "done"
        assert runner.run(asyncio.to_thread(lambda: "done")) == "done"
