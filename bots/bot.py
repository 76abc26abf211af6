"""A bot: declared once, opened once in a process, and a pipeline for each of its sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Any

from pydantic import ValidationError

from ..pipeline import Pipeline, Processor
from ..processors.context import Context
from ..processors.local import SileroVAD
from ..processors.tools import Tools
from ..transports.rtvi import RTVI
from .catalog import Opening
from .errors import BadBot, Problem
from .greeting import Greeting
from .limits import ConversationLimits
from .local import LocalModels, LocalPart
from .parts import InputPart, Part, ServicePart, TurnPart, VADPart, every, made
from .place import Place, Shared
from .schema import Declaration
from .yaml_file import field_name, follow


class Bot:
    """What a bot file says, in Python: the fields are the same, and take the same forms.

    Where a file names something of one's own, here the thing itself will do as well: a function among the
    tools, a policy, and in the pipeline a processor's class, or a function that makes one for each session.

    Args:
        name: What people call it.
        description: What it is for, in a line.
        greeting: What it says first: a text, or a mapping with text and critical.
        transport: How people reach it, one way or several: a name, or a mapping of it to its options.
        stt: What hears: a service ("local", "openai/gpt-4o-mini-transcribe", a mapping with `service`), or
            several: the first that can be used leads, the others take over when it fails.
        llm: What thinks, likewise.
        tts: What speaks, likewise.
        interruption: Policies for speech over the bot, or a mapping with speaking, thinking, resume, duck.
        pipeline: All parts in order, in place of stt, llm, tts and interruption.
        tools: Functions the language model may call.
        report_calls: What clients are told of a tool's calls: "disabled", "none", "name", "arguments" or
            "full"; or a mapping by the tool's name, "*" for all others.
        context: The instructions, or a mapping with limits of the history.
        limits: A mapping with max_sessions, max_duration_s, idle_timeout_s.

    Attributes:
        declaration: All of it, checked.

    Raises:
        BadBot: Something does not fit; tells of all mistakes.
    """

    def __init__(
        self,
        *,
        name: str,
        description: str | None = None,
        greeting: str | Mapping[str, Any] | None = None,
        transport: str | Mapping[str, Any] | Sequence[Any] | None = None,
        stt: str | Mapping[str, Any] | Sequence[Any] | None = None,
        llm: str | Mapping[str, Any] | Sequence[Any] | None = None,
        tts: str | Mapping[str, Any] | Sequence[Any] | None = None,
        interruption: Mapping[str, Any] | Sequence[Any] | None = None,
        pipeline: Sequence[Any] | None = None,
        tools: Sequence[str | Callable[..., Any]] | None = None,
        report_calls: str | Mapping[str, str] | None = None,
        context: str | Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
    ) -> None:
        fields = {key: value for key, value in locals().items() if key != "self" and value is not None}
        try:
            self.declaration = Declaration.model_validate(fields)
        except ValidationError as error:
            found = error.errors(include_url=False)
            problems = [Problem(field_name(follow(e["loc"], fields)), e["msg"]) for e in found]
            raise BadBot(problems) from None

    @classmethod
    def from_declaration(cls, declaration: Declaration) -> Bot:
        """A bot of what was read and checked elsewhere."""
        bot = cls.__new__(cls)
        bot.declaration = declaration
        return bot

    @property
    def name(self) -> str:
        """What people call it."""
        return self.declaration.name

    def new_context(self) -> Context:
        """A conversation that has not begun."""
        return self.declaration.context.make()

    @property
    def steps(self) -> int:
        """How many lines of progress `open` tells, where all goes well."""
        parts = every(self.declaration.parts)
        return sum(isinstance(part, ServicePart) for part in parts) + len(_local_parts(parts)[0])

    @asynccontextmanager
    async def open(
        self, progress: Callable[[str], None] = lambda line: None, *, max_sessions: int | None = None
    ) -> AsyncIterator[RunningBot]:
        """Load what all sessions share: local models, once, and the clients of services.

        Local models that stand in for services are loaded when one of these has failed.

        Args:
            progress: Called with a line of text for each step, and for each choice between services.
            max_sessions: In place of the limit that the bot declares.

        Raises:
            ServiceMissing: For some purpose nothing can be used: no key, no local model.
        """
        parts = every(self.declaration.parts)
        served = [part for part in parts if isinstance(part, ServicePart)]
        for part in served:
            progress(part.choice)
        slots = max_sessions or self.declaration.limits.max_sessions
        needed, stand_ins = _local_parts(parts)
        async with AsyncExitStack() as stack:
            messages = self.new_context().messages
            local = LocalModels(progress, slots, needed, messages, stand_ins)
            opening = Opening(await stack.enter_async_context(local), stack)
            hears = any(isinstance(part, TurnPart) for part in parts)
            second = local.stt if "stt" in needed else None
            end_of_turn = local.smart_turn if hears else None
            shared = Shared(SileroVAD, end_of_turn, second, local.load_stand_ins)
            shared.opened = [(part, part.open(opening)) for part in served]
            yield RunningBot(self, shared)


class RunningBot:
    """A bot whose models are loaded.

    Attributes:
        bot: As declared.
        shared: What its sessions share.
    """

    def __init__(self, bot: Bot, shared: Shared) -> None:
        self.bot = bot
        self.shared = shared

    @contextmanager
    def pipeline(
        self, source: Processor, sink: Processor, *clients: Processor, context: Context | None = None
    ) -> Iterator[Pipeline]:
        """The pipeline of one session; what it holds of shared models is given back at the block's end.

        Args:
            source: Pushes the user's audio, mono at 16 kHz.
            sink: Plays the bot's.
            clients: Processors that tell a client what happens, such as `RTVI`.
            context: Of this conversation; a new one if it is not given.
        """
        declaration = self.bot.declaration
        with ExitStack() as stack:
            place = Place(
                self.shared,
                context or self.bot.new_context(),
                Tools(declaration.tools),
                source,
                sink,
                clients,
                stack,
            )
            yield Pipeline(made(_with_keepers(declaration), place))


class _LimitsPart(Part):
    max_duration_s: float | None
    idle_timeout_s: float | None

    def make(self, place: Place) -> Processor:
        return ConversationLimits(self.max_duration_s, self.idle_timeout_s)


class _GreetingPart(Part):
    text: str
    critical: bool

    def make(self, place: Place) -> Processor:
        asked = any(isinstance(client, RTVI) for client in place.clients)
        return Greeting(self.text, critical=self.critical, awaits_client=asked)


def _with_keepers(declaration: Declaration) -> tuple[Part, ...]:
    """The pipeline with what it keeps to besides: its limits, and what is said first."""
    limits, greeting, parts = declaration.limits, declaration.greeting, declaration.parts
    keepers: list[Part] = []
    if limits.max_duration_s is not None or limits.idle_timeout_s is not None:
        keepers.append(
            _LimitsPart(max_duration_s=limits.max_duration_s, idle_timeout_s=limits.idle_timeout_s)
        )
    if greeting is not None:
        keepers.append(_GreetingPart(text=greeting.text, critical=greeting.critical))
    behind = next((i + 1 for i, part in enumerate(parts) if isinstance(part, InputPart)), 0)
    return (*parts[:behind], *keepers, *parts[behind:])


def _local_parts(parts: list[Part]) -> tuple[set[LocalPart], set[LocalPart]]:
    """The local models that are needed at once, and those that stand in for a service."""
    usable = [part.usable for part in parts if isinstance(part, ServicePart)]
    needed: set[LocalPart] = {s[0].local_part for s in usable if s[0].local_part is not None}
    if any(isinstance(part, VADPart | TurnPart) for part in parts):
        needed.add("ears")
    others: set[LocalPart] = {
        s.local_part for services in usable for s in services if s.local_part is not None
    }
    return needed, others - needed
