"""The facade: inputs, events, properties, history, life cycle."""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import pytest

from bargein import Level
from bargein.bots import BadBot
from bargein.bots.voice_agent import AgentClosed, NoVoice, TooLarge, VoiceAgent
from bargein.bots.voice_agent.events import (
    Abort,
    Audio,
    AudioReceived,
    EventName,
    Failed,
    HistoryTrimmed,
    NoSuchEvent,
    ReasoningDelta,
    Source,
    SpeechChunkQueued,
    SpeechComplete,
    SpeechInterrupted,
    SpeechStart,
    Text,
    TextDelta,
    ToolCall,
    ToolInputDelta,
    ToolInputStart,
    ToolResult,
    Transcription,
    Warned,
)
from bargein.pipeline import InputRejected
from bargein.processors.services.errors import ServiceError
from bargein.processors.tools import BadTool
from bargein.transports.voice_agent.encoding import BadRecording, decode, encode
from bargein.transports.voice_agent.output import NoTranscriber

from ...processors.fakes import FakeVoice
from ...servers.openai_server import Token, refuse, tool_calls
from .scripted import SECOND, doing, talking

WORDS: list[Token] = [f" word{n}" for n in range(30)]


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def test_an_answer_in_text_and_speech() -> None:
    async with talking() as talk:
        talk.server.script(["All", " is", " well."])
        assert await talk.agent.send_text("How are you?") == "All is well."
        assert not doing(talk.agent)
        assert talk.told == [
            *talk.told[:1],  # listening
            Text("user", "How are you?"),
            TextDelta("r1", "All"),
            TextDelta("r1", " is"),
            TextDelta("r1", " well."),
            SpeechChunkQueued(1, "All is well.", "r1"),
            Text("assistant", "All is well.", "r1"),
            SpeechStart(True, "", "r1"),
            SpeechComplete(True, "All is well.", "r1"),
        ]
        seconds = 0.02 * len(talk.sounds)
        assert seconds == pytest.approx(12 / 20, abs=0.05)  # a character in 50 ms
        assert {chunk.response_id for _, chunk in talk.sounds} == {"r1"}
        began, ended = talk.sounds[0][0], talk.sounds[-1][0]
        assert ended - began == pytest.approx(seconds, abs=0.1)  # at its pace


async def test_what_it_is_doing() -> None:
    async with talking() as talk:
        talk.server.script(["One", " two", " three, and so on for a while."])
        talk.server.token_s = 0.5
        answer = asyncio.create_task(talk.agent.send_text("Count."))
        await asyncio.sleep(0.1)
        assert doing(talk.agent) == ["processing"]
        await talk.sounding()
        await talk.until(
            lambda: "One two three, and so on for a while." in [text.text for text in talk.of(Text)]
        )
        assert doing(talk.agent) == ["speaking", "pending"]
        assert talk.agent.pending_speech_chunks == 1
        assert await answer == "One two three, and so on for a while."


async def test_without_a_voice_it_answers_in_writing_and_remembers_what_was_shown() -> None:
    async with talking(speech_model=None) as talk:
        talk.server.script(["All", " is", " well."], WORDS)
        assert await talk.agent.send_text("How are you?") == "All is well."
        answer = asyncio.create_task(talk.agent.send_text("Count."))
        await talk.until(lambda: len(talk.of(TextDelta)) == 8)
        talk.agent.interrupt_current_response("user_clicked_stop")
        assert await answer == " word0 word1 word2 word3 word4"
        assert talk.history[-1] == {"role": "assistant", "content": " word0 word1 word2 word3 word4—"}
        assert not talk.sounds
        with pytest.raises(NoVoice, match="speech_model"):
            await talk.agent.generate_speech_from_text("hi")
        with pytest.raises(NoVoice, match="speech_model"):
            await talk.agent.generate_and_send_speech_full("hi")


