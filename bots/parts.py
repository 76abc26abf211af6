"""The parts of a pipeline that a bot file can name, and their options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

from pipecat.processors.frame_processor import FrameProcessor
from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from ..pipeline import BargeinError, Parallel, Processor, Stage
from ..processors.bargein import BargeIn
from ..processors.llm import LLM
from ..processors.policies import SpeechOnly
from ..processors.services.fallback import FallbackChat
from ..processors.services.fallback_speech import FallbackTranscriber, FallbackVoice
from ..processors.speech_ahead import SpeechAhead
from ..processors.stt import STT
from ..processors.tts import TTS, Sentences
from ..processors.turn import Turn
from ..processors.vad import VAD
from .catalog import HEARING, SPEAKING, THINKING, Opening, Service
from .choice import Choice
from .imports import call_with, check_options, import_thing, is_import
from .interruption import Interruption
from .options import Options, as_list, differing, options_of, problem
from .place import Place

Details = list[tuple[str, str]]


class ServiceMissing(BargeinError, RuntimeError):
    """Raised when none of the services that a bot names for a purpose can be used here."""


class Part(Options):
    """A place in a bot's pipeline.

    Attributes:
        stage: What it belongs to, for pictures.
    """

    stage: ClassVar[Literal["hearing", "thinking", "speaking", "transport", ""]] = ""

    def make(self, place: Place) -> Any:
        """What stands there in one session: a processor, or a list of some."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """Its name in a bot file."""
        return next(name for name, model in PARTS.items() if model is type(self))

    @property
    def details(self) -> Details:
        """What is special about it: names and values."""
        fields = type(self).model_fields
        return [(n, shown(value)) for n, value in self.given.items() if value != fields[n].default]


class InputPart(Part):
    """Where the transport's audio and messages come in; first unless it is placed."""

    stage = "transport"

    def make(self, place: Place) -> Processor:
        return place.source


class OutputPart(Part):
    """Where the transport plays the bot's voice; last unless it is placed.

    Without a part that is known to speak it is not there: an answer is over when it is played, or else
    when its text is complete.
    """

    stage = "transport"

    def make(self, place: Place) -> Processor:
        return place.sink


class ClientPart(Part):
    """Where a client is told of texts and events; before the voice unless it is placed."""

    stage = "transport"

    def make(self, place: Place) -> list[Processor]:
        return list(place.clients)


class VADPart(options_of(VAD, "VAD", base=Part)):  # type: ignore[misc]
    """Where speech of the user begins and ends."""

    stage = "hearing"

    def make(self, place: Place) -> Processor:
        return VAD(place.shared.new_vad(), **self.given)


class TurnPart(options_of(Turn, "Turn", base=Part)):  # type: ignore[misc]
    """Where the user's turn begins and ends."""

    stage = "hearing"
    model: Literal["smart-turn"] | None = Field(
        "smart-turn", description="What hears whether a turn is complete; null leaves it to silence."
    )

    def make(self, place: Place) -> Processor:
        model = place.shared.end_of_turn if self.model is not None else None
        return Turn(model, **{name: value for name, value in self.given.items() if name != "model"})


class ServicePart(Part):
    """A part that needs a service: one, or several of which the first that can be used leads.

    Attributes:
        purpose: What its services are for.
    """

    services: tuple[Any, ...]
    purpose: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        is_long = isinstance(value, Mapping) and "services" in value
        return value if is_long or isinstance(value, cls) else {"services": as_list(value)}

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.services:
            raise problem("needs a service")
        return self

    @property
    def usable(self) -> list[Any]:
        """Those whose keys and packages are there, the best first.

        Raises:
            ServiceMissing: There is none; says what each needs.
        """
        usable = [service for service in self.services if service.missing is None]
        if not usable:
            needs = "; ".join(f"{service.label}: {service.missing}" for service in self.services)
            raise ServiceMissing(f"nothing can be used as {self.purpose}. {needs}")
        return usable

    @property
    def choice(self) -> str:
        """Which services are used, and what others would need."""
        used = ", then ".join(
            f"{s.name} ({s.service})" + (", loaded when needed" if i and s.local_part else "")
            for i, s in enumerate(self.usable)
        )
        hints = [f"{s.missing} for {s.label}" for s in self.services if s.missing is not None]
        return f"{self.purpose}: {used}" + "".join(f"; {hint}" for hint in hints)

    @property
    def details(self) -> Details:
        own = {n: v for n, v in self.given.items() if n != "services"}
        labels = ["service", *["or else"] * (len(self.services) - 1)]
        found = [(n, s.label + shown_options(s)) for n, s in zip(labels, self.services, strict=True)]
        return found + [(name, shown(value)) for name, value in own.items()]

    def open(self, opening: Opening) -> Any:
        """What all sessions share."""
        raise NotImplementedError


