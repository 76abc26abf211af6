"""Python things that bot files name: `package.module:name`, `package.module.Name`, `./file.py:name`."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, SecretStr

from .options import nearest, problem


def is_import(name: object) -> bool:
    """Whether this is the name of a thing to import."""
    return isinstance(name, str) and (":" in name or "." in name)


def import_thing(name: str, directory: Path | None, wanted: type | None = None) -> Any:
    """Import it.

    Args:
        name: As above. A path is relative to the directory, or to the working directory if there is none.
        directory: That of the file that names it.
        wanted: What an error is to propose instead: things of this class, or else whatever can be called.

    Raises:
        PydanticCustomError: It cannot be imported; says why.
    """
    where, _, what = name.rpartition(":") if ":" in name else name.rpartition(".")
    if not where or not what:
        raise problem(f"{name} should be `module:name`, `package.module.Name` or `./file.py:name`")
    try:
        module = _import_file(where, directory) if where.endswith(".py") else import_module(where)
    except Exception as error:
        raise problem(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, what):
        fits = callable if wanted is None else wanted.__instancecheck__
        known = [n for n, v in vars(module).items() if not n.startswith("_") and fits(v)]
        kind = "function or class" if wanted is None else wanted.__name__
        hint = nearest(what, known) if known else f"there is no {kind} in it"
        raise problem(f"{where} has no {what}; {hint}")
    return getattr(module, what)


def call_with(function: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """Call it with a file's options. A mapping becomes an instance where the parameter's type is a class
    with fields, such as the settings of Pipecat's services."""
    hints = _hints(function)
    return function(**{name: _as_type(value, hints.get(name)) for name, value in options.items()})


def check_options(function: Callable[..., Any], options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with options for it: pairs of an option's name, "" for none, and a text."""
    parameters = inspect.signature(function).parameters.values()
    wrong: list[tuple[str, str]] = []
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        names = [p.name for p in named]
        wrong = [(name, f"unknown; {nearest(name, names)}") for name in options if name not in names]
    missing = [p.name for p in named if p.default is p.empty and p.name not in options]
    return wrong + [("", f"needs {name}") for name in missing]


def _import_file(path: str, directory: Path | None) -> ModuleType:
    """A file's module; each file is imported once, whoever names it."""
    file = ((directory or Path()) / path).resolve()
    name = f"bargein_bot_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}_{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise FileNotFoundError(f"no such file: {file}")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function.__init__ if isinstance(function, type) else function)  # type: ignore[misc]
    except (NameError, TypeError):  # a type that exists for type checkers alone
        return {}


def _as_type(value: Any, hint: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if not isinstance(value, Mapping):
        return value
    for option in (hint, *get_args(hint)):
        if isinstance(option, type) and (is_dataclass(option) or issubclass(option, BaseModel)):
            return call_with(option, value)
    return value