async def test_a_recording_is_transcribed_and_answered() -> None:
    async with talking("What is it?") as talk:
        talk.server.script(["A", " test."])
        recording = encode(SECOND, 16_000, "wav")
        assert await talk.agent.send_audio(recording) == "A test."
        assert talk.told[1:4] == [
            AudioReceived(32_000, 1.0),
            Transcription("What is it?"),
            Text("user", "What is it?"),
        ]
        assert bytes(talk.transcriber.opened[0].fed) == SECOND


async def test_a_recording_is_only_transcribed() -> None:
    async with talking("Hello there.") as talk:
        assert await talk.agent.transcribe_audio(SECOND, "pcm") == "Hello there."
        assert talk.of(Transcription) == [Transcription("Hello there.")]
        assert talk.history == []
        assert not talk.agent.processing


async def test_a_recording_without_speech_is_told_and_not_answered() -> None:
    async with talking("") as talk:
        assert await talk.agent.send_audio(SECOND, "pcm") == ""
        assert talk.of(Warned) == [Warned("no speech was recognised in a recording")]
        assert talk.history == []


async def test_recordings_that_cannot_be_taken() -> None:
    async with talking(max_audio_input_size=40_000) as talk:
        with pytest.raises(TooLarge, match="has 40001 bytes; max_audio_input_size allows 40000"):
            await talk.agent.send_audio(bytes(40_001))
        with pytest.raises(BadRecording):
            await talk.agent.send_audio(b"no recording")
        assert not talk.agent.processing
    async with talking(transcription_model=None) as talk:
        with pytest.raises(NoTranscriber, match="transcription_model"):
            await talk.agent.send_audio(SECOND, "pcm")


async def test_an_empty_text_is_refused() -> None:
    async with talking() as talk:
        with pytest.raises(ValueError, match="empty"):
            await talk.agent.send_text("  ")


async def test_a_text_as_speech() -> None:
    async with talking(output_format="mp3") as talk:
        speech = await talk.agent.generate_speech_from_text("Hello there.")
        assert len(decode(speech)) / 32_000 == pytest.approx(12 / 20, abs=0.1)
        assert not talk.sounds


async def test_a_given_text_is_said_and_handed_out_as_a_whole() -> None:
    async with talking() as talk:
        await talk.agent.generate_and_send_speech_full("Hello there.")
        await talk.until(lambda: talk.of(Audio))
        assert talk.of(SpeechStart) == [SpeechStart(False, "Hello there.", "r1")]
        assert talk.of(SpeechComplete) == [SpeechComplete(False, "Hello there.", "r1")]
        (audio,) = talk.of(Audio)
        assert len(decode(audio.data)) / 32_000 == pytest.approx(12 / 20, abs=0.01)
        assert talk.history == [{"role": "assistant", "content": "Hello there."}]


async def test_tools_and_what_is_told_of_them() -> None:
    async with talking(tools=(add,)) as talk:
        talk.server.script(tool_calls(("add", '{"a": 1, "b": 2}', "c1")), ["Three."])
        assert await talk.agent.send_text("1 and 2?") == "Three."
        call = ToolCall("add", "c1", {"a": 1, "b": 2}, "r1")
        result = ToolResult("add", "c1", "3", None, "r1")
        inputs = [event for event in talk.told if isinstance(event, ToolInputStart | ToolInputDelta)]
        assert inputs[0] == ToolInputStart("c1", "add")
        assert len(inputs) > 2
        assert "".join(e.delta for e in inputs if isinstance(e, ToolInputDelta)) == '{"a": 1, "b": 2}'
        rest = [event for event in talk.told[2:] if event not in inputs]
        assert rest[:3] == [call, result, result]
        at = talk.names.index("chunk:tool_call")
        assert talk.names[at - 1 : at + 3] == [
            "chunk:tool_input_delta",
            "chunk:tool_call",
            "chunk:tool_result",
            "tool_result",
        ]
        assert [m["role"] for m in talk.history] == ["user", "assistant", "tool", "assistant"]


