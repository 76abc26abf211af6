"""The wire format of voice-agent-ai-sdk: a JSON object in each text message, both ways. No I/O."""

from __future__ import annotations

import json

from ..rtvi import LABEL, encoded
from ..websocket.protocol import Data, Event, Message, Reply, Said
from .encoding import Format

MAX_AUDIO_BYTES = 10 * 1024 * 1024  # of one recording; voice-agent-ai-sdk's default

# Of a message of a client. A recording somewhat too long is still taken, so that it can be answered.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024


class VoiceAgentProtocol:
    """What a client of voice-agent-ai-sdk speaks.

    Args:
        audio_format: What the bot's voice is encoded as.
        max_audio_bytes: How large a recording may be, before it is encoded as text.

    Attributes:
        chunks: The bot's voice by the number of the chunk, until it is sent. What is taken out of here
            before that is not sent. Written by the output.
    """

    started = True  # nothing has to be agreed upon
    output_rate = 24_000
    block_ms = 1_000  # of voice that a message holds, more or less
    speaks_rtvi = False
    max_message_bytes = MAX_MESSAGE_BYTES

    def __init__(self, audio_format: Format = "wav", *, max_audio_bytes: int = MAX_AUDIO_BYTES) -> None:
        self.audio_format = audio_format
        self.max_audio_bytes = max_audio_bytes
        self.chunks: dict[int, Message] = {}

    async def decode(self, data: Data) -> list[Event]:
        try:
            message = json.loads(data) if isinstance(data, str) else None
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            return [Reply(encoded({"type": "error", "error": "a message must be a JSON object, as text"}))]
        return [Said(message)]

    async def message(self, message: Message) -> list[Data]:
        """One of our own messages; of the server's RTVI messages the errors, in our form."""
        if message.get("label") == LABEL:
            is_error = message["type"] == "error"
            return [encoded({"type": "error", **message["data"]})] if is_error else []
        if message["type"] == "audio_chunk":
            chunk = self.chunks.pop(message["chunkId"], None)
            return [] if chunk is None else [encoded(message | chunk)]
        return [encoded(message)]

    async def audio(self, pcm: bytes) -> list[Data]:
        return []  # the voice leaves as `audio_chunk` messages

    async def mark(self, number: int) -> list[Data]:
        return []

    async def clear(self) -> list[Data]:
        return []  # `speech_interrupted` does it

    async def end(self) -> None:
        pass
