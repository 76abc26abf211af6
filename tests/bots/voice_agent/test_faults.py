"""The faults found in voice-agent-ai-sdk by running it, with their numbers in docs/voice-agent-promises.md.

Here are those that need no client; what a client sees is tested in tests/transports/voice_agent/.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from bargein import Level
from bargein.bots.server import PAGE
from bargein.bots.voice_agent.events import (
    Failed,
    SpeechChunkQueued,
    SpeechComplete,
    SpeechInterrupted,
    SpeechStart,
    Text,
    TextDelta,
    ToolResult,
)
from bargein.pipeline import InputRejected
from bargein.processors.text import SentenceSplitter
from bargein.processors.tools import tool
from bargein.transports.websocket.pace import LEAD_S

from ...processors.fakes import FakeChunk, FakeVoice
from ...servers.openai_server import Token, refuse, tool_calls
from .scripted import SECOND, Talk, doing, talking

SENTENCES: list[Token] = [f"This is sentence {n}. " for n in range(40)]


async def in_phase(talk: Talk, phase: str) -> asyncio.Task[str]:
    """Ask something, and wait until the answer is this far."""
    answer = asyncio.create_task(talk.agent.send_text("Tell me."))
    match phase:
        case "asked":
            await talk.until(lambda: talk.of(Text))
        case "thinking":
            await asyncio.sleep(talk.server.token_s / 2)
        case "first text":
            await talk.until(lambda: talk.of(TextDelta))
        case "first sentence":
            await talk.until(lambda: talk.of(SpeechChunkQueued))
        case "first audio":
            await talk.until(lambda: talk.of(SpeechStart))
        case "speaking":
            await talk.sounding(0.5)
        case "text complete":
            await talk.until(lambda: talk.names.count("text") == 2)
    return answer


PHASES = ["asked", "thinking", "first text", "first sentence", "first audio", "speaking", "text complete"]


@pytest.mark.parametrize("phase", PHASES)
async def test_fault_01_nothing_is_spoken_after_a_full_interruption(phase: str) -> None:
    async with talking() as talk:
        talk.server.answer = lambda messages: SENTENCES
        answer = await in_phase(talk, phase)
        talk.agent.interrupt_current_response("user_clicked_stop")
        sounds, told = len(talk.sounds), len(talk.told)
        assert len(talk.of(SpeechInterrupted)) == 1
        assert doing(talk.agent) == []
        await asyncio.wait_for(answer, 1)
        await asyncio.sleep(60)
        assert (len(talk.sounds), len(talk.told)) == (sounds, told)
        talk.server.script(["Yes."])
        assert await talk.agent.send_text("There?") == "Yes."


@pytest.mark.parametrize("phase", PHASES[2:])
async def test_fault_02_after_a_speech_only_interruption_the_answer_is_silent_to_its_end(phase: str) -> None:
    async with talking() as talk:
        talk.server.script(SENTENCES, ["Yes."])
        answer = await in_phase(talk, phase)
        talk.agent.interrupt_speech("user_clicked_stop")
        sounds = len(talk.sounds)
        assert await answer == "".join(map(str, SENTENCES))
        await asyncio.sleep(60)
        assert len(talk.sounds) == sounds
        assert await talk.agent.send_text("There?") == "Yes."
        assert len(talk.sounds) > sounds


async def test_fault_03_an_interruption_when_only_the_last_of_the_audio_is_to_be_played_counts() -> None:
    async with talking() as talk:
        talk.server.script(["One two three."])
        answer = asyncio.create_task(talk.agent.send_text("Count."))
        await talk.until(lambda: talk.voice.closed)  # all of it is made
        assert talk.agent.speaking
        talk.agent.interrupt_current_response("user_clicked_stop")
        (report,) = talk.of(SpeechInterrupted)
        assert report.heard + report.unheard == "One two three."
        assert report.unheard.endswith("three.")
        assert await answer == report.heard


async def test_fault_04_what_was_never_heard_is_not_in_the_history() -> None:
    async with talking() as talk:
        talk.server.script(SENTENCES)
        answer = await in_phase(talk, "speaking")
        talk.agent.interrupt_current_response()
        assert talk.history[-1]["content"] == f"{await answer}—"
        assert len(await answer) < 20


@dataclass
class BrokenVoice(FakeVoice):
    """Says nothing."""

    breath: bool = False

    async def synthesize(self, text: str) -> AsyncGenerator[FakeChunk, None]:
        if not self.breath:
            raise RuntimeError("no breath")
        async for chunk in super().synthesize(text):
            yield chunk


class Undead(FakeVoice):
    """Speaks on although it is cancelled."""

    async def synthesize(self, text: str) -> AsyncGenerator[FakeChunk, None]:
        for word in text.split():
            try:
                await asyncio.sleep(0.8)
            except (asyncio.CancelledError, GeneratorExit):
                await asyncio.sleep(0.8)
            yield FakeChunk(b"\1\1" * 1_600, 16_000, ())
            self.spoken.append(word)


async def test_fault_05_old_audio_does_not_get_into_the_next_answer() -> None:
    async with talking(speech_model=Undead()) as talk:
        talk.server.script(["One two three four five."], ["Six."])
        answer = asyncio.create_task(talk.agent.send_text("Count."))
        await talk.sounding(0.1)
        talk.agent.interrupt_current_response()
        assert await answer == ""
        before = len(talk.sounds)
        assert await talk.agent.send_text("Go on.") == "Six."
        new = talk.sounds[before:]
        assert {chunk.response_id for _, chunk in new} == {"r2"}
        assert len(new) == 5  # 100 ms: one word of it, and all of that


async def test_fault_06_an_answer_that_was_interrupted_is_not_told_as_complete() -> None:
    async with talking() as talk:
        talk.server.script(SENTENCES, SENTENCES)
        for interrupt in (talk.agent.interrupt_speech, talk.agent.interrupt_current_response):
            answer = asyncio.create_task(talk.agent.send_text("Tell me."))
            await talk.sounding(0.2)
            interrupt()
            await answer
            await asyncio.sleep(10)
        assert talk.of(SpeechComplete) == []
        assert [report.level for report in talk.of(SpeechInterrupted)] == [Level.SPEECH, Level.FULL]


@tool(on_interruption="cancel")
async def stubborn() -> str:
    """Take a minute, whatever happens."""
    for _ in range(60):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1)
    return "done"


async def test_fault_07_a_tool_that_ignores_its_cancellation_blocks_nobody() -> None:
    async with talking(tools=(stubborn,)) as talk:
        talk.server.script(tool_calls(("stubborn", "{}")), ["Yes."])
        answer = asyncio.create_task(talk.agent.send_text("Do it."))
        await talk.until(lambda: "chunk:tool_call" in talk.names)
        await asyncio.sleep(1)
        talk.agent.interrupt_current_response()
        assert await asyncio.wait_for(answer, 0.1) == ""
        assert await asyncio.wait_for(talk.agent.send_text("There?"), 2) == "Yes."
        (result,) = [m for m in talk.history if m["role"] == "tool"]
        assert "cancelled" in result["content"]
        await asyncio.sleep(70)


async def quick() -> str:
    """Be quick."""
    return "quick"


async def slow() -> str:
    """Take a second."""
    await asyncio.sleep(1)
    return "slow"


async def test_fault_08_results_are_told_at_once_and_are_in_the_history() -> None:
    async with talking(tools=(quick, slow)) as talk:
        talk.server.script(tool_calls(("quick", "{}"), ("slow", "{}")), ["Both."])
        answer = asyncio.create_task(talk.agent.send_text("Do both."))
        await talk.until(lambda: talk.of(ToolResult))
        assert {result.result for result in talk.of(ToolResult)} == {"quick"}
        assert await answer == "Both."
        assert [m["content"] for m in talk.history if m["role"] == "tool"] == ["quick", "slow"]


async def test_fault_09_inputs_that_waited_are_answered_together() -> None:
    async with talking() as talk:
        talk.server.script(["First answer."], ["To both."])
        first = asyncio.create_task(talk.agent.send_text("One."))
        await talk.sounding()
        others = [asyncio.create_task(talk.agent.send_text(text)) for text in ("Two.", "Three.")]
        assert await first == "First answer."
        assert [await other for other in others] == ["To both.", "To both."]
        assert talk.server.requests[1].messages[-1]["content"] == "Two. Three."
        assert len(talk.server.requests) == 2


async def test_fault_09_an_interruption_drops_what_waits() -> None:
    async with talking() as talk:
        talk.server.script(SENTENCES)
        first = asyncio.create_task(talk.agent.send_text("One."))
        await talk.sounding()
        second = asyncio.create_task(talk.agent.send_text("Two."))
        await asyncio.sleep(0.1)
        talk.agent.interrupt_current_response()
        assert await asyncio.wait_for(second, 0.1) == ""
        await first
        await asyncio.sleep(60)
        assert len(talk.server.requests) == 1
        assert talk.history[-1] == {"role": "user", "content": "Two."}


async def test_fault_10_an_interruption_during_transcription_counts() -> None:
    async with talking("What is it?", stt_s=1.0) as talk:
        talk.server.script(["Yes."])
        answer = asyncio.create_task(talk.agent.send_audio(SECOND, "pcm"))
        await asyncio.sleep(0.5)
        assert doing(talk.agent) == ["processing"]
        talk.agent.interrupt_current_response("user_clicked_stop")
        assert await answer == ""
        assert len(talk.of(SpeechInterrupted)) == 1
        assert talk.server.requests == []
        assert talk.history == [{"role": "user", "content": "What is it?"}]
        assert await talk.agent.send_text("Now answer.") == "Yes."


async def test_fault_10_inputs_keep_their_order() -> None:
    async with talking("first", "second") as talk:
        talk.transcriber.script = [("first", 5.0), ("second", 0.1)]
        talk.server.answer = lambda messages: ["Yes."]
        sent = [
            asyncio.create_task(talk.agent.send_audio(SECOND, "pcm")),
            asyncio.create_task(talk.agent.send_audio(SECOND, "pcm")),
            asyncio.create_task(talk.agent.send_text("third")),
        ]
        await asyncio.gather(*sent)
        said = " ".join(m["content"] for m in talk.history if m["role"] == "user")
        assert said == "first second third"


async def test_fault_11_a_given_text_can_be_interrupted() -> None:
    async with talking() as talk:
        await talk.agent.generate_and_send_speech_full("One two three four five six seven.")
        await talk.sounding(0.5)
        talk.agent.interrupt_speech("user_clicked_stop")
        sounds = len(talk.sounds)
        await asyncio.sleep(10)
        assert len(talk.sounds) == sounds
        assert talk.names[-1] == "speech_interrupted"
        assert "audio" not in talk.names


async def test_fault_12_nobody_need_listen_for_errors() -> None:
    async with talking(speech_model=BrokenVoice()) as talk:
        talk.agent._listeners.clear()
        talk.server.plan(refuse(401))
        with pytest.raises(Exception, match="401"):
            await talk.agent.send_text("hi")
        talk.server.script(["Text all the same."])
        assert await talk.agent.send_text("hi") == "Text all the same."


async def test_fault_15_neither_model_nor_voice_is_called_after_destroy() -> None:
    async with talking("Too late.", stt_s=5.0) as talk:
        answer = asyncio.create_task(talk.agent.send_audio(SECOND, "pcm"))
        await asyncio.sleep(1)
        await talk.agent.destroy()
        with pytest.raises(InputRejected):
            await answer
        await asyncio.sleep(30)
        assert talk.server.requests == []
        assert talk.voice.spoken == []


async def test_fault_16_rejecting_what_waits_leaves_one_turn_at_a_time() -> None:
    async with talking() as talk:
        talk.server.script(SENTENCES, ["Yes."])
        first = asyncio.create_task(talk.agent.send_text("One."))
        await talk.sounding()
        waiting = asyncio.create_task(talk.agent.send_text("Two."))
        await asyncio.sleep(0.1)
        talk.agent.interrupt_current_response()
        third = asyncio.create_task(talk.agent.send_text("Three."))
        await first
        assert await waiting == ""
        await talk.sounding()
        assert len(talk.agent.session.responses) == 1
        assert await third == "Yes."
        assert len(talk.server.requests) == 2


async def test_fault_17_a_failing_model_is_one_error_and_is_raised() -> None:
    async with talking() as talk:
        talk.server.plan(refuse(400))
        with pytest.raises(Exception, match="400"):
            await talk.agent.send_text("hi")
        assert len(talk.of(Failed)) == 1
        assert doing(talk.agent) == []


async def test_fault_17_a_failing_voice_is_told() -> None:
    async with talking(speech_model=BrokenVoice()) as talk:
        talk.server.script(["One. ", "Two."])
        assert await talk.agent.send_text("hi") == "One. Two."
        assert [failed.error.split(": ")[-1] for failed in talk.of(Failed)] == ["no breath"] * 2
        assert doing(talk.agent) == []


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("word " * 120, 3),
        ("- milk\n- eggs\n- bread\n", 3),
        ("今日は良い天気です。明日は雨が降るでしょう。", 2),
    ],
)
def test_fault_18_every_text_is_cut_into_pieces(text: str, pieces: int) -> None:
    splitter = SentenceSplitter()
    cut = splitter.feed(text)
    assert len(cut) >= pieces - 1
    cut += splitter.flush()
    assert "".join(cut) == text
    assert len(cut) >= pieces


def test_fault_18_a_number_is_not_cut() -> None:
    splitter = SentenceSplitter()
    pieces = [p for chunk in ("It comes to 3.", "14 in all. ", "Yes.") for p in splitter.feed(chunk)]
    assert any("3.14 in all." in piece for piece in [*pieces, *splitter.flush()])


async def test_fault_20_answers_sound_one_after_the_other() -> None:
    async with talking() as talk:
        talk.server.answer = lambda messages: SENTENCES[:3]
        sent = [asyncio.create_task(talk.agent.send_text("Tell me."))]
        await talk.sounding()
        await talk.agent.generate_and_send_speech_full("By the way.")
        sent.append(asyncio.create_task(talk.agent.send_text("And then?")))
        await asyncio.gather(*sent)
        told = [chunk.response_id for _, chunk in talk.sounds]
        assert told == sorted(told, key=str)
        assert set(told) == {"r1", "r2", "r3"}
        began = talk.sounds[0][0]
        ahead = [0.02 * i - (at - began) for i, (at, _) in enumerate(talk.sounds)]
        assert max(ahead) <= LEAD_S


def test_fault_23_our_page_opens_no_microphone_without_echo_cancellation() -> None:
    scripts = [path.read_text() for path in PAGE.glob("*.js")]
    opened = [call for script in scripts for call in re.findall(r"getUserMedia\(.*?\)", script, re.DOTALL)]
    assert opened
    assert all("SOUND" in call for call in opened)
    assert any(re.search(r"SOUND = \{[^}]*echoCancellation: true", script) for script in scripts)


@pytest.mark.parametrize("step", range(0, 40, 4))
async def test_an_interruption_at_any_time_is_told_once_and_lets_nothing_stale_out(step: int) -> None:
    """Both levels, at stepped times; 7 of 20 trials there had stale audio."""
    for level in (Level.SPEECH, Level.FULL):
        async with talking() as talk:
            talk.server.answer = lambda messages: SENTENCES[:6]
            answer = asyncio.create_task(talk.agent.send_text("Tell me."))
            await asyncio.sleep(step * 0.05)
            full = level is Level.FULL
            (talk.agent.interrupt_current_response if full else talk.agent.interrupt_speech)("timeout")
            sounds = len(talk.sounds)
            assert [report.reason for report in talk.of(SpeechInterrupted)] == ["timeout"]
            await asyncio.wait_for(answer, 60)
            await asyncio.sleep(30)
            if full or step:
                assert len(talk.sounds) == sounds
            assert doing(talk.agent) == []
