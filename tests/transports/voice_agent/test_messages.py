"""What a client is told, and in which order."""

from __future__ import annotations

import asyncio
import io
from base64 import b64decode

import av
import pytest
from pipecat.frames.frames import (
    OutputTransportMessageUrgentFrame,
)

from bargein import UPSTREAM
from bargein.pipeline.frames import ErrorFrame
from bargein.processors.tools import tool
from bargein.transports.voice_agent import VoiceAgentProtocol

from ...processors.fakes import FakeVoice
from ...servers.openai_server import Token, Trouble, refuse, tool_calls
from .agent import ANSWER, RECORDING, SENTENCES, Steady, seconds_of, talking


async def test_an_answer_in_text_and_speech() -> None:
    async with talking() as talk:
        page = talk.page
        page.say(type="transcript", text="hello")
        await page.expect("speech_stream_end")
        await talk.quiet()
        kinds = page.kinds
        order = [k for i, k in enumerate(kinds) if k != "text_delta" or kinds[i - 1] != "text_delta"]
        spoken = ("speech_stream_start", "audio_chunk", "speech_stream_end")
        assert [k for k in order if k not in spoken and k != "text_delta"] == [
            "stream_start",
            "step_start",
            "text_start",
            "text_end",
            "step_finish",
            "stream_finish",
            "response_complete",
        ]
        assert [k for k in kinds if k in spoken] == [spoken[0], *[spoken[1]] * 3, spoken[2]]
        assert {m["responseId"] for m in page.told} == {"r1"}
        deltas = page.of("text_delta")
        assert "".join(m["text"] for m in deltas) == ANSWER
        assert {m["id"] for m in deltas} == {page.of("text_start")[0]["id"]} == {page.of("text_end")[0]["id"]}
        complete = page.of("response_complete")[0]
        assert (complete["text"], complete["toolCalls"], complete["toolResults"]) == (ANSWER, [], [])
        assert (complete["interrupted"], complete["finishReason"]) == (False, "stop")
        assert page.of("stream_finish")[0]["finishReason"] == "stop"
        chunks = page.of("audio_chunk")
        assert [m["text"] for m in chunks] == [s.strip() for s in SENTENCES]
        assert [m["chunkId"] for m in chunks] == [0, 1, 2]
        assert {m["format"] for m in chunks} == {"wav"}
        assert sum(map(seconds_of, chunks)) == pytest.approx(len(ANSWER) / 20, abs=0.01)
        assert talk.history == [("user", "hello"), ("assistant", ANSWER)]


@pytest.mark.parametrize(("audio_format", "container"), [("mp3", "mp3"), ("opus", "ogg")])
async def test_speech_in_other_formats(audio_format: str, container: str) -> None:
    protocol = VoiceAgentProtocol(audio_format)  # type: ignore[arg-type]
    async with talking(["One sentence."], protocol=protocol) as talk:
        talk.page.say(type="transcript", text="hello")
        chunk = await talk.page.expect("audio_chunk")
        assert chunk["format"] == audio_format
        with av.open(io.BytesIO(b64decode(chunk["data"])), "r") as file:
            assert file.format.name == container
            seconds = sum(f.samples / f.sample_rate for f in file.decode(audio=0))
        assert seconds == pytest.approx(len("One sentence.") / 20, abs=0.1)


