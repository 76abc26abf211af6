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
from .yaml_file import Document, field_name, follow, read_document


def load_bot(name: str | Path) -> Bot:
    """A bot by the name of a shipped one, by its file, or by `module:variable` or `./file.py:variable`.

    Raises:
        NoSuchBot: There is none.
        BadBot: Its file is wrong; tells of all mistakes, with file, line and column.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise NoSuchBot(f"{path}: no such file")
        return load_file(path)
    shipped = shipped_bots()
    if str(name) in shipped:
        return load_file(shipped[str(name)])
    if ":" in str(name):
        return _from_python(str(name))
    raise NoSuchBot(f"there is no bot {name}; {nearest(str(name), list(shipped))}")


def load_file(path: Path) -> Bot:
    """The bot that a file declares.

    Raises:
        BadBot: The file is wrong; tells of all mistakes.
    """
    document = read_document(path)
    problems = list(document.problems)
    if not problems or document.data:
        try:
            declaration = Declaration.model_validate(document.data, context={"directory": path.parent})
        except ValidationError as error:
            known = {p.field for p in problems}  # what could not be read is not complained of again
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


def _from_python(name: str) -> Bot:
    try:
        found: Any = import_thing(name, Path())
    except PydanticCustomError as error:
        raise NoSuchBot(error.message()) from error
    if not isinstance(found, Bot):
        raise NoSuchBot(f"{name} is no Bot but {type(found).__name__}")
    return found