async def test_reasoning_and_sources_are_told_as_such() -> None:
    async with talking() as talk:
        citation = {"url": "https://example.com", "title": "An example"}
        annotation = {"type": "url_citation", "url_citation": citation}
        talk.server.script([{"reasoning_content": "Hm."}, "Yes.", {"annotations": [annotation]}])
        assert await talk.agent.send_text("Well?") == "Yes."
        assert talk.of(ReasoningDelta) == [ReasoningDelta("r1", "Hm.")]
        assert talk.of(Source) == [Source("https://example.com", "An example", "r1")]
        assert talk.history[-1] == {"role": "assistant", "content": "Yes."}


async def test_how_the_text_is_cut_and_how_many_pieces_are_asked_for() -> None:
    text = "Yes. It is so. And it was so for years, as far as I know. Was it? It was. Good bye."
    async with talking(max_parallel_requests=2) as talk:
        talk.server.answer = lambda messages: [text]
        await talk.agent.send_text("Is it?")
        assert talk.voice.spoken[0] == "Yes."
        assert all(len(piece) >= 50 for piece in talk.voice.spoken[1:-1])
        assert len(talk.voice.spoken) == 3
    async with talking(min_chunk_size=1, max_chunk_size=40) as talk:
        talk.server.answer = lambda messages: [text]
        await talk.agent.send_text("Is it?")
        assert len(talk.voice.spoken) > 5
        assert all(len(piece) <= 40 for piece in talk.voice.spoken)


@pytest.mark.parametrize("requests", [1, 3])
async def test_pieces_are_made_side_by_side(requests: int) -> None:
    class Slow(FakeVoice):
        running = most = 0

        async def synthesize(self, text: str) -> Any:
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await asyncio.sleep(2)
                async for chunk in super().synthesize(text):
                    yield chunk
            finally:
                self.running -= 1

    voice = Slow()
    async with talking(speech_model=voice, max_parallel_requests=requests, min_chunk_size=1) as talk:
        talk.server.script([f"Sentence {n}. " for n in range(6)])
        await talk.agent.send_text("Count.")
        assert voice.most == requests
        assert len(voice.spoken) == 6


async def test_tools_are_added_while_it_runs() -> None:
    async with talking() as talk:
        talk.server.script(["No."], tool_calls(("add", '{"a": 1, "b": 2}')), ["Three."])
        await talk.agent.send_text("Can you add?")
        talk.agent.register_tools(add)
        assert await talk.agent.send_text("1 and 2?") == "Three."
        assert "tools" not in talk.server.requests[0].body
        with pytest.raises(BadTool, match="two tools are called add"):
            talk.agent.register_tools(add)


async def test_max_steps_ends_a_chain_of_calls() -> None:
    async with talking(tools=(add,), max_steps=2) as talk:
        call = tool_calls(("add", '{"a": 1, "b": 2}'))
        talk.server.script(call, call, ["Enough."])
        assert await talk.agent.send_text("Go on for ever.") == "Enough."
        assert talk.server.requests[2].body["tool_choice"] == "none"


async def test_a_full_interruption_says_what_was_heard() -> None:
    async with talking() as talk:
        talk.server.script(["One two three four. "] * 5, ["Yes."])
        talk.server.token_s = 1.0
        answer = asyncio.create_task(talk.agent.send_text("Count."))
        await talk.sounding(0.6)
        talk.agent.interrupt_current_response("user_clicked_stop")
        assert await answer == "One two"
        (report,) = talk.of(SpeechInterrupted)
        assert (report.level, report.reason, report.heard) == (Level.FULL, "user_clicked_stop", "One two")
        assert talk.of(Abort) == [Abort("user_clicked_stop", "r1")]
        (text,) = [text for text in talk.of(Text) if text.role == "assistant"]
        assert (text.interrupted, text.heard) == (True, "One two")
        assert talk.history[-1]["content"] == "One two—"
        assert not talk.of(SpeechComplete)
        assert await talk.agent.send_text("Still there?") == "Yes."


