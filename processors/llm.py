"""The language model: any server with OpenAI's chat completions API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ..pipeline import Processor, handles
from ..pipeline.frames import (
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
)

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class LLM(Processor):
    """Answers each LLMContextFrame with a stream of LLMTextFrames between a start and an end frame.

    A full interruption closes the HTTP connection, so that the server stops generating.

    Args:
        client: The `openai` client, for any base URL; the caller closes it.
        model: The model's name at that server.
        options: Further arguments of `chat.completions.create`, such as `temperature` or `max_tokens`.
    """

    def __init__(self, client: AsyncOpenAI, model: str, **options: Any) -> None:
        self._client = client
        self._model = model
        self._options = options

    @handles(LLMContextFrame)
    async def answer(self, frame: LLMContextFrame) -> None:
        with self.session.respond():
            self.push(LLMFullResponseStartFrame())
            try:
                await self._generate(cast("list[Any]", frame.context.messages))
            finally:
                self.push(LLMFullResponseEndFrame())

    async def _generate(self, messages: list[Any]) -> None:
        stream = await self._client.chat.completions.create(
            model=self._model, messages=messages, stream=True, **self._options
        )
        async with stream:
            async for chunk in stream:
                text = chunk.choices[0].delta.content if chunk.choices else None
                if text:
                    self.push(LLMTextFrame(text))
