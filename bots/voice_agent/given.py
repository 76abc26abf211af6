"""Models that the application made itself, where a bot takes services."""

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


def service(kind: type[Hearing | Thinking | Speaking], value: Any) -> Any:
    """What a bot takes as a service: a name or a mapping as it is, anything else as one of this kind."""
    if value is None or isinstance(value, str | Mapping | Service):
        return value
    return kind(thing=value)