async def test_a_speech_only_interruption_leaves_the_text() -> None:
    async with talking() as talk:
        talk.server.script(["One two three four. ", "Five six seven eight."])
        talk.server.token_s = 1.0
        answer = asyncio.create_task(talk.agent.send_text("Count."))
        await talk.sounding(0.3)
        talk.agent.interrupt_speech("user_clicked_stop")
        assert await answer == "One two three four. Five six seven eight."
        assert talk.of(SpeechInterrupted)[0].level is Level.SPEECH
        assert not talk.of(Abort)
        assert not talk.of(SpeechComplete)
        assert [t.text for t in talk.of(Text) if t.role == "assistant"] == [await answer]


async def test_priority() -> None:
    async with talking() as talk:
        talk.server.script(WORDS, ["At once."])
        first = asyncio.create_task(talk.agent.send_text("Count."))
        await talk.sounding(0.5)
        assert await talk.agent.send_text("Stop, look!", priority=True) == "At once."
        assert first.done()
        assert talk.of(SpeechInterrupted)[0].reason == "priority_message"


async def test_an_input_interrupted_before_its_answer_began_has_an_empty_one() -> None:
    async with talking() as talk:
        talk.server.script(["Hello."])
        answer = asyncio.create_task(talk.agent.send_text("Hi."))
        await talk.until(lambda: talk.of(Text))
        talk.agent.interrupt_current_response()
        assert await answer == ""
        assert not talk.agent.processing
        assert await talk.agent.send_text("Again.") == "Hello."
        assert talk.history[0]["content"] == "Hi. Again."


async def test_a_model_that_fails_is_told_once_and_raised() -> None:
    async with talking() as talk:
        talk.server.plan(refuse(401))
        with pytest.raises(ServiceError):
            await talk.agent.send_text("Hi.")
        (failed,) = talk.of(Failed)
        assert "401" in failed.error
        assert isinstance(failed.exception, ServiceError)
        assert [text.role for text in talk.of(Text)] == ["user"]


class Mute(FakeVoice):
    """Cannot say some texts."""

    async def synthesize(self, text: str) -> Any:
        if "never" in text:
            raise RuntimeError("no breath")
        async for chunk in super().synthesize(text):
            yield chunk


async def test_a_voice_that_fails_is_told_and_says_the_rest() -> None:
    async with talking(speech_model=Mute()) as talk:
        talk.server.script(["I never will. ", "But this I do."])
        assert await talk.agent.send_text("Speak.") == "I never will. But this I do."
        (failed,) = talk.of(Failed)
        assert "no breath" in failed.error
        assert talk.sounds
        assert not talk.agent.pending_speech_chunks


async def test_a_listener_that_fails_disturbs_nobody() -> None:
    async with talking() as talk:
        talk.agent.on("text", lambda event: 1 / 0)
        after: list[Text] = []
        talk.agent.on(Text, after.append)
        talk.server.script(["Fine."])
        assert await talk.agent.send_text("Hi.") == "Fine."
        assert [text.text for text in after] == ["Hi.", "Fine."]
        talk.agent.off(Text, after.append)
        talk.agent.off(Text, after.append)


async def test_a_listener_may_interrupt_at_any_event() -> None:
    async with talking() as talk:
        stops = iter(range(100))

        def stop(event: TextDelta) -> None:
            if next(stops) == 3:
                talk.agent.interrupt_current_response("enough")

        talk.agent.on(TextDelta, stop)
        talk.server.script(WORDS, ["Yes."])
        assert await talk.agent.send_text("Count.") == ""
        assert len(talk.of(TextDelta)) == 4
        assert await talk.agent.send_text("There?") == "Yes."


