"""What the user types and says: in order, together, and never lost."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable

import pytest

from bargein.transports.voice_agent import VoiceAgentProtocol
from bargein.transports.voice_agent.encoding import encode
from bargein.transports.voice_agent.input import MAX_PENDING, MAX_TEXT

from ...processors.fakes import FakeTranscriber, FakeUtterance
from .agent import RECORDING, talking


def requests_of(talk: object) -> list[str]:
    """The last message of each request to the model."""
    return [str(r.messages[-1]["content"]) for r in talk.server.requests]  # type: ignore[attr-defined]


async def test_a_recording_is_transcribed_and_answered() -> None:
    async with talking(transcripts=[("hello there", 0.2)]) as talk:
        talk.page.say(type="audio", data=RECORDING, format="audio/webm;codecs=opus", duration=100)
        told = await talk.page.expect("transcription_result")
        assert (told["text"], told["language"]) == ("hello there", None)
        await talk.page.expect("speech_stream_end")
        await talk.quiet()
        assert talk.history[0] == ("user", "hello there")
        assert talk.page.kinds[0] == "transcription_result"


async def test_the_whole_recording_reaches_the_recogniser_at_16_khz() -> None:
    ears = FakeTranscriber([("hello", 0.1)])
    data = b64encode(encode(b"\x10\x20" * 48_000, 48_000, "wav")).decode()
    async with talking(transcriber=ears) as talk:
        talk.page.say(type="audio", data=data)
        await talk.page.expect("transcription_result")
        assert len(ears.opened[0].fed) == pytest.approx(32_000, abs=320)


async def test_recordings_are_one_question_in_their_order_whichever_is_ready_first() -> None:
    async with talking(transcripts=[("one", 2.0), ("two", 0.1), ("three", 1.0)]) as talk:
        for _ in range(3):
            talk.page.say(type="audio", data=RECORDING)
            await asyncio.sleep(0.01)
        await talk.page.expect("transcription_result", 3)
        assert [m["text"] for m in talk.page.of("transcription_result")] == ["one", "two", "three"]
        await talk.page.expect("response_complete")
        await talk.quiet()
        assert requests_of(talk) == ["one two three"]
        assert len(talk.page.of("stream_start")) == 1


async def test_text_waits_for_what_was_said_before_it() -> None:
    async with talking(transcripts=[("said first", 1.0)]) as talk:
        talk.page.say(type="audio", data=RECORDING)
        talk.page.say(type="transcript", text="written second")
        await talk.page.expect("response_complete")
        assert requests_of(talk) == ["said first written second"]


async def test_inputs_sent_together_are_answered_together() -> None:
    async with talking() as talk:
        for text in ("one", "two", "three"):
            talk.page.say(type="transcript", text=text)
        await talk.page.expect("response_complete")
        await talk.quiet()
        assert requests_of(talk)[-1] == "one two three"
        assert [m["text"] for m in talk.page.of("response_complete") if not m["interrupted"]] != []
        assert len([m for m in talk.page.of("response_complete") if not m["interrupted"]]) == 1
        assert len(talk.page.of("speech_stream_start")) == 1
        assert [role for role, _ in talk.history] == ["user", "assistant"]


async def test_an_interruption_during_transcription_takes_the_wish_for_an_answer() -> None:
    async with talking(transcripts=[("never mind", 1.0), ("what else", 0.1)]) as talk:
        talk.page.say(type="audio", data=RECORDING)
        await asyncio.sleep(0.3)
        talk.page.say(type="interrupt", reason="user_clicked_interrupt")
        await talk.page.expect("speech_interrupted")
        await talk.page.expect("transcription_result")
        await asyncio.sleep(5)
        assert not talk.page.of("stream_start")
        assert talk.history == [("user", "never mind")]
        talk.page.say(type="audio", data=RECORDING)
        await talk.page.expect("response_complete")
        assert requests_of(talk) == ["never mind what else"]


async def test_stopping_the_speech_alone_leaves_the_question() -> None:
    async with talking(transcripts=[("a question", 1.0)]) as talk:
        talk.page.say(type="audio", data=RECORDING)
        await asyncio.sleep(0.3)
        talk.page.say(type="interrupt", level="speech")
        await talk.page.expect("speech_stream_end")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b64encode(b"no recording").decode(), "cannot be read"),
        ("§§§", "base64"),
        (b64encode(encode(b"", 16_000, "wav")).decode(), "no sound"),
    ],
)
async def test_a_bad_recording_is_told(data: str, problem: str) -> None:
    async with talking() as talk:
        talk.page.say(type="audio", data=data)
        error = await talk.page.expect("transcription_error")
        assert problem in error["error"]
        assert not talk.page.of("error")
        talk.page.say(type="transcript", text="hello")
        await talk.page.expect("speech_stream_end")


async def test_a_recording_without_words_is_told() -> None:
    async with talking(transcripts=[(" ", 0.1)]) as talk:
        talk.page.say(type="audio", data=RECORDING)
        await talk.page.expect("transcription_error")
        await asyncio.sleep(1)
        assert not talk.page.of("stream_start")


async def test_a_recogniser_that_fails_is_told_once_and_what_came_before_is_answered() -> None:
    class Deaf(FakeTranscriber):
        def open(self, on_partial: Callable[[str], None]) -> FakeUtterance:
            if self.opened:
                raise RuntimeError("no ears left")
            return super().open(on_partial)

    async with talking(transcriber=Deaf([("first", 1.0)])) as talk:
        talk.page.say(type="audio", data=RECORDING)
        await asyncio.sleep(0.1)
        talk.page.say(type="audio", data=RECORDING)
        error = await talk.page.expect("transcription_error")
        assert "no ears left" in error["error"]
        await talk.page.expect("response_complete")
        assert requests_of(talk) == ["first"]
        assert len(talk.page.of("transcription_error")) == 1
        assert not talk.page.of("error")


async def test_a_recogniser_that_hangs_is_given_up() -> None:
    async with talking(transcripts=[("never", 10_000.0)]) as talk:
        talk.page.say(type="audio", data=RECORDING)
        async with asyncio.timeout(30):
            error = await talk.page.expect("transcription_error")
        assert "no final transcript" in error["error"]


async def test_audio_over_the_limit_is_answered() -> None:
    async with talking(protocol=VoiceAgentProtocol(max_audio_bytes=2_000)) as talk:
        talk.page.say(type="audio", data=RECORDING)
        error = await talk.page.expect("error")
        assert "may have 2000 bytes" in error["error"]
        talk.page.say(type="transcript", text="x" * (MAX_TEXT + 1))
        await talk.page.expect("error", 2)
        talk.page.say(type="transcript", text="hello")
        await talk.page.expect("speech_stream_end")
        assert requests_of(talk) == ["hello"]


async def test_so_many_recordings_wait_and_no_more() -> None:
    async with talking(transcripts=[("x", 1.0)] * MAX_PENDING) as talk:
        for _ in range(MAX_PENDING + 2):
            talk.page.say(type="audio", data=RECORDING)
        await talk.page.expect("error", 2)
        await talk.page.expect("transcription_result", MAX_PENDING)
        await talk.page.expect("response_complete")
