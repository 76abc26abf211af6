"""OpenAI's speech, or that of any server with the same API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from openai import Timeout

from ...pipeline.pace import Pace, PacedWords
from ..local.types import SpeechChunk
from .errors import ServiceUnavailable
from .limits import CONNECT_S
from .retry import retrying_stream

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# Raw audio of this API is mono s16le at this rate, Hz.
SAMPLE_RATE = 24_000
# Longest wait for the first or the next audio, s: the user hears silence meanwhile.
SILENCE_S = 6.0


class OpenAIVoice:
    """Speaks over `audio.speech`, streaming; closing the generator closes the HTTP response.

    The API tells no word times. A word's place is its share of the sentence's audio, which is estimated
    from the sentences before while it has not all come.

    Args:
        client: The `openai` client, for any base URL; the caller closes it. Its own retries are not used.
        voice: A name the server knows.
        model: The model's name at that server.
        service: What errors and logs call it.
        options: Further arguments of `audio.speech.create`, such as `instructions` or `speed`.
    """

    def __init__(
        self,
        client: AsyncOpenAI,
        voice: str = "marin",
        *,
        model: str = "gpt-4o-mini-tts",
        service: str = "OpenAI speech",
        **options: Any,
    ) -> None:
        timeout = Timeout(SILENCE_S, connect=CONNECT_S)
        self._client = client.with_options(max_retries=0, timeout=timeout)
        self._request = {"voice": voice, "model": model, "response_format": "pcm", **options}
        self._pace = Pace()
        self.service = service

    async def synthesize(self, text: str) -> AsyncGenerator[SpeechChunk, None]:
        """Speak a text; asked for again, after a pause, only as long as none of it has come.

        Raises:
            ServiceError: No audio came, or it broke off; named by condition.
        """
        if not any(map(str.isalnum, text)):
            return
        async with aclosing(retrying_stream(lambda: self._audio(text), service=self.service)) as pieces:
            words = PacedWords(text, self._pace)
            loop = asyncio.get_running_loop()
            seconds, began = 0.0, loop.time()
            async for pcm in pieces:
                began = began if seconds else loop.time()
                seconds += len(pcm) / 2 / SAMPLE_RATE
                # The user cannot have heard more of it than could be played by now.
                yield SpeechChunk(pcm, SAMPLE_RATE, words.until(min(seconds, loop.time() - began)))
        if seconds:
            yield SpeechChunk(b"", SAMPLE_RATE, words.complete(seconds))

    async def _audio(self, text: str) -> AsyncGenerator[bytes, None]:
        """The audio as it comes, in whole samples."""
        rest = b""
        speech = self._client.audio.speech.with_streaming_response
        async with speech.create(input=text, **self._request) as response:
            kind = response.headers.get("content-type", "")
            if kind.startswith(("text/", "application/json")):  # it would be played as noise
                raise ServiceUnavailable(self.service, f"sent {kind} instead of audio")
            async for data in response.iter_bytes():
                whole = len(rest + data) // 2 * 2
                pcm, rest = (rest + data)[:whole], (rest + data)[whole:]
                if pcm:
                    yield pcm
