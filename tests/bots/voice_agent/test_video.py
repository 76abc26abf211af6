"""An agent that sees: pictures in questions, in the history, and between it and its clients."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from openai import AsyncOpenAI
from websockets.asyncio.client import connect

from bargein import Level
from bargein.bots.voice_agent import TooLarge, VideoAgent, VoiceAgent
from bargein.bots.voice_agent.events import (
    ClientReady,
    ConfigChanged,
    FrameReceived,
    FrameRequested,
    SpeechInterrupted,
    Text,
)
from bargein.bots.voice_agent.video import VIDEO_INSTRUCTIONS
from bargein.pipeline import InputRejected
from bargein.processors.services.openai_chat import ChatCompletions
from bargein.processors.services.openai_responses import Responses
from bargein.transports.voice_agent.pictures import BadPicture

from ...processors.fakes import FakeVoice
from ...servers.openai_server import OpenAIServer, Request, Token, tool_calls
from ...transports.voice_agent.agent import RECORDING
from ...transports.voice_agent.camera import picture, show, url_of
from .scripted import Talk, talking
from .test_clients import joined, served

RED, BLUE = picture("red"), picture("blue", (32, 32))
WORDS: list[Token] = [f" Number {n}." for n in range(60)]
Seeing = tuple[Talk, VideoAgent]


@asynccontextmanager
async def seeing(*understood: str, **options: Any) -> AsyncIterator[Seeing]:
    async with talking(*understood, kind=VideoAgent, **options) as talk:
        assert isinstance(talk.agent, VideoAgent)
        yield talk, talk.agent


def sees(agent: VideoAgent) -> bool:
    """Whether it does now: a type checker takes a property for a constant."""
    return agent.has_visual_context


def asked(request: Request) -> list[Any]:
    """What the user said and showed in a request: texts, and the URLs of pictures."""
    contents = [m["content"] for m in request.messages if m["role"] == "user"]
    parts = [
        [c] if isinstance(c, str) else [p.get("text") or p["image_url"]["url"] for p in c] for c in contents
    ]
    return [parts_of_one if len(parts_of_one) > 1 else parts_of_one[0] for parts_of_one in parts]


# Questions ------------------------------------------------------------------------------------------


async def test_a_picture_goes_with_the_next_question_and_is_named_once_there_is_a_newer_one() -> None:
    async with seeing() as (talk, agent):
        talk.server.answer = lambda messages: ["I see."]
        assert not sees(agent)
        assert await agent.send_frame(RED) == ""
        assert sees(agent)
        assert talk.server.requests == []
        assert await agent.send_text("What is it?") == "I see."
        await agent.send_text("Sure?")
        await agent.send_frame(BLUE)
        await agent.send_text("And this?")
        red, blue = url_of(RED), url_of(BLUE)
        assert [asked(request) for request in talk.server.requests] == [
            [[red, "What is it?"]],
            [[red, "What is it?"], "Sure?"],
            ["[picture 1, 64x48] What is it?", "Sure?", [blue, "And this?"]],
        ]
        assert [t.text for t in talk.of(Text) if t.role == "user"] == ["What is it?", "Sure?", "And this?"]


async def test_only_the_newest_of_several_pictures_is_shown() -> None:
    async with seeing() as (talk, agent):
        talk.server.script(["Blue."])
        for data in (RED, RED, BLUE):
            await agent.send_frame(data)
        await agent.send_text("Which?")
        assert asked(talk.server.requests[0]) == [[url_of(BLUE), "Which?"]]


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF"])
async def test_a_picture_with_a_query(file_format: str) -> None:
    data = picture(file_format=file_format)
    async with seeing() as (talk, agent):
        talk.server.script(["A", " square."])
        assert await agent.send_frame(data, "What is it?") == "A square."
        assert asked(talk.server.requests[0]) == [[url_of(data, file_format.lower()), "What is it?"]]
        with pytest.raises(ValueError, match="query"):
            await agent.send_frame(data, "  ")


async def test_the_responses_api_gets_pictures_too() -> None:
    async with seeing(chat=Responses) as (talk, agent):
        talk.server.script(["Red."])
        assert await agent.send_frame(RED, "What is it?") == "Red."
        image = {"type": "input_image", "image_url": url_of(RED), "detail": "auto"}
        text = {"type": "input_text", "text": "What is it?"}
        assert talk.server.requests[0].body["input"] == [{"role": "user", "content": [image, text]}]


async def test_a_recording_is_asked_with_the_picture_that_comes_while_it_is_transcribed() -> None:
    async with seeing("What is this?", stt_s=1.0) as (talk, _), joined(talk) as page:
        talk.server.script(["Blue."])
        show(page, RED, 1)
        page.say(type="audio", data=RECORDING)
        assert (await page.expect("capture_frame"))["reason"] == "user_request"
        show(page, BLUE, 2)
        await page.expect("response_complete")
        assert asked(talk.server.requests[0]) == [[url_of(BLUE), "What is this?"]]


async def test_inputs_keep_their_order_around_a_query() -> None:
    async with seeing("first", stt_s=1.0) as (talk, agent):
        talk.server.answer = lambda messages: ["Yes."]
        said = asyncio.create_task(agent.send_audio(b"\1\1" * 1_600, "pcm"))
        await asyncio.sleep(0.1)
        shown = asyncio.create_task(agent.send_frame(RED, "second"))
        await asyncio.sleep(0.1)
        written = asyncio.create_task(agent.send_text("third"))
        await asyncio.gather(said, shown, written)
        assert asked(talk.server.requests[-1]) == [["first", url_of(RED), "second", "third"]]


async def test_a_picture_during_an_answer_waits_for_the_next_question() -> None:
    async def look_up() -> str:
        """Look something up."""
        await agent.send_frame(BLUE)
        return "found"

    async with seeing(tools=(look_up,)) as (talk, agent):
        talk.server.script(tool_calls(("look_up", "{}")), ["Red."], ["Blue."])
        assert await agent.send_frame(RED, "What is it?") == "Red."
        assert await agent.send_text("And now?") == "Blue."
        red, blue = url_of(RED), url_of(BLUE)
        assert [asked(request) for request in talk.server.requests] == [
            [[red, "What is it?"]],
            [[red, "What is it?"]],
            ["[picture 1, 64x48] What is it?", [blue, "And now?"]],
        ]


# Interruptions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", list(Level))
async def test_an_answer_about_a_picture_is_interrupted_and_the_next_turn_goes_on(level: Level) -> None:
    async with seeing() as (talk, agent):
        talk.server.script(WORDS, ["Blue."])
        answer = asyncio.create_task(agent.send_frame(RED, "Count."))
        await talk.sounding(1.0)
        if level is Level.FULL:
            agent.interrupt_current_response("stop")
        else:
            agent.interrupt_speech("stop")
        await answer
        (report,) = talk.of(SpeechInterrupted)
        assert report.level is level
        assert report.heard
        assert await agent.send_frame(BLUE, "And this?") == "Blue."
        first, second = asked(talk.server.requests[1])
        assert (first, second) == ("[picture 1, 64x48] Count.", [url_of(BLUE), "And this?"])
        mark = talk.history[1]["content"]
        assert mark.startswith(report.heard)
        assert mark.endswith("—") if level is Level.FULL else "voice stopped" in mark


async def test_questions_whose_answers_were_not_begun_become_one_with_the_newest_picture() -> None:
    async with seeing() as (talk, agent):
        talk.server.token_s = 1.0
        talk.server.answer = lambda messages: ["Blue."]
        first = asyncio.create_task(agent.send_frame(RED, "What is it?"))
        await talk.server.arrived.wait()
        agent.interrupt_current_response()
        assert await first == ""
        assert await agent.send_frame(BLUE, "And this?") == "Blue."
        assert asked(talk.server.requests[-1]) == [
            ["[picture 1, 64x48]", "What is it?", url_of(BLUE), "And this?"]
        ]
        await agent.send_frame(RED, "Again?")
        assert asked(talk.server.requests[-1])[0] == (
            "[picture 1, 64x48] What is it? [picture 2, 32x32] And this?"
        )


async def test_a_picture_stays_for_a_question_that_is_to_be_answered() -> None:
    """A recording whose answer nobody wants any more is remembered without one."""
    async with seeing("What is this?", stt_s=1.0) as (talk, agent):
        talk.server.script(["Red."])
        said = asyncio.create_task(agent.send_audio(b"\1\1" * 1_600, "pcm"))
        await asyncio.sleep(0.1)
        await agent.send_frame(RED)
        agent.interrupt_current_response()
        assert await said == ""
        assert await agent.send_text("Well?") == "Red."
        assert asked(talk.server.requests[0]) == [["What is this?", url_of(RED), "Well?"]]


# History --------------------------------------------------------------------------------------------


async def test_the_history_names_pictures_and_stays_small() -> None:
    async with seeing(max_total_chars=200) as (talk, agent):
        talk.server.answer = lambda messages: ["Yes."]
        large = picture("green", (640, 480), "PNG") + bytes(1_000_000)  # what follows the end is not read
        for number in range(20):
            await agent.send_frame(large, f"Question {number}?")
        assert len(json.dumps(agent.get_history())) < 500
        assert agent.get_history()[-2:] == [
            {"role": "user", "content": "[picture 20, 640x480] Question 19?"},
            {"role": "assistant", "content": "Yes."},
        ]
        assert all(len(json.dumps(request.body)) < 1_500_000 for request in talk.server.requests)
        assert len(talk.server.requests[-1].messages) > 3  # a picture has no characters
        agent.set_history(agent.get_history())
        assert not sees(agent)


async def test_a_history_that_was_set_is_not_changed_but_for_the_picture() -> None:
    async with seeing() as (talk, agent):
        talk.server.answer = lambda messages: ["Yes."]
        mine = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
        agent.set_history([{"role": "user", "content": mine}, {"role": "assistant", "content": "Hm."}])
        await agent.send_frame(RED, "And this?")
        await agent.send_frame(BLUE, "And this?")
        assert asked(talk.server.requests[-1]) == [
            "data:image/png;base64,AA==",
            "[picture 1, 64x48] And this?",
            [url_of(BLUE), "And this?"],
        ]


async def test_a_change_of_clients_leaves_the_names_of_pictures() -> None:
    async with seeing() as (talk, agent):
        talk.server.answer = lambda messages: ["Yes."]
        await agent.send_frame(RED, "What is it?")
        async with joined(talk) as page:
            assert not sees(agent)
            show(page, BLUE)
            await page.expect("frame_ack")
            assert sees(agent)
        assert not sees(agent)
        await agent.send_text("Do you remember?")
        assert asked(talk.server.requests[-1]) == ["[picture 1, 64x48] What is it?", "Do you remember?"]
        assert len(agent.frame_context) == 2


async def test_clearing_the_history_forgets_pictures() -> None:
    async with seeing() as (talk, agent):
        talk.server.answer = lambda messages: ["Yes."]
        await agent.send_frame(RED, "What is it?")
        agent.clear_history()
        assert (agent.frame_context, sees(agent)) == ([], False)
        await agent.send_text("What was it?")
        assert asked(talk.server.requests[-1]) == ["What was it?"]


# What is no picture ---------------------------------------------------------------------------------


async def test_pictures_that_cannot_be_taken() -> None:
    async with seeing(max_frame_input_size=100_000) as (talk, agent), joined(talk) as page:
        with pytest.raises(TooLarge, match="max_frame_input_size allows 100000"):
            await agent.send_frame(bytes(100_001), "What is it?")
        for query in (None, "What is it?"):
            with pytest.raises(BadPicture, match="JPEG"):
                await agent.send_frame(b"garbage", query)
        for number, data in enumerate((bytes(100_004), b"garbage"), 1):
            show(page, data)
            assert "video_frame: the picture" in (await page.expect("error", number))["error"]
        assert (agent.frame_context, agent.frame_sequence, sees(agent)) == ([], 0, False)
        talk.server.script(["No."])
        page.say(type="transcript", text="Do you see it?")
        await page.expect("response_complete")
        assert asked(talk.server.requests[0]) == ["Do you see it?"]
        assert "frame_ack" not in page.kinds


# Clients --------------------------------------------------------------------------------------------


async def test_what_a_client_with_a_camera_says_and_hears() -> None:
    async with seeing(session_id="vs_mine") as (talk, agent), joined(talk) as page:
        talk.server.answer = lambda messages: ["Red."]
        init = {"type": "session_init", "sessionId": "vs_mine"}
        assert await page.expect("session_init") == init
        page.say(type="client_ready", capabilities={"video": True})
        assert await page.expect("session_init", 2) == init
        assert talk.of(ClientReady) == [ClientReady({"video": True})]
        show(page, RED, sequence=1_763_900_000_000)
        ack = await page.expect("frame_ack")
        assert ack["sequence"] == 1_763_900_000_000
        page.say(type="transcript", text="What is it?")
        complete = await page.expect("response_complete")
        assert complete["sessionId"] == "vs_mine"
        assert complete["frameContext"] == {"frameCount": 1, "lastFrameSequence": 1_763_900_000_000}
        assert asked(talk.server.requests[0]) == [[url_of(RED), "What is it?"]]
        seen = FrameReceived(1_763_900_000_000, 1.7639e15, "timer", len(RED), 64, 48, "image/webp")
        assert talk.of(FrameReceived) == agent.frame_context == [seen]


async def test_a_capture_is_requested_and_comes() -> None:
    async with seeing() as (talk, agent):
        agent.request_frame_capture("before")
        async with joined(talk) as page:
            agent.request_frame_capture("scene_change")
            request = await page.expect("capture_frame")
            assert request == {
                "type": "capture_frame",
                "reason": "scene_change",
                "timestamp": request["timestamp"],
            }
            show(page, BLUE, 5, triggerReason=request["reason"])
            assert (await page.expect("frame_ack"))["sequence"] == 5
            assert agent.frame_context[-1].trigger_reason == "scene_change"
            assert len(page.of("capture_frame")) == 1
        assert talk.of(FrameRequested) == [FrameRequested("before"), FrameRequested("scene_change")]


async def test_an_answer_without_pictures_is_told_without_them() -> None:
    async with seeing() as (talk, agent), joined(talk) as page:
        talk.server.script(["Hello."])
        page.say(type="transcript", text="Hello?")
        complete = await page.expect("response_complete")
        assert complete["sessionId"] == agent.session_id
        assert agent.session_id.startswith("vs_")
        assert "frameContext" not in complete


async def test_a_client_that_leaves_rejects_the_query_that_waits() -> None:
    async with seeing() as (talk, agent):
        talk.server.answer = lambda messages: WORDS
        async with joined(talk) as page:
            page.say(type="transcript", text="Count.")
            await page.expect("audio_chunk")
            waiting = asyncio.create_task(agent.send_frame(RED, "What is it?"))
            await talk.until(lambda: agent.frame_sequence)
        with pytest.raises(InputRejected):
            await waiting
        assert not sees(agent)


async def test_a_second_client_sees_and_shows_nothing_of_the_first() -> None:
    async with seeing() as (talk, agent), joined(talk) as first:
        talk.server.answer = lambda messages: ["Yes."]
        show(first, RED, 1)
        await first.expect("frame_ack")
        async with joined(talk) as second:
            await second.expect("session_init")
            show(first, RED, 2)
            second.say(type="transcript", text="What is it?")
            await second.expect("response_complete")
            assert asked(talk.server.requests[0]) == ["What is it?"]
            show(second, BLUE, 1)
            await second.expect("frame_ack")
            second.say(type="transcript", text="And this?")
            await second.expect("response_complete", 2)
            # Nothing was heard of the first answer, so it is one question.
            assert asked(talk.server.requests[1]) == [["What is it?", url_of(BLUE), "And this?"]]
            assert len(second.of("frame_ack")) == 1
            assert [f.sequence for f in agent.frame_context] == [1, 1]


@pytest.mark.real_time
async def test_it_is_served() -> None:
    """A real server, a real client with a camera, a model behind a socket."""
    async with OpenAIServer().serving() as model:
        model.answer = lambda messages: ["Red."]
        client = AsyncOpenAI(base_url=model.base_url, api_key="secret")
        app = FastAPI()

        @app.websocket("/video")
        async def video(websocket: WebSocket) -> None:
            async with VideoAgent(model=ChatCompletions(client, "m"), speech_model=FakeVoice()) as agent:
                await agent.handle_socket(websocket)

        async with client, served(app) as url, connect(f"{url}/video", max_size=None) as page:
            image = {"data": b64encode(RED).decode(), "format": "webp", "width": 64, "height": 48}
            about = {"sequence": 1, "timestamp": 1, "triggerReason": "initial"}
            await page.send(json.dumps({"type": "video_frame", **about, "image": image}))
            await page.send(json.dumps({"type": "transcript", "text": "What is it?"}))
            kinds: list[str] = []
            async with asyncio.timeout(60):
                while "response_complete" not in kinds:
                    kinds.append(json.loads(await page.recv())["type"])
        assert kinds[:4] == ["session_init", "frame_ack", "capture_frame", "stream_start"]
        assert asked(model.requests[0]) == [[url_of(RED), "What is it?"]]


# Configuration --------------------------------------------------------------------------------------


async def test_so_many_pictures_are_remembered() -> None:
    async with seeing(max_context_frames=3) as (talk, agent):
        for _ in range(5):
            await agent.send_frame(RED)
        assert [f.sequence for f in agent.frame_context] == [3, 4, 5]
        assert {f.trigger_reason for f in agent.frame_context} == {"user_request"}
        assert agent.config == {"max_context_frames": 3}
        agent.update_config(max_context_frames=2)
        assert agent.config == {"max_context_frames": 2}
        assert talk.of(ConfigChanged) == [ConfigChanged(2)]
        assert [f.sequence for f in agent.frame_context] == [4, 5]
        await agent.send_frame(BLUE)
        assert [f.sequence for f in agent.frame_context] == [5, 6]
        assert agent.frame_sequence == 6
        with pytest.raises(ValueError, match="max_context_frames is 0"):
            agent.update_config(max_context_frames=0)


async def test_its_own_defaults_and_those_of_every_agent() -> None:
    agent = VideoAgent(model="openai/gpt-4.1-mini", max_messages=7)
    assert isinstance(agent, VoiceAgent)
    assert agent.config == {"max_context_frames": 10}
    assert agent.session_id != VideoAgent(model="openai/gpt-4.1-mini").session_id
    async with talking(kind=VideoAgent) as talk:
        talk.server.script(["Yes."])
        await talk.agent.send_text("Hello.")
        assert talk.server.requests[0].messages[0]["content"].startswith("Be brief.")
    assert "picture" in VIDEO_INSTRUCTIONS
