"""Models, named as in bot files or made by the application, as the parts of a bot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from ...processors.services.chat import ChatModel
from ...processors.stt import Transcriber
from ...processors.tts import Synthesizer
from ..catalog import HearingService, Opening, Service, SpeakingService, ThinkingService


class Hearing(HearingService):
    """A recogniser."""

    service: str = "given"
    thing: Any

    def open(self, opening: Opening) -> Transcriber:
        transcriber: Transcriber = self.thing
        return transcriber


class Thinking(ThinkingService):
    """A language model."""

    service: str = "given"
    thing: Any

    def open(self, opening: Opening) -> Callable[[ExitStack], ChatModel]:
        return lambda session: self.thing


class Speaking(SpeakingService):
    """A voice."""

    service: str = "given"
    thing: Any

    def open(self, opening: Opening) -> Synthesizer:
        voice: Synthesizer = self.thing
        return voice


Named = str | Mapping[str, Any]


def pipeline_of(
    hears: Named | Transcriber | None,
    thinks: Named | ChatModel,
    speaks: Named | Synthesizer | None,
    *,
    max_steps: int,
    sizes: tuple[int, int],
    requests: int,
) -> list[Any]:
    """A bot's pipeline; there is nothing in it that hears, or speaks, if there is no model for it.

    Args:
        max_steps: How often in one answer the model may call tools.
        sizes: Of the pieces that are spoken, in characters: how long at least, and at most.
        requests: For so many of them the voice is asked at the same time.
    """
    hearing = [] if hears is None else [{"STT": {"services": [_service(Hearing, hears)]}}]
    llm = {"LLM": {"services": [_service(Thinking, thinks)], "max_steps": max_steps}}
    if speaks is None:
        return [*hearing, "UserContext", llm, "AssistantContext"]
    cut = {"Sentences": {"min_chars": sizes[0], "max_chars": sizes[1]}}
    voice = {"TTS": {"services": [_service(Speaking, speaks)], "requests": requests}}
    return [*hearing, "UserContext", llm, "AssistantContext", cut, voice]


def with_voice(
    speech_model: Named | Synthesizer | None, voice: str | None, instructions: str | None
) -> Named | Synthesizer | None:
    """The speech model with what was said of its voice.

    Raises:
        ValueError: It is an object, which has a voice already, or there is none.
    """
    options: dict[str, Any] = {"voice": voice} if voice is not None else {}
    if instructions is not None:
        options["options"] = {"instructions": instructions}
    if not options:
        return speech_model
    if isinstance(speech_model, str):
        name, slash, model = speech_model.partition("/")
        return {"service": name, **({"model": model} if slash else {}), **options}
    if isinstance(speech_model, Mapping):
        return {**speech_model, **options}
    raise ValueError("voice and speech_instructions belong to a speech_model that is named, not to an object")


def _service(kind: type[Hearing | Thinking | Speaking], value: Any) -> Any:
    """What a bot takes as a service: a name or a mapping as it is, anything else as one of this kind."""
    return value if isinstance(value, str | Mapping | Service) else kind(thing=value)