async def test_tools_and_steps() -> None:
    async def look_up(city: str) -> dict[str, str]:
        """Look the weather up."""
        return {"weather": f"rain in {city}"}

    async def fail() -> None:
        """Fail."""
        raise RuntimeError("out of order")

    calls = tool_calls(("look_up", '{"city": "Bern"}', "c1"), ("fail", "{}", "c2"))
    async with talking(["Let me see.", *calls], ["It rains."], tools=[look_up, fail]) as talk:
        page = talk.page
        page.say(type="transcript", text="weather?")
        complete = await page.expect("response_complete")
        silent = ("text_delta", "speech_stream_start", "audio_chunk", "speech_stream_end")
        kinds = [k for k in page.kinds if k not in silent]
        written = [k for i, k in enumerate(kinds) if k != "tool_input_delta" or kinds[i - 1] != k]
        assert written[:11] == [
            "stream_start",
            "step_start",
            "text_start",
            "text_end",
            "tool_input_start",
            "tool_input_start",
            "tool_input_delta",
            *["tool_input_end", "tool_call"] * 2,
        ]
        for call, arguments in (("c1", '{"city": "Bern"}'), ("c2", "{}")):
            deltas = [m["delta"] for m in page.of("tool_input_delta") if m["id"] == call]
            assert "".join(deltas) == arguments
        assert len(page.of("tool_input_delta")) > 3  # as they are written
        rest = written[11:]
        assert sorted(rest[:2]) == ["tool_error", "tool_result"]
        assert rest[2:] == [
            "step_finish",
            "step_start",
            "text_start",
            "text_end",
            "step_finish",
            "stream_finish",
            "response_complete",
        ]
        assert page.of("tool_input_start")[0] == {
            "type": "tool_input_start",
            "id": "c1",
            "toolName": "look_up",
            "responseId": "r1",
        }
        assert page.of("tool_call")[0]["input"] == {"city": "Bern"}
        assert "rain in Bern" in str(page.of("tool_result")[0]["result"])
        assert "out of order" in page.of("tool_error")[0]["error"]
        assert [m["finishReason"] for m in page.of("step_finish")] == ["tool-calls", "stop"]
        assert [c["toolCallId"] for c in complete["toolCalls"]] == ["c1", "c2"]
        assert [r["toolCallId"] for r in complete["toolResults"]] == ["c1"]
        assert len({m["id"] for m in page.of("text_start")}) == 2


async def test_tool_calls_and_results_are_in_the_history() -> None:
    async def look_up() -> str:
        """Look it up."""
        return "found"

    async with talking(tool_calls(("look_up", "{}", "c1")), ["There."], tools=[look_up]) as talk:
        talk.page.say(type="transcript", text="look")
        await talk.page.expect("speech_stream_end")
        await talk.quiet()
        roles = [role for role, _ in talk.history]
        assert roles == ["user", "assistant", "tool", "assistant"]
        assert talk.history[2] == ("tool", "found")


async def test_reasoning_and_sources_are_told_as_such() -> None:
    citation = {"type": "url_citation", "url_citation": {"url": "https://example.com", "title": "E"}}
    thought = [{"reasoning_content": "hm"}, {"reasoning_content": ", so"}]
    answer: list[Token] = [*thought, "Yes.", {"annotations": [citation]}]
    async with talking(answer) as talk:
        talk.page.say(type="transcript", text="well?")
        complete = await talk.page.expect("response_complete")
        assert (complete["reasoning"], complete["text"]) == ("hm, so", "Yes.")
        kinds = [k for k in talk.page.kinds if not k.startswith(("speech", "audio"))]
        assert kinds == [
            "stream_start",
            "step_start",
            "reasoning_start",
            *["reasoning_delta"] * 2,
            "reasoning_end",
            "text_start",
            "text_delta",
            "source",
            "text_end",
            "step_finish",
            "stream_finish",
            "response_complete",
        ]
        (source,) = complete["sources"]
        assert (source["url"], source["title"]) == ("https://example.com", "E")
        assert talk.page.of("source")[0]["source"] == source


async def test_a_call_that_is_never_made_is_ended() -> None:
    async def look_up(city: str) -> str:
        """Look it up."""
        return city

    call = tool_calls(("look_up", '{"city": "Constantinople"}', "c1"))
    async with talking(call, ["Yes."], tools=[look_up], token_s=0.2) as talk:
        page = talk.page
        page.say(type="transcript", text="look")
        await page.expect("tool_input_delta", 2)
        page.say(type="interrupt")
        await page.expect("response_complete")
        assert page.kinds[-4:] == [
            "speech_interrupted",
            "tool_input_end",
            "stream_abort",
            "response_complete",
        ]
        assert "tool_call" not in page.kinds
        page.say(type="transcript", text="next")
        await page.expect("speech_stream_end")
        assert [role for role, _ in talk.history] == ["user", "assistant"]


async def test_the_application_can_send_messages_of_its_own() -> None:
    async with talking() as talk:
        source = {"type": "source", "source": {"url": "https://example.com"}}
        talk.session.push(OutputTransportMessageUrgentFrame(message=source))
        assert await talk.page.expect("source") == source


async def test_a_failing_model_is_one_error() -> None:
    async with talking() as talk:
        talk.server.plan(refuse(401, "broken"))
        talk.page.say(type="transcript", text="hello")
        complete = await talk.page.expect("response_complete")
        await talk.quiet()
        assert len(talk.page.of("stream_error")) == 1
        assert not talk.page.of("error")
        assert not talk.page.of("stream_finish")
        assert complete["finishReason"] == "error"
        talk.page.say(type="transcript", text="again")
        await talk.page.expect("speech_stream_end")
        assert len(talk.page.of("stream_error")) == 1


