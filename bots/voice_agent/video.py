"""A `VoiceAgent` that sees: its client, or the application, sends it pictures."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import Any

from starlette.websockets import WebSocket

from ...pipeline import Processor
from ...processors.context import Context
from ...processors.history import Message
from ...transports.voice_agent import VideoProtocol
from ...transports.voice_agent.pictures import MAX_FRAME_BYTES, PictureFrame, look_at, now_ms
from ...transports.websocket import WebSocketConnection
from .agent import VoiceAgent
from .errors import TooLarge
from .events import ClientReady, ConfigChanged, FrameReceived, FrameRequested
from .pictures import Pictures

VIDEO_INSTRUCTIONS = (
    "You are a helpful assistant who hears the user and sees what their camera shows. With a question comes "
    "the newest picture; of earlier ones only the names are left. What you say is spoken aloud, so be brief, "
    "and tell what you see when it matters or when you are asked."
)
USER_REQUEST = "user_request"  # why a picture is taken when the user says or writes something


class VideoAgent(VoiceAgent):
    """A `VoiceAgent` that sees: the newest picture goes with the next question, whoever asks it, and how.

    ```python
    async with VideoAgent(model="openai/gpt-4.1-mini") as agent:
        print(await agent.send_frame(Path("cat.jpg").read_bytes(), "What is this?"))
    ```

    A request holds one picture at most: in the history the one before it becomes a text such as
    "[picture 3, 640x480]", and so does the last one when clients change. When a client's user says or
    writes something the client is asked for a picture.

    Args:
        instructions: The system prompt.
        max_frame_input_size: Of one picture, bytes.
        max_context_frames: So many pictures `frame_context` remembers.
        session_id: What clients are told the conversation is called; made up if not given.
        options: Everything else is as of a `VoiceAgent`; the `model` has to understand pictures.

    Raises:
        ValueError: `max_context_frames` is less than 1.
    """

    def __init__(
        self,
        *,
        instructions: str = VIDEO_INSTRUCTIONS,
        max_frame_input_size: int = MAX_FRAME_BYTES,
        max_context_frames: int = 10,
        session_id: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(instructions=instructions, **options)
        self._max_frame_input_size = max_frame_input_size
        self._session_id = session_id or f"vs_{secrets.token_hex(8)}"
        self._frame_sequence = 0
        self._frame_context: deque[FrameReceived] = deque(maxlen=_at_least_one(max_context_frames))
        self._pictures: Pictures | None = None  # of the session that runs, or ran last

    # Pictures --------------------------------------------------------------------------------------

    async def send_frame(self, data: bytes, query: str | None = None) -> str:
        """Show the model a picture, with a question about it or with the next one there is.

        Args:
            data: JPEG, PNG, WebP or GIF; how large it is and which of these, its bytes tell.
            query: A question, put as by `send_text`.

        Returns:
            As `send_text`; "" without a question.

        Raises:
            BadPicture: It cannot be read.
            TooLarge: It is larger than `max_frame_input_size`.
            ValueError: The question is empty.
            InputRejected: As `send_text`, as whatever else that raises.
        """
        if query is None:
            frame = await self._frame_of(data)
            (await self._sessions.soon()).session.push(frame)
            return ""
        if not query.strip():
            raise ValueError("the query is empty")
        live, stops = await self._sessions.soon(), self._stops
        async with self._order:
            frame = await self._frame_of(data)
            answered = self._ask(live, query, wanted=stops == self._stops, about=frame)
        return await self._answer(live, answered)

    def request_frame_capture(self, reason: str = USER_REQUEST) -> None:
        """Ask the client for a picture. It comes, if the client likes to send one, as `frame_received`."""
        live = self._sessions.live
        if live is not None and live.connection is not None:
            live.connection.send({"type": "capture_frame", "reason": reason, "timestamp": now_ms()})
        self._emit(FrameRequested(reason))

    @property
    def session_id(self) -> str:
        """What clients are told the conversation is called."""
        return self._session_id

    @property
    def frame_sequence(self) -> int:
        """How many pictures there were."""
        return self._frame_sequence

    @property
    def frame_context(self) -> list[FrameReceived]:
        """What is known of the last pictures, oldest first; not the pictures."""
        return list(self._frame_context)

    @property
    def has_visual_context(self) -> bool:
        """Whether the model sees a picture, or will with the next question."""
        return self._pictures is not None and self._pictures.there

    @property
    def config(self) -> dict[str, int]:
        """What `update_config` can change."""
        assert self._frame_context.maxlen is not None
        return {"max_context_frames": self._frame_context.maxlen}

    def update_config(self, *, max_context_frames: int) -> None:
        """Change how many pictures `frame_context` remembers.

        Raises:
            ValueError: It is less than 1.
        """
        self._frame_context = deque(self._frame_context, maxlen=_at_least_one(max_context_frames))
        self._emit(ConfigChanged(max_context_frames))

    async def _frame_of(self, data: bytes) -> PictureFrame:
        if len(data) > self._max_frame_input_size:
            limit = self._max_frame_input_size
            raise TooLarge(f"the picture has {len(data)} bytes; max_frame_input_size allows {limit}")
        size, format_ = await asyncio.to_thread(look_at, data)
        return PictureFrame(data, size, format_, self._frame_sequence + 1, now_ms(), USER_REQUEST)

    def _note(self, frame: PictureFrame) -> int:
        self._frame_sequence += 1
        about = frame.sequence, frame.timestamp, frame.trigger_reason, len(frame.image)
        assert frame.format is not None
        received = FrameReceived(*about, *frame.size, frame.format)
        self._frame_context.append(received)
        self._emit(received)
        return self._frame_sequence

    # History ---------------------------------------------------------------------------------------

    def get_history(self) -> list[Message]:
        """A copy of the messages, without the instructions; pictures are named in it."""
        history = super().get_history()
        if self._pictures is not None:
            self._pictures.name_shown(history)
        return history

    def clear_history(self) -> None:
        """Forget all messages but the instructions, and what is known of pictures."""
        self._frame_context.clear()
        super().clear_history()

    # Sessions and clients --------------------------------------------------------------------------

    def _further_parts(self, context: Context) -> list[Processor]:
        self._pictures = Pictures(context, self._note)
        return [self._pictures]

    def _new_connection(self, websocket: WebSocket) -> WebSocketConnection:
        protocol = VideoProtocol(
            self._output_format,
            session_id=self._session_id,
            max_audio_bytes=self._max_audio_input_size,
            max_frame_bytes=self._max_frame_input_size,
            about=self._about,
            on_input=self.request_frame_capture,
            on_ready=lambda capabilities: self._emit(ClientReady(capabilities)),
        )
        connection = WebSocketConnection(websocket, protocol)
        connection.send(protocol.greeting)
        return connection

    def _about(self) -> dict[str, Any]:
        about: dict[str, Any] = {"sessionId": self._session_id}
        if self._frame_context:
            count, last = len(self._frame_context), self._frame_context[-1].sequence
            about["frameContext"] = {"frameCount": count, "lastFrameSequence": last}
        return about


def _at_least_one(max_context_frames: int) -> int:
    if max_context_frames < 1:
        raise ValueError(f"max_context_frames is {max_context_frames}; give 1 or more")
    return max_context_frames
