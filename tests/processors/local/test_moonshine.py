import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from bargein.processors.local import MoonshineSTT, WorkerDied
from bargein.processors.local.moonshine import quietest

from .conftest import Run

pytestmark = pytest.mark.local_models

ASK_NOT = "ask not what your country can do for you"
FRAME = 640  # bytes, 20 ms


@pytest.fixture(scope="module")
def stt(run: Run) -> Iterator[MoonshineSTT]:
    engine = MoonshineSTT()
    run(engine.start())
    yield engine
    run(engine.close())


def no_partial(text: str) -> None:
    """For tests that do not look at partials."""


def test_transcribes_a_recording(run: Run, stt: MoonshineSTT, jfk: bytes) -> None:
    async def transcribe() -> str:
        stream = stt.open(no_partial)
        for at in range(0, len(jfk), FRAME):
            stream.feed(jfk[at : at + FRAME])
        return await stream.finish()

    assert ASK_NOT in run(transcribe()).lower()


def test_partials_come_while_the_user_speaks(run: Run, stt: MoonshineSTT, sentence: bytes) -> None:
    async def transcribe() -> list[str]:
        partials: asyncio.Queue[str] = asyncio.Queue()
        stream = stt.open(partials.put_nowait)
        stream.feed(sentence[: 2 * 32_000])
        first = await partials.get()
        stream.feed(sentence[2 * 32_000 : 4 * 32_000])
        while partials.empty():  # a child that took long is asked again once there is more to hear
            stream.feed(bytes(3_200))
            await asyncio.sleep(0.05)
        second = partials.get_nowait()
        await stream.finish()
        assert partials.empty()
        return [first, second]

    first, second = run(transcribe())
    assert "rather cold" in first.lower()
    assert "selfish" in second.lower()


def test_snapshot_prepares_the_final_text(run: Run, stt: MoonshineSTT, sentence: bytes) -> None:
    async def transcribe() -> tuple[str, str, str]:
        stream = stt.open(no_partial)
        stream.feed(sentence[: 3 * 32_000])
        early = await stream.snapshot()
        stream.feed(sentence[3 * 32_000 :])
        late = await stream.snapshot()
        pid = stt.worker.pid
        assert pid
        os.kill(pid, signal.SIGSTOP)  # so the child can have no part in the final text
        try:
            return early, late, await stream.finish()
        finally:
            os.kill(pid, signal.SIGCONT)

    early, late, final = run(transcribe())
    assert "selfish" not in early
    assert "selfish" in late
    assert final == late


def test_streams_at_the_same_time_do_not_mix(
    run: Run, stt: MoonshineSTT, jfk: bytes, sentence: bytes
) -> None:
    async def transcribe() -> list[str]:
        streams = {stt.open(no_partial): jfk, stt.open(no_partial): sentence}
        for at in range(0, len(jfk), FRAME):
            for stream, pcm in streams.items():
                stream.feed(pcm[at : at + FRAME])
        return await asyncio.gather(*(stream.finish() for stream in streams))

    of_jfk, of_sentence = run(transcribe())
    assert ASK_NOT in of_jfk.lower()
    assert "cold-hearted" in of_sentence
    assert "country" not in of_sentence


def test_a_long_utterance_is_cut_and_nothing_lost(run: Run, stt: MoonshineSTT, jfk: bytes) -> None:
    async def transcribe() -> str:
        stream = stt.open(no_partial)
        stream.feed(jfk + jfk)
        return await stream.finish()

    assert run(transcribe()).lower().count(ASK_NOT) == 2


def test_the_cut_is_in_the_silence() -> None:
    second = 32_000
    loud = b"\x00\x40" * 16_000
    pcm = loud * 8 + bytes(second // 4) + loud * 4
    assert 8 * second < quietest(pcm) < 8 * second + second // 4


def test_no_sound_no_text(run: Run, stt: MoonshineSTT) -> None:
    async def transcribe() -> str:
        return await stt.open(no_partial).finish()

    assert run(transcribe()) == ""


def test_cancel_ends_pending_calls_with_no_text(
    run: Run, stt: MoonshineSTT, jfk: bytes, sentence: bytes
) -> None:
    async def transcribe() -> tuple[str, str]:
        stream = stt.open(no_partial)
        stream.feed(jfk)
        finish = asyncio.create_task(stream.finish())
        await asyncio.sleep(0)
        stream.cancel()
        other = stt.open(no_partial)
        other.feed(sentence)
        return await finish, await other.finish()

    cancelled, other = run(transcribe())
    assert cancelled == ""
    assert "selfish" in other


def test_a_cancelled_caller_leaves_the_stream_usable(run: Run, stt: MoonshineSTT, sentence: bytes) -> None:
    async def transcribe() -> str:
        stream = stt.open(no_partial)
        stream.feed(sentence)
        snapshot = asyncio.create_task(stream.snapshot())
        await asyncio.sleep(0)
        snapshot.cancel()
        with pytest.raises(asyncio.CancelledError):
            await snapshot
        return await stream.finish()

    assert "selfish" in run(transcribe())


def test_the_child_dies_and_the_utterance_survives(run: Run, stt: MoonshineSTT, sentence: bytes) -> None:
    async def transcribe() -> str:
        streams = [stt.open(no_partial), stt.open(no_partial)]
        pid = stt.worker.pid
        assert pid
        os.kill(pid, signal.SIGSTOP)  # or the reply might come before the end
        for stream in streams:
            stream.feed(sentence[:24_000])  # too little for a partial
        calls = [asyncio.create_task(stream.snapshot()) for stream in streams]
        for _ in range(5):
            await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="exit code -9"):
            await calls[0]
        assert await calls[1]  # was still waiting for its turn, and went to the new child
        assert stt.worker.pid != pid
        streams[0].feed(sentence[24_000:])
        return await streams[0].finish()

    assert "selfish" in run(transcribe())


def test_a_partial_that_is_being_made_is_told_before_the_snapshot(
    run: Run, stt: MoonshineSTT, sentence: bytes
) -> None:
    async def transcribe() -> tuple[list[str], str]:
        told: list[str] = []
        stream = stt.open(told.append)
        stream.feed(sentence[:48_000])
        for _ in range(5):
            await asyncio.sleep(0)
        stream.feed(sentence[48_000:])
        text = await stream.snapshot()
        return told, text

    told, text = run(transcribe())
    assert len(told) == 1
    assert 0 < len(told[0]) < len(text)


def test_a_partial_that_waits_for_others_does_not_keep_the_snapshot_waiting(
    run: Run, stt: MoonshineSTT, jfk: bytes, sentence: bytes
) -> None:
    async def transcribe() -> list[str]:
        told: list[str] = []
        other, stream = stt.open(no_partial), stt.open(told.append)
        other.feed(jfk)
        finishing = asyncio.create_task(other.finish())
        for _ in range(5):
            await asyncio.sleep(0)
        stream.feed(sentence)
        assert "selfish" in await stream.snapshot()
        await finishing
        return told

    assert run(transcribe()) == []
