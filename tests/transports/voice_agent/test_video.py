"""The messages of a client with a camera."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bargein import Processor, handles
from bargein.transports.voice_agent import VideoProtocol
from bargein.transports.voice_agent.pictures import MAX_PIXELS, BadPicture, PictureFrame, look_at
from bargein.transports.websocket.protocol import Pushed, Reply, Said

from .agent import ANSWER, Conversation, talking
from .camera import picture, show, url_of

CUT = picture(size=(640, 480), file_format="JPEG")[:-200]


class Told:
    """A protocol, and what it told the agent."""

    def __init__(self, **options: Any) -> None:
        self.inputs = 0
        self.ready: list[Any] = []
        about = {"sessionId": "vs_1", "frameContext": {"frameCount": 2, "lastFrameSequence": 7}}
        self.protocol = VideoProtocol(
            session_id="vs_1",
            about=lambda: about,
            on_input=self._count,
            on_ready=self.ready.append,
            **options,
        )

    def _count(self) -> None:
        self.inputs += 1

    async def say(self, **message: Any) -> list[Any]:
        return list(await self.protocol.decode(json.dumps(message)))


def frame(**fields: Any) -> dict[str, Any]:
    image = {"data": b64encode(picture()).decode(), "format": "png", "width": 1, "height": 1}
    return {
        "type": "video_frame",
        "sequence": 7,
        "timestamp": 1_000.5,
        "triggerReason": "timer",
        "image": image,
    } | fields


async def test_a_picture_is_taken_and_acknowledged() -> None:
    pushed, reply = await Told().say(**frame())
    assert isinstance(pushed, Pushed)
    taken = pushed.frame
    assert isinstance(taken, PictureFrame)
    assert (taken.sequence, taken.timestamp, taken.trigger_reason) == (7, 1_000.5, "timer")
    assert (taken.size, taken.format, taken.image) == ((64, 48), "image/webp", picture())  # as its bytes tell
    assert taken.part == {"type": "image_url", "image_url": {"url": url_of(picture())}}
    assert isinstance(reply, Reply)
    ack = json.loads(reply.data)
    assert ack["timestamp"] > 1.7e12
    assert ack == {"type": "frame_ack", "sequence": 7, "timestamp": ack["timestamp"]}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"sequence": "7"}, "it needs"),
        ({"sequence": -1}, "it needs"),
        ({"sequence": 10**400}, "it needs"),
        ({"timestamp": float("nan")}, "it needs"),
        ({"timestamp": float("inf")}, "it needs"),
        ({"timestamp": None}, "it needs"),
        ({"triggerReason": 3}, "it needs"),
        ({"image": None}, "it needs"),
        ({"image": {}}, "it needs"),
        ({"image": {"data": 3}}, "it needs"),
        ({"image": {"data": ""}}, "cannot be read"),
        ({"image": {"data": "!"}}, "base64"),
        ({"image": {"data": "é"}}, "base64"),
        ({"image": {"data": "AAAA"}}, "cannot be read"),
        ({"image": {"data": b64encode(CUT).decode()}}, "cannot be read"),
        ({"image": {"data": "A" * 1_400}}, "may have 1000 bytes"),
    ],
)
async def test_what_is_no_picture_is_answered(fields: dict[str, Any], problem: str) -> None:
    (reply,) = await Told(max_frame_bytes=1_000 if "1000" in problem else 10**6).say(**frame(**fields))
    assert isinstance(reply, Reply)
    error = json.loads(reply.data)
    assert error["type"] == "error"
    assert error["error"].startswith("video_frame: ")
    assert problem in error["error"]


async def test_who_is_ready_is_told_the_session() -> None:
    told = Told()
    (reply,) = await told.say(type="client_ready", capabilities={"video": True})
    assert json.loads(reply.data) == {"type": "session_init", "sessionId": "vs_1"}
    await told.say(type="client_ready")
    assert told.ready == [{"video": True}, None]


async def test_an_input_is_announced_and_anything_else_goes_on_as_it_is() -> None:
    told = Told()
    for kind in ("interrupt", "audio_played", "whatever"):
        assert await told.say(type=kind) == [Said({"type": kind})]
    assert told.inputs == 0
    for kind in ("transcript", "audio"):
        assert await told.say(type=kind) == [Said({"type": kind})]
    assert told.inputs == 2
    assert len(await told.protocol.decode("nonsense")) == 1


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_pictures_that_models_take(file_format: str) -> None:
    assert look_at(picture(size=(640, 480), file_format=file_format)) == (
        (640, 480),
        f"image/{file_format.lower()}",
    )


@pytest.mark.parametrize(
    "data",
    [picture(file_format="BMP"), picture(file_format="TIFF"), b"", b"GIF89a", CUT, b"\x89PNG\r\n\x1a\n"],
)
def test_what_models_do_not_take(data: bytes) -> None:
    with pytest.raises(BadPicture, match="JPEG, PNG, WebP or GIF"):
        look_at(data)


def test_a_small_file_with_a_huge_picture() -> None:
    huge = picture(size=(5_000, 4_000), file_format="PNG")
    assert len(huge) < 100_000
    with pytest.raises(BadPicture, match=str(MAX_PIXELS)):
        look_at(huge)


class Seen(Processor):
    """What came through a pipeline."""

    def __init__(self) -> None:
        self.frames: list[PictureFrame] = []

    @handles(PictureFrame)
    def see(self, frame: PictureFrame) -> None:
        self.frames.append(frame)


@asynccontextmanager
async def watched() -> AsyncIterator[tuple[Conversation, Seen]]:
    """A bot that does not look at pictures, behind the protocol with them."""
    seen = Seen()
    async with talking(protocol=Told().protocol, further=[seen]) as talk:
        yield talk, seen


async def test_pictures_reach_the_pipeline_in_their_order_with_the_texts() -> None:
    async with watched() as (talk, seen):
        show(talk.page, picture("red"), 1)
        show(talk.page, b"garbage", 2)
        show(talk.page, picture("blue", (32, 32)), 3)
        talk.page.say(type="transcript", text="hello")
        complete = await talk.page.expect("response_complete")
        assert [f.sequence for f in seen.frames] == [1, 3]
        assert talk.page.kinds.index("error") < talk.page.kinds.index("stream_start")
        assert [m["sequence"] for m in talk.page.of("frame_ack")] == [1, 3]
        assert complete["text"] == ANSWER
        assert complete["sessionId"] == "vs_1"
        assert complete["frameContext"] == {"frameCount": 2, "lastFrameSequence": 7}


async def test_an_answer_goes_on_while_pictures_come() -> None:
    async with watched() as (talk, seen):
        talk.page.say(type="transcript", text="hello")
        await talk.page.expect("audio_chunk")
        for number in range(50):
            show(talk.page, picture(), number)
            await asyncio.sleep(0.02)
        await talk.page.expect("speech_stream_end")
        assert len(seen.frames) == 50
        assert "speech_interrupted" not in talk.page.kinds


async def test_without_that_protocol_pictures_are_ignored() -> None:
    async with talking() as talk:
        show(talk.page, picture())
        show(talk.page, b"garbage")
        talk.page.say(type="client_ready", capabilities={})
        talk.page.say(type="transcript", text="hello")
        complete = await talk.page.expect("response_complete")
        assert not {"frame_ack", "session_init", "error", "capture_frame"} & set(talk.page.kinds)
        assert "sessionId" not in complete
        assert talk.history[0] == ("user", "hello")