class STTPart(ServicePart):
    """Speech to text."""

    stage = "hearing"
    purpose = "speech recognition"
    services: Annotated[tuple[Annotated[Any, HEARING], ...], BeforeValidator(as_list)]
    short_forms = HEARING.one_or_several

    def open(self, opening: Opening) -> Any:
        transcribers = [service.open(opening) for service in self.usable]
        if len(transcribers) == 1:
            return transcribers[0]
        return FallbackTranscriber(*transcribers, on_failure=opening.local.load_stand_ins)

    def make(self, place: Place) -> Processor:
        return STT(place.shared.of(self))


class BargeInPart(Interruption, Part):
    """What the user's speech does to the bot."""

    stage = "hearing"

    def make(self, place: Place) -> Processor:
        return BargeIn(self.policies, second=place.shared.second, duck=self.duck)

    @property
    def details(self) -> Details:
        rules = self.policies
        resume = "never" if rules.resume is None else f"after {rules.resume.after_ms:g} ms"
        if rules.resume is not None and rules.resume.prefix:
            resume += f', "{rules.resume.prefix}"'
        return [
            ("speaking", _shown_policies(rules.speaking)),
            ("thinking", _shown_policies(rules.thinking)),
            ("resume", resume),
            ("meanwhile", f"ducked to {self.duck:g}" if self.duck else "held"),
        ]


class UserContextPart(Part):
    """Adds what the user says to the conversation and asks the model."""

    stage = "thinking"

    def make(self, place: Place) -> Processor:
        return place.context.user


class LLMPart(ServicePart):
    """The language model."""

    stage = "thinking"
    purpose = "language model"
    services: Annotated[tuple[Annotated[Any, THINKING], ...], BeforeValidator(as_list)]
    max_steps: int = Field(5, ge=1, description="How often in one answer the model may call tools.")
    short_forms = THINKING.one_or_several

    def open(self, opening: Opening) -> Any:
        return [service.open(opening) for service in self.usable]

    def make(self, place: Place) -> Processor:
        chats = [new_chat(place.stack) for new_chat in place.shared.of(self)]
        chat = chats[0] if len(chats) == 1 else FallbackChat(*chats, on_failure=place.shared.on_failure)
        return LLM(chat, tools=place.tools, max_steps=self.max_steps)


class AssistantContextPart(Part):
    """Adds what was heard of the answers to the conversation."""

    stage = "thinking"

    def make(self, place: Place) -> Processor:
        return place.context.assistant


class SentencesPart(options_of(Sentences, "Sentences", base=Part)):  # type: ignore[misc]
    """Cuts answers into pieces that can be spoken."""

    stage = "speaking"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        try:
            Sentences(**self.given)
        except ValueError as error:
            raise problem(str(error)) from None
        return self

    def make(self, place: Place) -> Processor:
        return Sentences(**self.given)


class TTSPart(ServicePart):
    """Text to speech."""

    stage = "speaking"
    purpose = "voice"
    services: Annotated[tuple[Annotated[Any, SPEAKING], ...], BeforeValidator(as_list)]
    requests: int = Field(1, ge=1, description="For so many sentences the voice is asked at the same time.")
    short_forms = SPEAKING.one_or_several

    def open(self, opening: Opening) -> Any:
        voices = [service.open(opening) for service in self.usable]
        if len(voices) == 1:
            return voices[0]
        return FallbackVoice(*voices, on_failure=opening.local.load_stand_ins)

    def make(self, place: Place) -> list[Processor]:
        voice = place.shared.of(self)
        ahead: list[Processor] = [SpeechAhead(voice, self.requests)] if self.requests > 1 else []
        return [*ahead, TTS(voice)]


