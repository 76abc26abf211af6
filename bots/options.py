"""Options in bot files: pydantic models, most of them made from the signatures of what they configure."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin

import docstring_parser
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

M = TypeVar("M", bound="Options")

SCALARS = (str, int, float, bool, NoneType)


class Options(BaseModel):
    """A mapping in a bot file. A key it does not know is an error that names the nearest one it does."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
    # JSON Schemas of what may stand in place of the mapping.
    short_forms: ClassVar[tuple[dict[str, Any], ...]] = ()

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, value: Any, validate: Callable[[Any], Self]) -> Self:
        try:
            return validate(value)
        except ValidationError as error:
            found = error.errors(include_url=False)
        raise ValidationError.from_exception_data(cls.__name__, [_explained(e, cls) for e in found])

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        long_form = handler(schema)
        return {"anyOf": [*cls.short_forms, long_form]} if cls.short_forms else long_form

    @classmethod
    def usual(cls) -> Self:
        """All defaults."""
        return cls()

    @property
    def given(self) -> dict[str, Any]:
        """What was set, by name."""
        return {
            name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set
        }


class OneOrSeveral:
    """An annotation, for the JSON Schema: one thing stands for a list of it."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        several = handler(schema)
        return {"anyOf": [several["items"], several]}


def problem(text: str) -> PydanticCustomError:
    """A ValidationError's entry that says this."""
    return PydanticCustomError("bot", "{text}", {"text": text})


def nearest(word: str, known: list[str]) -> str:
    """How an error about a word that is not known goes on."""
    folded = {k.lower(): k for k in known}
    close = get_close_matches(word.lower(), list(folded), 1, 0.5)
    if close:
        return f"did you mean {folded[close[0]]}?"
    return f"it can be {', '.join(known)}" if known else "there is none"


def options_of(
    target: Callable[..., Any], name: str, *, base: type[M], leave_out: tuple[str, ...] = (), **more: Any
) -> type[M]:
    """A model of the parameters that a file can give: those of plain types.

    Args:
        target: A class, or a function that makes something; its docstring describes its parameters.
        name: Of the model.
        base: Its base class.
        leave_out: Parameters that are filled in otherwise.
        more: Further fields, as `pydantic.create_model` takes them.
    """
    said = docstring_parser.parse(inspect.getdoc(target) or "")
    described = {p.arg_name: p.description for p in said.params}
    found: dict[str, Any] = {}
    for parameter in inspect.signature(target).parameters.values():
        hint = _hint(target, parameter)
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if not named or parameter.name in leave_out or not _is_plain(hint):
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        found[parameter.name] = (hint, Field(default, description=_one_line(described.get(parameter.name))))
    summary = _one_line(said.short_description)
    return create_model(name, __base__=base, __doc__=summary, **(found | more))


def made_with(parameter: str, target: type) -> type | None:
    """The class whose instance a dataclass's field has by default, if a class makes it."""
    for field in fields(target) if is_dataclass(target) else ():
        factory = field.default_factory
        if field.name == parameter and factory is not MISSING and isinstance(factory, type):
            return factory
    return None


def differing(thing: object) -> dict[str, Any]:
    """The plain options of something configured that are not its class's defaults."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(type(thing)).parameters.items():
        value = getattr(thing, name, getattr(thing, f"_{name}", parameter.default))
        if isinstance(value, SCALARS) and value != parameter.default:
            found[name] = value
    return found


def _explained(error: Any, model: type[BaseModel]) -> InitErrorDetails:
    """An error of pydantic in our words."""
    loc, text = error["loc"], error["msg"]
    if error["type"] == "extra_forbidden" and len(loc) == 1:
        text = f"unknown; {nearest(str(loc[0]), [f.alias or n for n, f in model.model_fields.items()])}"
    elif error["type"] == "missing":
        loc, text = loc[:-1], f"needs {loc[-1]}"
    elif error["type"] == "literal_error":
        known = [w.strip("' ") for w in error["ctx"]["expected"].replace(" or ", ", ").split(",")]
        text = f"cannot be {error['input']}; {nearest(str(error['input']), known)}"
    elif error["type"] in ("model_type", "model_attributes_type", "dict_type"):
        text = "should be a mapping of options"
    # The input may hold a key, so no error carries it on.
    return InitErrorDetails(type=problem(text), loc=loc, input=None)


def _hint(target: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The parameter's type; None if it has none, or one that exists for type checkers alone."""
    hint = parameter.annotation
    if not isinstance(hint, str):
        return None if hint is parameter.empty else hint
    maker = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    namespace = getattr(maker, "__globals__", vars(sys.modules[target.__module__]))
    try:
        return eval(hint, namespace)
    except NameError:
        return None


def _is_plain(hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, UnionType, list, tuple):
        return all(_is_plain(arg) for arg in get_args(hint) if arg is not Ellipsis)
    if origin is Annotated:
        return _is_plain(get_args(hint)[0])
    if origin is Literal:
        return True
    if origin in (dict, Mapping):
        return all(_is_plain(arg) for arg in get_args(hint))
    return hint in SCALARS


def _one_line(text: str | None) -> str | None:
    return " ".join(text.split()) if text else None


def as_list(value: Any) -> Any:
    """One thing is a list of it."""
    return value if isinstance(value, list | tuple) else [value]
