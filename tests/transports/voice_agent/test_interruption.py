"""Interruptions by a client, in every phase of an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loguru import logger

from bargein.pipeline.frames import SpeechHoldFrame, SpeechReleaseFrame
from bargein.pipeline.testing import VirtualTimeLoop
from bargein.processors.context import INTERRUPTED_MARK, SPEECH_STOPPED_MARK
from bargein.transports.voice_agent.output import TICK_S

from ...processors.fakes import FakeChunk, FakeVoice
from ...servers.openai_server import tool_calls
from .agent import ANSWER, RECORDING, SENTENCES, Conversation, PageWire, Steady, seconds_of, talking

SPOKEN = ("speech_stream_start", "audio_chunk", "speech_stream_end")
LONG = [f"Sentence number {n} of many. " for n in range(40)]


async def ask(talk: Conversation, until: str = "audio_chunk", count: int = 1) -> None:
    talk.page.say(type="transcript", text="hello")
    await talk.page.expect(until, count)


def spoken_after(page: PageWire, kind: str = "speech_interrupted") -> list[str]:
    return [k for k in page.after(kind) if k in SPOKEN]


@pytest.mark.parametrize("phase", ["stream_start", "text_delta", "speech_stream_start", "audio_chunk"])
@pytest.mark.parametrize("level", ["full", "speech"])
async def test_once_an_interruption_is_told_nothing_more_is_spoken(phase: str, level: str) -> None:
    async with talking(LONG) as talk:
        page = talk.page
        await ask(talk, phase, 3 if phase == "text_delta" else 1)
        page.say(type="interrupt", reason="enough", level=level)
        report = await page.expect("speech_interrupted")
        await talk.quiet()
        await asyncio.sleep(10)
        assert spoken_after(page) == []
        assert len(page.of("speech_interrupted")) == 1
        assert (report["reason"], report["level"], report["responseId"]) == ("enough", level, "r1")
        complete = page.of("response_complete")
        assert len(complete) == 1
        if level == "full":
            assert {request.outcome.result() for request in talk.server.requests} <= {"closed"}
            assert [m["reason"] for m in page.of("stream_abort")] == ["enough"]
            assert complete[0]["interrupted"] is True
            assert page.after("speech_interrupted")[-1] == "response_complete"
            assert not page.of("stream_finish")
        else:
            assert complete[0]["interrupted"] is False
            assert complete[0]["speechInterrupted"] is True
            assert complete[0]["text"] == "".join(LONG)
            assert "".join(m["text"] for m in page.of("text_delta")) == "".join(LONG)
            assert not page.of("stream_abort")
        page.say(type="transcript", text="next")
        talk.server.answer = lambda messages: ["Yes."]
        await page.expect("speech_stream_end")
        assert page.of("audio_chunk")[-1]["text"] == "Yes."


async def test_speech_ends_by_one_message_only() -> None:
    async with talking() as talk:
        await ask(talk, "speech_stream_end")
        talk.page.say(type="interrupt")
        await talk.page.expect("speech_interrupted")
        await ask(talk, "audio_chunk", 4)
        talk.page.say(type="interrupt")
        await talk.page.expect("speech_interrupted", 2)
        await asyncio.sleep(10)
        assert len(talk.page.of("speech_stream_start")) == 2
        assert len(talk.page.of("speech_stream_end")) == 1


async def test_an_interruption_after_all_audio_was_sent_acts() -> None:
    async with talking() as talk:
        page = talk.page
        await ask(talk, "speech_stream_end")
        assert page.heard_s < len(ANSWER) / 20 - 1
        await asyncio.sleep(0.5)
        heard_s = page.heard_s
        page.say(type="interrupt", reason="late")
        report = await page.expect("speech_interrupted")
        assert report["responseId"] == "r1"
        assert report["heard"] + report["unheard"] == ANSWER
        assert len(report["heard"]) <= heard_s * 20 + 1
        assert len(report["heard"]) >= (heard_s - 2 * TICK_S) * 20 - len(" sentence")
        assert page.of("response_complete")[0]["interrupted"] is False  # its text was whole
        assert len(page.of("response_complete")) == 1
        heard = report["heard"].rstrip() + INTERRUPTED_MARK
        assert talk.history == [("user", "hello"), ("assistant", heard)]


async def test_an_interruption_after_the_last_word_was_played_changes_nothing() -> None:
    async with talking() as talk:
        await ask(talk, "speech_stream_end")
        await asyncio.sleep(len(ANSWER) / 20)
        assert talk.page.heard_s == pytest.approx(len(ANSWER) / 20, abs=0.01)
        talk.page.say(type="interrupt")
        report = await talk.page.expect("speech_interrupted")
        assert (report["responseId"], report["heard"]) == (None, "")
        assert talk.history == [("user", "hello"), ("assistant", ANSWER)]


async def test_an_interruption_of_nothing_is_acknowledged() -> None:
    async with talking() as talk:
        talk.page.say(type="interrupt")
        report = await talk.page.expect("speech_interrupted")
        assert (report["reason"], report["responseId"]) == ("client_request", None)


async def test_before_the_first_audio_nothing_was_heard() -> None:
    async with talking() as talk:
        await ask(talk, "text_delta", 4)
        assert not talk.page.of("audio_chunk")
        talk.page.say(type="interrupt")
        await talk.page.expect("speech_interrupted")
        await asyncio.sleep(5)
        assert not talk.page.of("audio_chunk")
        assert talk.history == [("user", "hello")]


async def test_text_that_was_never_heard_is_not_in_the_history() -> None:
    async with talking(LONG) as talk:
        await ask(talk, "response_complete")
        talk.page.say(type="interrupt")
        report = await talk.page.expect("speech_interrupted")
        (_, content) = talk.history[-1]
        assert content == report["heard"].rstrip() + INTERRUPTED_MARK
        assert len(content) <= talk.page.heard_s * 20 + 2


async def test_after_the_speech_alone_was_stopped_the_history_says_so() -> None:
    async with talking() as talk:
        await ask(talk)
        await asyncio.sleep(0.4)
        talk.page.say(type="interrupt", level="speech")
        await talk.quiet()
        (_, content) = talk.history[-1]
        assert SPEECH_STOPPED_MARK in content


async def test_a_transcript_interrupts_and_is_answered() -> None:
    async with talking(["First answer, which is long enough. "] * 5, ["Second."]) as talk:
        await ask(talk)
        talk.page.say(type="transcript", text="stop that")
        report = await talk.page.expect("speech_interrupted")
        assert report["reason"] == "user_speaking"
        await talk.page.expect("speech_stream_end")
        assert talk.page.of("audio_chunk")[-1]["text"] == "Second."
        assert talk.page.of("stream_start")[-1]["responseId"] == "r2"
        assert talk.page.after("speech_interrupted").count("speech_interrupted") == 0


async def test_a_recording_interrupts() -> None:
    async with talking(transcripts=[("stop that", 0.3)]) as talk:
        await ask(talk)
        talk.page.say(type="audio", data=RECORDING, format="wav")
        assert (await talk.page.expect("speech_interrupted"))["reason"] == "user_speaking"
        assert not talk.page.of("transcription_result")
        assert spoken_after(talk.page) == []
        await talk.page.expect("transcription_result")
        await talk.page.expect("speech_stream_end")


async def test_the_page_interrupts_and_writes_at_once() -> None:
    """The page's own barge-in: one message for each, and one report."""
    async with talking() as talk:
        await ask(talk)
        talk.page.say(type="interrupt", reason="user_speaking")
        talk.page.say(type="transcript", text="and now?")
        await talk.page.expect("speech_stream_end")
        assert len(talk.page.of("speech_interrupted")) == 1