class OwnPart(Part):
    """A processor of one's own, or of Pipecat: a class, or a function that makes one for each session."""

    target: Any
    options: Mapping[str, Any] = MappingProxyType({})

    def make(self, place: Place) -> Any:
        return call_with(self.target, self.options)

    @property
    def title(self) -> str:
        return str(getattr(self.target, "__name__", self.target))

    @property
    def details(self) -> Details:
        return [(name, shown(value)) for name, value in self.options.items()]

    @property
    def speaks(self) -> bool:
        """Whether it belongs to the voice, as far as its class tells."""
        makers = getattr(self.target, "__mro__", ())
        return getattr(self.target, "stage", None) is Stage.SPEECH or any(
            maker.__name__ == "TTSService" for maker in makers
        )


def _own(name: Any, options: Any, context: Any) -> OwnPart | None:
    target = import_thing(name, (context or {}).get("directory")) if is_import(name) else name
    if not callable(target):
        return None
    if isinstance(target, type) and not issubclass(target, Processor | FrameProcessor):
        raise problem(f"{target.__name__} is no processor: neither bargein's nor Pipecat's")
    if not isinstance(options, Mapping):
        raise problem("should be a mapping of options")
    wrong = check_options(target, options)
    if wrong:
        details = [
            InitErrorDetails(type=problem(text), loc=(name, option), input=None) for option, text in wrong
        ]
        raise ValidationError.from_exception_data("part", details)
    return OwnPart(target=target, options=dict(options))


PARTS: dict[str, type[Options]] = {
    "input": InputPart,
    "VAD": VADPart,
    "Turn": TurnPart,
    "STT": STTPart,
    "BargeIn": BargeInPart,
    "UserContext": UserContextPart,
    "LLM": LLMPart,
    "AssistantContext": AssistantContextPart,
    "client": ClientPart,
    "Sentences": SentencesPart,
    "TTS": TTSPart,
    "output": OutputPart,
}
PART = Choice("part", PARTS, _own)
PartItem = Annotated[Any, PART]


class ParallelPart(Part):
    """Branches that each get every frame; what they let out goes on once."""

    branches: tuple[tuple[PartItem, ...], ...]
    short_forms = ({"type": "array", "items": {"type": "array", "items": {"choice": "part"}}},)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"branches": value} if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _none_empty(self) -> Self:
        if not self.branches or not all(self.branches):
            raise problem("needs a part in each branch")
        return self

    def make(self, place: Place) -> Any:
        return Parallel(*(made(branch, place) for branch in self.branches))

    @property
    def details(self) -> Details:
        return []


PARTS["parallel"] = ParallelPart


def made(parts: tuple[Part, ...], place: Place) -> list[Any]:
    """These parts in one session."""
    found: list[Any] = []
    for part in parts:
        stands_there = part.make(place)
        found += stands_there if isinstance(stands_there, list) else [stands_there]
    return found


def every(parts: tuple[Part, ...]) -> list[Part]:
    """These parts and those in their branches."""
    found: list[Part] = []
    for part in parts:
        found.append(part)
        if isinstance(part, ParallelPart):
            found += (inner for branch in part.branches for inner in every(branch))
    return found


def shown(value: Any) -> str:
    """An option's value as a person reads it; keys are not shown."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={shown(v)}" for name, v in value.items())
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def shown_options(service: Service) -> str:
    """The options of a service besides its name and model."""
    usual = {name: field.default for name, field in type(service).model_fields.items()}
    given = {n: v for n, v in service.given.items() if n not in ("service", "model") and v != usual[n]}
    return f" ({shown(given)})" if given else ""


def _shown_policies(policies: Iterable[Any]) -> str:
    shown: list[str] = []
    for speech_only, group in groupby(policies, lambda policy: isinstance(policy, SpeechOnly)):
        if speech_only:
            shown.append(f"SpeechOnly({_shown_policies(policy.policy for policy in group)})")
        else:
            shown += map(_shown_thing, group)
    return ", ".join(shown)


def _shown_thing(thing: Any) -> str:
    """Something configured: its name, and what is not as usual."""
    name = type(thing).__name__ if not hasattr(thing, "__name__") else thing.__name__
    options = differing(thing)
    return name + (f"({shown(options)})" if options else "")