def test_what_there_is_no_listening_to() -> None:
    agent = VoiceAgent(model="local")

    async def listener(event: object) -> None: ...

    with pytest.raises(NoSuchEvent, match="there is no event 'txt'; there are text, "):
        agent.on("txt", print)  # type: ignore[call-overload]
    with pytest.raises(NoSuchEvent, match="plain function"):
        agent.on("text", listener)


def test_every_name_has_a_class() -> None:
    from bargein.bots.voice_agent import events

    classes = [c for c in vars(events).values() if isinstance(c, type) and issubclass(c, events.Event)]
    named = [name for c in classes for name in c.names]
    assert sorted(named) == sorted(get_args(EventName))


def test_models_that_do_not_fit() -> None:
    with pytest.raises(BadBot, match="did you mean openai"):
        VoiceAgent(model="opnai/gpt")
    with pytest.raises(ValueError, match="named, not to an object"):
        VoiceAgent(model="local", speech_model=FakeVoice(), voice="alloy")


def test_a_voice_and_how_it_speaks() -> None:
    agent = VoiceAgent(
        model="local", speech_model="openai/tts-9", voice="alloy", speech_instructions="Whisper."
    )
    assert agent._speaks is not None
    (service,) = agent._speaks.services
    assert (service.model, service.voice, service.options) == (
        "tts-9",
        "alloy",
        {"instructions": "Whisper."},
    )


async def test_the_history_is_copied_both_ways() -> None:
    async with talking() as talk:
        talk.server.script(["Ann."])
        given = [{"role": "user", "content": "I am Ann."}, {"role": "assistant", "content": "Hello."}]
        talk.agent.set_history(given)
        given.clear()
        assert await talk.agent.send_text("Who am I?") == "Ann."
        assert [m["content"] for m in talk.server.requests[0].messages[1:]] == [
            "I am Ann.",
            "Hello.",
            "Who am I?",
        ]
        talk.history.clear()
        assert len(talk.history) == 4
        talk.agent.clear_history()
        assert talk.history == []
        assert talk.names[-1] == "history_cleared"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_messages": 4}, "max_messages"),
        ({"max_messages": None, "max_total_chars": 360}, "max_total_chars"),
    ],
)
async def test_the_history_is_trimmed_and_told_so(options: dict[str, Any], reason: Any) -> None:
    async with talking(**options) as talk:
        talk.server.answer = lambda messages: ["Good to know, and a long answer."]
        for n in range(5):
            await talk.agent.send_text(f"Here is fact number {n}, it is long.")
        assert {event.reason for event in talk.of(HistoryTrimmed)} == {reason}
        dropped = sum(event.removed_count for event in talk.of(HistoryTrimmed))
        assert len(talk.history) == 10 - dropped
        assert talk.history[0]["role"] == "user"


async def test_an_agent_that_does_not_run() -> None:
    agent = VoiceAgent(model="local")
    with pytest.raises(AgentClosed, match="use it in `async with agent:`"):
        await agent.send_text("hi")
    with pytest.raises(AgentClosed):
        agent.interrupt_speech()
    assert not agent.connected
    assert not doing(agent)


async def test_after_destroy_nothing_runs_and_nothing_is_told() -> None:
    async with talking("Late.", stt_s=5.0) as talk:
        talk.server.script(WORDS)
        answer = asyncio.create_task(talk.agent.send_text("Count."))
        recording = asyncio.create_task(talk.agent.send_audio(SECOND, "pcm"))
        await talk.sounding(0.5)
        await talk.agent.destroy()
        assert talk.agent.destroyed
        assert (await answer).startswith(" word0")
        with pytest.raises(InputRejected):
            await recording
        assert talk.names[-1] == "stopped"
        told, sounds = len(talk.told), len(talk.sounds)
        await asyncio.sleep(10)
        assert (len(talk.told), len(talk.sounds), len(talk.server.requests)) == (told, sounds, 1)
        assert talk.server.requests[0].outcome.done()
        await talk.agent.destroy()
        with pytest.raises(AgentClosed, match="destroyed"):
            await talk.agent.send_text("hi")