async def test_a_voice_that_ignores_cancellation_is_not_heard_in_the_next_answer() -> None:
    class Stubborn(FakeVoice):
        async def synthesize(self, text: str) -> AsyncGenerator[FakeChunk, None]:
            self.spoken.append(text)
            for _ in range(10):
                try:
                    await asyncio.sleep(0.1)
                except asyncio.CancelledError:
                    continue
            yield FakeChunk(b"\x01\x01" * 8_000, 16_000, ())

    async with talking(LONG, ["The next answer."], voice=Stubborn()) as talk:
        await ask(talk, "audio_chunk")
        talk.page.say(type="interrupt")
        await talk.page.expect("speech_interrupted")
        talk.page.say(type="transcript", text="next")
        await talk.page.expect("speech_stream_end")
        await asyncio.sleep(5)
        chunks = talk.page.of("audio_chunk")
        assert [c["responseId"] for c in chunks] == ["r1", "r2"]
        assert chunks[-1]["text"] == "The next answer."
        assert len(talk.page.of("speech_stream_end")) == 1


async def test_a_tool_that_ignores_cancellation_does_not_block_the_next_turn() -> None:
    async def slow() -> str:
        """Take long."""
        for _ in range(20):
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                continue
        return "late"

    async with talking(tool_calls(("slow", "{}", "c1")), ["Next."], tools=[slow]) as talk:
        await ask(talk, "tool_call")
        await asyncio.sleep(0.1)
        loop = asyncio.get_running_loop()
        interrupted = loop.time()
        talk.page.say(type="interrupt")
        talk.page.say(type="transcript", text="next")
        await talk.page.expect("stream_start", 2)
        assert loop.time() - interrupted < 0.2
        await talk.page.expect("speech_stream_end")
        await asyncio.sleep(3)
        assert len(talk.page.of("tool_result")) == 1


async def test_what_the_application_says_can_be_interrupted() -> None:
    async with talking() as talk:
        talk.session.say(" ".join(SENTENCES))
        await talk.page.expect("audio_chunk")
        talk.page.say(type="interrupt")
        await talk.page.expect("speech_interrupted")
        await asyncio.sleep(5)
        assert spoken_after(talk.page) == []


