import asyncio
import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest
import soxr

from bargein.processors.local import MoonshineSTT, PiperTTS, SpeechChunk, WorkerDied

from .conftest import Run

pytestmark = pytest.mark.local_models

FOX = "The quick brown fox jumps over the lazy dog today."


@pytest.fixture(scope="module")
def tts(run: Run) -> Iterator[PiperTTS]:
    engine = PiperTTS()
    run(engine.start())
    yield engine
    run(engine.close())


async def speak(tts: PiperTTS, text: str) -> list[SpeechChunk]:
    return [chunk async for chunk in tts.synthesize(text)]


def seconds(chunks: list[SpeechChunk]) -> float:
    return sum(len(chunk.pcm) for chunk in chunks) / 2 / PiperTTS.sample_rate


def test_the_speech_is_understood(run: Run, tts: PiperTTS) -> None:
    async def there_and_back() -> str:
        stt = MoonshineSTT()
        speech = b"".join(chunk.pcm for chunk in await speak(tts, FOX))
        samples = soxr.resample(np.frombuffer(speech, "<i2"), tts.sample_rate, 16_000)
        stream = stt.open(lambda text: None)
        stream.feed(samples.astype("<i2").tobytes())
        try:
            return await stream.finish()
        finally:
            await stt.close()

    assert "brown fox jumps over the lazy dog" in run(there_and_back()).lower()


def test_each_word_has_its_span_and_time(run: Run, tts: PiperTTS) -> None:
    chunks = run(speak(tts, FOX))
    times = [word for chunk in chunks for word in chunk.words]
    assert [FOX[word.start : word.end] for word in times] == FOX.split()
    moments = [moment for word in times for moment in (word.start_s, word.end_s)]
    assert moments == sorted(moments)
    assert moments[-1] <= seconds(chunks)
    samples = np.abs(np.frombuffer(chunks[0].pcm, "<i2").astype(int))
    edges = [(round(word.start_s * tts.sample_rate), round(word.end_s * tts.sample_rate)) for word in times]
    assert min(samples[start:end].max() for start, end in edges) > 2_000, "each word has sound"
    assert samples[edges[-1][1] + 2_205 :].max() < 2_000, "silence follows the last"


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Smith paid $12.50 for 3 apples at 10:30 a.m. on 2024-05-01.",
        "It costs 1,234 & more; that is 50% off — e.g. half, isn't it?",
        "Look at https://example.com/a?b=c or mail me@example.com [[today]] ok",
        "Ünïcödé, 你好 and 🙂 emojis: fine?",
    ],
)
def test_words_that_are_spoken_otherwise_than_written(run: Run, tts: PiperTTS, text: str) -> None:
    chunks = run(speak(tts, text))
    times = [word for chunk in chunks for word in chunk.words]
    moments = [moment for word in times for moment in (word.start_s, word.end_s)]
    assert moments == sorted(moments)
    assert moments[-1] <= seconds(chunks) + 1e-6
    assert [word.start for word in times] == sorted({word.start for word in times})


def test_a_title_makes_no_pause(run: Run, tts: PiperTTS) -> None:
    (chunk,) = run(speak(tts, "Dr. Smith is here."))
    title, name, *_ = chunk.words
    assert name.start_s - title.end_s < 0.2


def test_the_first_piece_is_short_and_the_next_follows(run: Run, tts: PiperTTS) -> None:
    text = "Yes, of course, I can help you with that, but first I need to know where you live."
    first, second = run(speak(tts, text))
    assert text[: first.words[-1].end] == "Yes, of course,"
    assert second.words[0].start_s >= seconds([first])


def test_speech_begins_at_once(run: Run, tts: PiperTTS) -> None:
    (chunk,) = run(speak(tts, FOX))
    loud = np.abs(np.frombuffer(chunk.pcm, "<i2").astype(int)) > 1_000
    assert loud.argmax() < 0.03 * tts.sample_rate


@pytest.mark.parametrize("text", ["", "...", " \n ", "— !?"])
def test_text_without_words_gives_no_chunk(run: Run, tts: PiperTTS, text: str) -> None:
    assert run(speak(tts, text)) == []


def test_requests_at_the_same_time_share_the_voice(run: Run, tts: PiperTTS) -> None:
    async def both() -> list[str]:
        done: list[str] = []

        async def request(name: str, text: str) -> None:
            await speak(tts, text)
            done.append(name)

        long = "This is one sentence of many. " * 8
        await asyncio.gather(request("long", long), request("short", "Hello."))
        return done

    assert run(both()) == ["short", "long"]


def test_a_cancelled_request_frees_the_voice(run: Run, tts: PiperTTS) -> None:
    async def cancel_and_speak() -> list[SpeechChunk]:
        long = asyncio.create_task(speak(tts, "This is one sentence of many. " * 200))
        await asyncio.sleep(0)
        long.cancel()
        closed = tts.synthesize("This is one sentence of many. " * 200)
        async for _ in closed:
            break
        await closed.aclose()
        return await speak(tts, "Hello.")

    assert len(run(cancel_and_speak())) == 1


def test_the_child_dies_and_the_next_request_speaks(run: Run, tts: PiperTTS) -> None:
    async def crash() -> list[SpeechChunk]:
        pid = tts.worker.pid
        assert pid
        os.kill(pid, signal.SIGSTOP)
        requests = [asyncio.create_task(speak(tts, FOX)) for _ in range(2)]
        for _ in range(5):
            await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        for result in await asyncio.gather(*requests, return_exceptions=True):
            assert isinstance(result, WorkerDied)
        return await speak(tts, FOX)

    assert len(run(crash())) == 1
