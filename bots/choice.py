"""A thing chosen by its name, with options: `Name`, or `Name: {option: value}`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import cleandoc
from typing import Any, NoReturn

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, core_schema

from .options import Options, nearest, problem

# What names a thing to import, in JSON Schema.
IMPORT = r"[.:]"


@dataclass(frozen=True)
class Choice:
    """An annotation for fields that take one of several things by name.

    Attributes:
        noun: What it is that is chosen, as errors and the JSON Schema call it.
        models: The options by name.
        otherwise: Makes something of a name that none of these is, or of what is no text at all (declared
            in Python), with options that were given and the directory of the file; returns None if it cannot.
    """

    noun: str
    models: Mapping[str, type[Options]]
    otherwise: Callable[[Any, dict[str, Any], Any], Any] | None = None

    def parse(self, value: Any, info: core_schema.ValidationInfo) -> Any:
        """The chosen thing: an instance of its options, or what `otherwise` made."""
        if isinstance(value, Options):
            return value
        name, options = self.split(value)
        model = self.models.get(name) if isinstance(name, str) else None
        if model is not None:
            try:
                return model.model_validate({} if options is None else options, context=info.context)
            except ValidationError as error:
                self.reraise(name, error)
        if self.otherwise is not None:
            made = self.otherwise(name, options or {}, info.context)
            if made is not None:
                return made
        if not isinstance(name, str):
            raise problem(f"should be the name of a {self.noun}, or its name with options")
        raise problem(f"{name} is no {self.noun}; {nearest(name, list(self.models))}")

    def split(self, value: Any) -> tuple[Any, Any]:
        """The name and the options in what a file says."""
        if isinstance(value, Mapping):
            if len(value) != 1:
                raise problem(f"should be one {self.noun}: `name: {{options}}`; indent its options below it")
            return next(iter(value.items()))
        return value, None

    def reraise(self, name: str, error: ValidationError) -> NoReturn:
        """Raise an error about the options as one of the field: they stand under the name."""
        _raise_under((name,), error)

    def json_schema(self, refs: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
        """The schema of such a field, with these references to the schemas of the options."""
        properties = {
            name: {"anyOf": [refs[m], {"type": "null"}], "description": cleandoc(m.__doc__ or "")}
            for name, m in self.models.items()
        }
        one = {"type": "object", "properties": properties, "minProperties": 1, "maxProperties": 1}
        if self.otherwise is None:
            return {"anyOf": [{"enum": list(self.models)}, one | {"additionalProperties": False}]}
        imported = {"type": "string", "pattern": IMPORT, "description": "One of your own, or of a package."}
        one |= {"patternProperties": {IMPORT: {"type": ["object", "null"]}}, "additionalProperties": False}
        return {"anyOf": [{"enum": list(self.models)}, imported, one]}

    @property
    def one_or_several(self) -> tuple[dict[str, Any], ...]:
        """JSON Schemas of one, and of a list."""
        return {"choice": self.noun}, {"type": "array", "items": {"choice": self.noun}}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"choice": self.noun}  # `schema.json_schema` puts a reference in its place


@dataclass(frozen=True)
class ServiceChoice(Choice):
    """A service: `name`, `name/model`, or `{service: name, option: value}`."""

    def split(self, value: Any) -> tuple[Any, Any]:
        if isinstance(value, str):
            name, slash, model = value.partition("/")
            return name, {"model": model} if slash else {}
        if isinstance(value, Mapping):
            if "service" not in value:
                raise problem(f"should say `service:`, one of {', '.join(self.models)}")
            return value["service"], value
        return value, None

    def reraise(self, name: str, error: ValidationError) -> NoReturn:
        _raise_under((), error)

    def json_schema(self, refs: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
        forms: list[dict[str, Any]] = [{"enum": list(self.models)}]
        for name, model in self.models.items():
            if "model" in model.model_fields:
                forms.append({"type": "string", "pattern": f"^{name}/.+"})
        forms += ({"allOf": [refs[model], {"required": ["service"]}]} for model in self.models.values())
        return {"anyOf": forms}


def _raise_under(loc: tuple[str, ...], error: ValidationError) -> NoReturn:
    details = [
        InitErrorDetails(type=problem(e["msg"]), loc=(*loc, *e["loc"]), input=None)
        for e in error.errors(include_url=False)
    ]
    raise ValidationError.from_exception_data(error.title, details) from None
