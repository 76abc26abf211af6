"""What a bot file may say, and the JSON Schema of it.

`python -m bargein.bots.schema` writes the schema to bots/bot.schema.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, ValidationInfo, model_validator
from pydantic.json_schema import models_json_schema
from pydantic_core import CoreSchema

from ..processors.context import Context
from ..processors.tools import BadTool, Tools
from ..transports.webrtc.ice import IceServer
from ..transports.websocket import Calls
from .catalog import HEARING, SPEAKING, THINKING
from .choice import IMPORT, Choice
from .imports import import_thing, is_import
from .interruption import POLICY, Interruption
from .local import INSTRUCTIONS
from .options import OneOrSeveral, Options, as_list, nearest, problem
from .parts import (
    PART,
    AssistantContextPart,
    BargeInPart,
    ClientPart,
    InputPart,
    LLMPart,
    OutputPart,
    OwnPart,
    ParallelPart,
    Part,
    PartItem,
    SentencesPart,
    STTPart,
    TTSPart,
    TurnPart,
    UserContextPart,
    VADPart,
    every,
)
from .transport import TRANSPORT, Phone, TransportItem, WebRTC, WebSocket

FILE = Path(__file__).parent / "bot.schema.json"
CHOICES: tuple[Choice, ...] = (TRANSPORT, PART, POLICY, HEARING, THINKING, SPEAKING)


class ContextOptions(Options):
    """What the language model is told and shown. A text stands for its instructions."""

    instructions: str = Field(INSTRUCTIONS, description="The system prompt.")
    max_messages: int | None = Field(None, ge=1, description="Messages to keep, besides the instructions.")
    max_tokens: int | None = Field(
        None, ge=1, description="Tokens to keep, estimated; instructions included."
    )
    short_forms = ({"type": "string"},)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"instructions": value} if isinstance(value, str) else value

    def make(self) -> Context:
        """A conversation that has not begun."""
        return Context(self.instructions, max_messages=self.max_messages, max_tokens=self.max_tokens)


class LimitOptions(Options):
    """How many conversations there may be, and how long."""

    max_sessions: int = Field(2, ge=1, description="Conversations at a time.")
    max_duration_s: float | None = Field(None, gt=0, description="A conversation ends after so long, s.")
    idle_timeout_s: float | None = Field(
        None, gt=0, description="A conversation ends when nobody has said anything for so long, s."
    )


class GreetingOptions(Options):
    """What the bot says first. A text stands for it."""

    text: str = Field(min_length=1, description="What it says.")
    critical: bool = Field(False, description="No interruption stops it.")
    short_forms = ({"type": "string", "minLength": 1},)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value


ReportLevel = Literal["disabled", "none", "name", "arguments", "full"]


class _Reports:
    """One level stands for that of all tools."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        by_tool = handler(schema)
        return {"anyOf": [by_tool["additionalProperties"], by_tool]}


def _of_all(level: Any) -> Any:
    return {"*": level} if isinstance(level, str) else level