async def test_a_model_that_fails_in_the_middle_is_one_error() -> None:
    async with talking() as talk:
        talk.server.plan(Trouble("cut", after=6), Trouble("cut"), Trouble("cut"))  # all attempts to go on
        talk.page.say(type="transcript", text="hello")
        complete = await talk.page.expect("response_complete")
        await talk.quiet()
        assert (len(talk.page.of("stream_error")), len(talk.page.of("error"))) == (1, 0)
        assert ANSWER.startswith(complete["text"])
        assert complete["text"]


async def test_a_failing_voice_is_told() -> None:
    class Hoarse(FakeVoice):
        def synthesize(self, text: str):  # type: ignore[no-untyped-def]
            if "second" in text:
                raise RuntimeError("no voice left")
            return super().synthesize(text)

    async with talking(voice=Hoarse(delay_s=0.01)) as talk:
        talk.page.say(type="transcript", text="hello")
        await talk.page.expect("speech_stream_end")
        await talk.quiet()
        errors = talk.page.of("error")
        assert len(errors) == 1
        assert "no voice left" in errors[0]["error"]
        assert errors[0]["responseId"] == "r1"
        assert talk.page.of("audio_chunk")[0]["text"] == SENTENCES[0].strip()
        assert len(talk.page.of("audio_chunk")) == 2


async def test_an_agent_without_ears_says_so() -> None:
    async with talking(transcripts=None) as talk:
        talk.page.say(type="audio", data=RECORDING, format="wav")
        error = await talk.page.expect("error")
        assert "transcribes no recordings" in error["error"]
        assert not talk.page.of("transcription_error")


async def test_errors_of_other_parts_are_told() -> None:
    async with talking() as talk:
        talk.session.push(ErrorFrame("something broke"), UPSTREAM)
        assert (await talk.page.expect("error"))["error"] == "something broke"


async def test_nonsense_is_answered_and_unknown_messages_are_ignored() -> None:
    async with talking() as talk:
        page = talk.page
        for text in ("{", "[]", "1", '"text"', "null", "[" * 100_000):
            page._inbox.put_nowait({"type": "websocket.receive", "text": text})
        page.speak(b"\x00\x01")
        await page.expect("error", 7)
        page.say(type="dance")
        page.say(no="type")
        page.say(type=["interrupt"])
        page.say(type="interrupt", reason={"a": 1}, level=7)
        assert (await page.expect("speech_interrupted"))["reason"] == "client_request"
        page.say(type="transcript", text="   ")
        page.say(type="transcript")
        page.say(type="audio", data="")
        await page.expect("error", 10)
        page.say(type="audio_played", chunkId=10**9)
        page.say(type="audio_played", chunkId="x")
        page.say(type="transcript", text="hello")
        await page.expect("speech_stream_end")
        assert len(page.of("error")) == 10


async def test_a_burst_of_text_is_no_slow_client() -> None:
    async with talking(["x "] * 3_000, token_s=0.0, voice=Steady()) as talk:
        talk.page.say(type="transcript", text="hello")
        complete = await talk.page.expect("response_complete")
        assert complete["text"] == "x " * 3_000
        assert not talk.connection.closed.done()
        talk.page.say(type="interrupt")
        await talk.page.expect("speech_interrupted")


async def test_little_voice_is_sent_ahead_of_its_time() -> None:
    async with talking([f"Sentence number {n} of many. " for n in range(60)], voice=Steady()) as talk:
        talk.page.say(type="transcript", text="hello")
        await talk.page.expect("response_complete")
        await asyncio.sleep(8)
        sent = sum(map(seconds_of, talk.page.of("audio_chunk")))
        assert 8 < sent < 8 + 10 + 3 + 1


async def test_a_tool_that_is_cut_says_so() -> None:
    @tool(on_interruption="cancel")
    async def slow() -> str:
        """Take long."""
        await asyncio.sleep(60)
        return "done"

    async with talking(tool_calls(("slow", "{}", "c1")), ["Yes."], tools=[slow]) as talk:
        talk.page.say(type="transcript", text="slow")
        await talk.page.expect("tool_call")
        await asyncio.sleep(0.1)
        talk.page.say(type="interrupt")
        result = await talk.page.expect("tool_result")
        assert result["interrupted"] is True
        assert (await talk.page.expect("response_complete"))["interrupted"] is True
        talk.page.say(type="transcript", text="next")
        await talk.page.expect("speech_stream_end")
