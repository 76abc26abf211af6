"""The wire format with pictures: what clients of voice-agent-ai-sdk's VideoAgent speak."""

from __future__ import annotations

import asyncio
import binascii
from base64 import b64decode
from collections.abc import Callable
from typing import Any

from ..rtvi.messages import encoded
from ..websocket.protocol import Data, Event, Message, Pushed, Reply, Said
from .encoding import Format
from .pictures import MAX_FRAME_BYTES, BadPicture, PictureFrame, look_at, now_ms
from .protocol import MAX_AUDIO_BYTES, VoiceAgentProtocol

MAX_NUMBER = 2**53  # so far JavaScript counts
MAX_TRIGGER = 200  # characters of a reason


class VideoProtocol(VoiceAgentProtocol):
    """What a client with a camera speaks.

    A picture is checked before anything that came after it is read, so the question behind it has it.

    Args:
        audio_format: What the bot's voice is encoded as.
        session_id: Told to a client that says it is ready.
        max_audio_bytes: How large a recording may be, before it is encoded as text.
        max_frame_bytes: How large a picture may be, likewise.
        about: What else a client is told with a complete answer.
        on_input: Called when the user says or writes something, before it is taken.
        on_ready: Called with what a client that is ready can do, in its own words.
    """

    def __init__(
        self,
        audio_format: Format = "wav",
        *,
        session_id: str,
        max_audio_bytes: int = MAX_AUDIO_BYTES,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        about: Callable[[], Message],
        on_input: Callable[[], None],
        on_ready: Callable[[Any], None],
    ) -> None:
        super().__init__(audio_format, max_audio_bytes=max_audio_bytes)
        self.greeting: Message = {"type": "session_init", "sessionId": session_id}
        self._max_frame_bytes = max_frame_bytes
        self._about = about
        self._on_input = on_input
        self._on_ready = on_ready

    async def decode(self, data: Data) -> list[Event]:
        events = await super().decode(data)
        match events:
            case [Said({"type": "video_frame"} as message)]:
                return await self._frame(message)
            case [Said({"type": "client_ready"} as message)]:
                self._on_ready(message.get("capabilities"))
                return [Reply(encoded(self.greeting))]
            case [Said({"type": "transcript" | "audio"})]:
                self._on_input()
        return events

    async def message(self, message: Message) -> list[Data]:
        if message.get("type") == "response_complete":
            message = message | self._about()
        return await super().message(message)

    async def _frame(self, message: Message) -> list[Event]:
        try:
            frame = await asyncio.to_thread(self._frame_in, message)
        except BadPicture as error:
            return [Reply(encoded({"type": "error", "error": f"video_frame: {error}"}))]
        ack = {"type": "frame_ack", "sequence": frame.sequence, "timestamp": now_ms()}
        return [Pushed(frame), Reply(encoded(ack))]

    def _frame_in(self, message: Message) -> PictureFrame:
        match message:
            case {
                "sequence": int(sequence),
                "timestamp": int() | float() as timestamp,
                "triggerReason": str(reason),
                "image": {"data": str(data)},
            } if 0 <= sequence < MAX_NUMBER and 0 <= timestamp < MAX_NUMBER:
                image = self._image_in(data)
            case _:
                raise BadPicture("it needs `sequence`, `timestamp`, `triggerReason` and `image.data`")
        size, format_ = look_at(image)
        return PictureFrame(image, size, format_, sequence, timestamp, reason[:MAX_TRIGGER])

    def _image_in(self, data: str) -> bytes:
        if len(data) * 3 // 4 > self._max_frame_bytes + 2:
            raise BadPicture(f"the picture is too large; it may have {self._max_frame_bytes} bytes")
        try:
            return b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            raise BadPicture("the picture is not encoded as base64") from None