class _ToolName:
    """A function that the model may call: itself, or the name to import it by."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "pattern": IMPORT}


def _tool(value: Any, info: ValidationInfo) -> Any:
    if is_import(value):
        value = import_thing(value, (info.context or {}).get("directory"))
    if not callable(value):
        raise problem("should be a function: `module:function` or `./file.py:function`")
    try:
        Tools([value])
    except BadTool as error:
        raise problem(str(error)) from error
    return value


class Declaration(Options):
    """A bot."""

    name: str = Field(min_length=1, description="What people call it.")
    description: str = Field("", description="What it is for, in a line.")
    greeting: GreetingOptions | None = Field(None, description="What it says first.")
    transport: Annotated[tuple[TransportItem, ...], BeforeValidator(as_list), OneOrSeveral()] = Field(
        (WebRTC.usual(), WebSocket.usual()), description="How people reach it."
    )
    stt: STTPart | None = Field(None, description="What hears the user.")
    llm: LLMPart | None = Field(None, description="What thinks.")
    tts: TTSPart | None = Field(None, description="What speaks.")
    interruption: Interruption = Field(
        default_factory=Interruption.usual, description="What the user's speech does to the bot."
    )
    pipeline: tuple[PartItem, ...] | None = Field(
        None, description="All parts in order, in place of stt, llm, tts and interruption."
    )
    tools: Annotated[
        tuple[Annotated[Any, BeforeValidator(_tool), _ToolName()], ...], BeforeValidator(as_list)
    ] = Field((), description="Functions that the language model may call.")
    report_calls: Annotated[dict[str, ReportLevel], BeforeValidator(_of_all), _Reports()] = Field(
        {"*": "name"}, description="What clients are told of tool calls, by the tool's name; * is all others."
    )
    context: ContextOptions = Field(
        default_factory=ContextOptions.usual, description="What the language model is told and shown."
    )
    limits: LimitOptions = Field(default_factory=LimitOptions.usual, description="How many, and how long.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        short = [name for name in ("stt", "llm", "tts", "interruption") if name in self.model_fields_set]
        if self.pipeline is not None and short:
            raise problem(f"has a pipeline and {', '.join(short)}; put what they say into the pipeline")
        if not self.pipeline and self.stt is None and self.llm is None:
            raise problem("needs stt, llm or a pipeline")
        if self.tts is not None and self.llm is None:
            raise problem("has a tts and no llm whose words it would speak")
        if self.greeting is not None and not self._says:
            raise problem("has a greeting and nothing that says it; add an llm")
        if len(set(self.takes)) < len(self.takes):
            raise problem("names a transport twice")
        kinds = [type(part) for part in every(self.pipeline or ())]
        for kind in (InputPart, OutputPart, ClientPart, UserContextPart, AssistantContextPart):
            if kinds.count(kind) > 1:
                raise problem(f"{kind().title} is in the pipeline twice")
        try:
            tools = Tools(self.tools)
        except BadTool as error:
            raise problem(str(error)) from error
        for name in self.report_calls if self.tools else ():
            if name != "*" and tools.find(name) is None:
                raise problem(f"report_calls: there is no tool {name}; {nearest(name, ['*', *tools])}")
        return self

    @property
    def takes(self) -> tuple[str, ...]:
        """The names of its transports."""
        return tuple(transport.title for transport in self.transport)

    @property
    def ice_servers(self) -> tuple[IceServer, ...]:
        """For WebRTC, those that are to help."""
        found = (t.ice_servers for t in self.transport if isinstance(t, WebRTC))
        return tuple(server.make() for servers in found for server in servers)

    @property
    def calls(self) -> Calls | None:
        """What lets telephone calls in, if any are taken."""
        return next((t.make() for t in self.transport if isinstance(t, Phone)), None)

    @property
    def _says(self) -> bool:
        """Whether some part says, or at least shows, a given text."""
        parts = every(self.pipeline or ())
        return self.llm is not None or any(
            isinstance(part, AssistantContextPart | OwnPart) or _speaks(part) for part in parts
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        """The pipeline from end to end."""
        parts = list(self.pipeline) if self.pipeline is not None else list(self._short_pipeline())
        kinds = {type(part) for part in every(tuple(parts))}
        if InputPart not in kinds:
            parts.insert(0, InputPart())
        if ClientPart not in kinds:
            voice = (i for i, part in enumerate(parts) if _speaks(part) or isinstance(part, OutputPart))
            parts.insert(next(voice, len(parts)), ClientPart())
        if OutputPart not in kinds and any(map(_speaks, parts)):
            parts.append(OutputPart())
        return tuple(parts)

    def _short_pipeline(self) -> Iterator[Part]:
        if self.stt is not None:
            yield from (VADPart(), TurnPart(), self.stt)
            if self.llm is not None:
                yield BargeInPart(**dict(self.interruption))
        if self.llm is not None:
            yield from (UserContextPart(), self.llm, AssistantContextPart())
        if self.tts is not None:
            yield from (SentencesPart(), self.tts)


def _speaks(part: Part) -> bool:
    if isinstance(part, ParallelPart):
        return any(_speaks(inner) for branch in part.branches for inner in branch)
    return part.stage == "speaking" or (isinstance(part, OwnPart) and part.speaks)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of bot files."""
    models = {model for choice in CHOICES for model in choice.models.values()}
    wanted: list[Any] = [(model, "validation") for model in (Declaration, *models)]
    found, definitions = models_json_schema(wanted)
    refs: dict[Any, dict[str, Any]] = {model: ref for (model, _), ref in found.items()}
    named = definitions["$defs"]
    for choice in CHOICES:
        named[choice.noun] = choice.json_schema(refs)
    declaration = named.pop(Declaration.__name__)
    include = {
        "description": "Other files, of which this one is a variant.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    declaration["properties"] = {"include": include} | declaration["properties"]
    declaration.pop("required")  # what is missing here may be included
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **declaration, "$defs": named}
    linked: dict[str, Any] = _linked(schema)
    return linked


def _linked(schema: Any) -> Any:
    """The schema with references where choices stand, in a stable order of definitions."""
    if isinstance(schema, list):
        return [_linked(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "choice" in schema:
        rest = {key: value for key, value in schema.items() if key != "choice"}
        return {"$ref": f"#/$defs/{schema['choice'].replace(' ', '-')}", **rest}
    # Pydantic's titles say nothing that the names do not.
    kept = {key: value for key, value in schema.items() if not (key == "title" and isinstance(value, str))}
    linked = {key: _linked(value) for key, value in kept.items()}
    if "$defs" in linked:
        linked["$defs"] = {name.replace(" ", "-"): linked["$defs"][name] for name in sorted(linked["$defs"])}
    return linked


if __name__ == "__main__":
    FILE.write_text(json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