async def test_critical_speech_is_sent_again_where_it_was() -> None:
    """The page drops all it has when it is told of an interruption."""
    async with talking() as talk:
        talk.session.say("This has to be heard to its end. Nobody may stop it.", critical=True)
        await talk.page.expect("speech_stream_end")
        await asyncio.sleep(0.5)
        for count in (1, 2):
            talk.page.say(type="interrupt")
            await talk.page.expect("speech_interrupted", count)
            await asyncio.sleep(0.3)
        await talk.quiet()
        text = "This has to be heard to its end. Nobody may stop it."
        assert talk.page.heard_s == pytest.approx(len(text) / 20, abs=0.1)
        assert talk.history == [("assistant", text)]


async def test_nothing_that_waits_for_a_slow_client_is_sent_after_an_interruption() -> None:
    async with talking(voice=Steady()) as talk:
        page = talk.page
        await ask(talk, "text_delta")
        page.writable.clear()
        await asyncio.sleep(2)
        talk.session.interrupt("meanwhile")
        page.writable.set()
        await page.expect("speech_interrupted")
        assert len(page.of("audio_chunk")) == 0
        assert "speech_interrupted" in page.kinds


async def test_a_client_that_plays_late_has_heard_less() -> None:
    async def heard(page: PageWire) -> tuple[int, float]:
        async with talking(page=page) as talk:
            await ask(talk, "speech_stream_end")
            await asyncio.sleep(len(SENTENCES[0]) / 20 + 0.9)
            sounded = page.heard_s
            page.say(type="interrupt")
            return len((await page.expect("speech_interrupted"))["heard"]), sounded * 20

    prompt, sounded = await heard(PageWire(acknowledges=True))
    assert sounded - 11 <= prompt <= sounded + 1
    late, sounded = await heard(PageWire(acknowledges=True, delay_s=0.6))
    assert late < prompt
    assert sounded - 11 <= late <= sounded + 1


async def test_what_the_client_says_it_has_played_was_heard() -> None:
    async with talking() as talk:
        await ask(talk, "audio_chunk", 2)
        talk.page.say(type="audio_played", chunkId=0)
        talk.page.say(type="interrupt")
        assert (await talk.page.expect("speech_interrupted"))["heard"] == SENTENCES[0]


async def test_a_hold_changes_nothing_for_a_client_that_cannot_hold() -> None:
    async with talking() as talk:
        await ask(talk, "speech_stream_end")
        talk.session.push(SpeechHoldFrame())
        await talk.quiet()
        assert talk.history[-1] == ("assistant", ANSWER)
        talk.session.push(SpeechReleaseFrame())


# Any order of anything --------------------------------------------------------------------------------

ACTS = ("transcript", "audio", "full", "speech", "stall")
plans = st.lists(
    st.tuples(st.sampled_from(ACTS), st.sampled_from([0.0, 0.001, 0.05, 0.3, 0.7, 1.5, 4.0])),
    min_size=1,
    max_size=10,
)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        yield runner


async def play(plan: list[tuple[str, float]]) -> tuple[PageWire, Conversation, int]:
    asked = 0
    async with talking(transcripts=[(f"spoken {n}", 0.1) for n in range(len(plan))]) as talk:
        page = talk.page
        for act, wait_s in plan:
            if act in ("full", "speech"):
                asked += 1
                page.say(type="interrupt", reason=act, level=act)
            elif act == "audio":
                page.say(type="audio", data=RECORDING, format="wav")
            elif act == "transcript":
                page.say(type="transcript", text="written")
            else:
                page.writable.clear()
            await asyncio.sleep(min(wait_s, 1.0) if act == "stall" else wait_s)
            page.writable.set()
        await talk.quiet()
        await asyncio.sleep(1)
        await talk.quiet()
    return page, talk, asked


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(plan=plans)
def test_any_interruption_is_told_once_and_silences(
    plan: list[tuple[str, float]], runner: asyncio.Runner
) -> None:
    logger.disable("bargein")
    try:
        page, talk, asked = runner.run(play(plan))
    finally:
        logger.enable("bargein")
    reports = page.of("speech_interrupted")
    assert len([r for r in reports if r["reason"] in ("full", "speech")]) == asked
    for report in reports:
        later = page.told[page.told.index(report) :]
        assert not [
            m for m in later if m["type"] == "audio_chunk" and m["responseId"] == report["responseId"]
        ]
    started = [m["responseId"] for m in page.of("stream_start")]
    completed = [m["responseId"] for m in page.of("response_complete")]
    assert sorted(started) == sorted(completed), "each answer is complete once"
    assert len(set(started)) == len(started)
    chunks = [m["chunkId"] for m in page.of("audio_chunk")]
    assert chunks == sorted(set(chunks))
    voiced = [m["responseId"] for m in page.of("speech_stream_start")]
    ended = [m["responseId"] for m in page.of("speech_stream_end")]
    assert len(set(voiced)) == len(voiced)
    assert len(set(ended)) == len(ended)
    assert set(ended) <= set(voiced)
    recordings = sum(act == "audio" for act, _ in plan)
    assert [m["text"] for m in page.of("transcription_result")] == [f"spoken {n}" for n in range(recordings)]
    assert not page.of("error")
    assert talk.connection._unsent.__len__() == 0
    assert all(seconds_of(chunk) > 0 for chunk in page.of("audio_chunk"))
