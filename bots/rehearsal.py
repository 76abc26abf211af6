"""A bot tried without a model, a network or a sound: what the language model answers is a test's to say."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from ..pipeline import BargeinError, Processor, Session
from ..processors.services.chat import Call, Piece, ToolChoice
from .bot import Bot, RunningBot
from .parts import LLMPart, every
from .place import Shared
from .written import written


class ScriptEnded(BargeinError, AssertionError):
    """Raised when the bot asks its model for more than the script holds."""


class ScriptedModel:
    """A language model whose answers are known.

    Args:
        script: What it says each time it is asked: a text, or the call of a tool.

    Attributes:
        requests: The messages it was asked with, each time.
    """

    model = service = "script"

    def __init__(self, *script: str | Call) -> None:
        self._script = deque(script)
        self.requests: list[list[dict[str, Any]]] = []

    async def stream(
        self, messages: Sequence[Any], tools: Sequence[dict[str, Any]] = (), tool_choice: ToolChoice = "auto"
    ) -> AsyncGenerator[Piece, None]:
        """The next of the script.

        Raises:
            ScriptEnded: It has ended.
        """
        self.requests.append([dict(message) for message in messages])
        if not self._script:
            raise ScriptEnded(f"the script has no answer to {messages[-1]['content']!r}")
        yield self._script.popleft()


class Rehearsal:
    """A written conversation with a bot that speaks by a script.

    Attributes:
        session: It runs.
        model: The scripted one.
        messages: The conversation as the model sees it, with the results of tools; live.
    """

    def __init__(self, session: Session, model: ScriptedModel, messages: list[dict[str, Any]]) -> None:
        self.session = session
        self.model = model
        self.messages = messages

    async def write(self, text: str) -> str:
        """Write something to the bot; returns its answer.

        Raises:
            ScriptEnded: The script has no answer.
        """
        await self.session.send_text(text)
        return str(self.messages[-1]["content"])


@asynccontextmanager
async def rehearsal(bot: Bot, *script: str | Call) -> AsyncIterator[Rehearsal]:
    """A conversation with the bot, of which only the language model is not its own.

    Args:
        bot: Its ears and voice are left out, if it has any.
        script: What the model says each time it is asked: a text, or the call of a tool, after which it is
            asked again.

    Raises:
        NothingToWriteTo: The bot has no language model.
    """
    silent, model = written(bot), ScriptedModel(*script)
    shared = Shared(_no_ears, None)
    shared.opened = [
        (part, [lambda session: model])
        for part in every(silent.declaration.parts)
        if isinstance(part, LLMPart)
    ]
    context = silent.new_context()
    with RunningBot(silent, shared).pipeline(Processor(), Processor(), context=context) as pipeline:
        async with Session(pipeline) as session:
            yield Rehearsal(session, model, context.messages)


def _no_ears() -> Any:
    raise AssertionError("a written bot has no ears")
