"""Bots from files, from shipped files by name, and from Python modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from .bot import Bot
from .errors import BadBot, NoSuchBot, Problem
from .imports import import_thing
from .options import nearest
from .schema import Declaration
from .shipped import shipped_bots
from .yaml_file import Document, field_name, follow, not_there, read_document


def load_bot(name: str | Path) -> Bot:
    """A bot by the name of a shipped one, by its file, or by `module:variable` or `./file.py:variable`.

    Raises:
        NoSuchBot: There is none.
        BadBot: Its file is wrong; tells of all mistakes, with file, line and column.
    """
    path, shipped = Path(name), shipped_bots()
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return load_file(path)
    if str(name) in shipped:
        return load_file(shipped[str(name)])
    if ":" in str(name):
        return _from_python(str(name))
    raise NoSuchBot(_what_else(path, list(shipped)))


def load_file(path: Path) -> Bot:
    """The bot that a file declares.

    Raises:
        BadBot: The file is wrong; tells of all mistakes.
    """
    document = read_document(path)
    problems = list(document.problems)
    if document.complete or document.data:
        try:
            declaration = Declaration.model_validate(document.data, context={"directory": path.parent})
        except ValidationError as error:
            known = {p.field for p in problems}  # what could not be read is not complained of again
            if not document.complete:
                known.add("")  # what is missing may be in a file that is
            problems += (p for p in _located(error, document, path) if p.field not in known)
    if problems:
        raise BadBot(
            sorted(problems, key=lambda p: (p.file != str(path), p.file or "", p.line or 0, p.column or 0))
        )
    return Bot.from_declaration(declaration)


def _located(error: ValidationError, document: Document, path: Path) -> list[Problem]:
    problems: list[Problem] = []
    for found in error.errors(include_url=False):
        where = follow(found["loc"], document.data)
        marks = document.keys if found["msg"].startswith("unknown;") else document.values
        file, line, column = marks.get(where, (str(path), 1, 1))
        problems.append(Problem(field_name(where), found["msg"], file, line, column))
    return problems


def _what_else(path: Path, shipped: list[str]) -> str:
    """What may have been meant by a name that is no bot's."""
    if path.is_dir() or path.suffix in (".yaml", ".yml"):
        return not_there(path)
    if path.suffix == ".py":
        return f"{path}:NAME would be the bot NAME in it" if path.is_file() else not_there(path)
    files = [f"{path}{suffix}" for suffix in (".yaml", ".yml") if Path(f"{path}{suffix}").is_file()]
    return f"there is no bot {path}; {nearest(files[0] if files else str(path), files or shipped)}"


def _from_python(name: str) -> Bot:
    try:
        found: Any = import_thing(name, Path(), Bot)
    except PydanticCustomError as error:
        raise NoSuchBot(error.message()) from error
    if not isinstance(found, Bot):
        raise NoSuchBot(f"{name} is no Bot but {type(found).__name__}")
    return found
