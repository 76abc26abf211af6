"""YAML that knows where everything stands: values by path, with file, line and column.

`${NAME}` and `${NAME:-default}` stand for environment variables, `$${` for a literal `${`. `include:`, at
the top, names files of which this one is a variant: mappings are merged, anything else is replaced.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr

from ..processors.services.keys import SECRET_TEXT
from .errors import Problem

VARIABLE = re.compile(r"\$(\$\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")

# Fields that hold keys.
SECRET_FIELD = re.compile(
    r"(^|_)(api_?key|auth_?token|access_?key|token|secret|password|credentials?|authorization)$", re.I
)

DEEPEST = 40

Path_ = tuple[str | int, ...]
Mark = tuple[str, int, int]  # file, line, column, counted from 1


@dataclass
class Document:
    """What a file and those it includes say.

    Attributes:
        data: Plain values; texts in fields that hold keys as SecretStr.
        keys: Where the key or item at a path stands.
        values: Where its value stands.
        problems: What is wrong with it as YAML, or by the rules above.
        files: That were read, or could not be.
        complete: All of them could be.
    """

    data: dict[str, Any] = field(default_factory=dict)
    keys: dict[Path_, Mark] = field(default_factory=dict)
    values: dict[Path_, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    complete: bool = True

    def lack(self, text: str, mark: Mark, path: Path_ = ()) -> None:
        """Note a problem for which a file is left out."""
        self.complete = False
        self.complain(text, mark, path)

    def complain(self, text: str, mark: Mark | None, path: Path_ = ()) -> None:
        """Note a problem."""
        file, line, column = mark if mark is not None else (None, None, None)
        self.problems.append(Problem(field_name(path), text, file, line, column))


def read_document(path: Path) -> Document:
    """Read a file and those it includes; what is wrong is in the document's `problems`."""
    document = Document()
    _read(path, document, ())
    return document


def not_there(path: Path) -> str:
    """What is wrong with a path that should be a file's and is not."""
    return f"{path} is a directory" if path.is_dir() else f"{path}: no such file"


def field_name(path: Path_) -> str:
    """A path as people write it: "pipeline[2].VAD.start_ms"."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _read(path: Path, document: Document, including: tuple[Path, ...]) -> None:
    file = str(path)
    document.files.append(path)
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        mark = (file, at.line + 1, at.column + 1) if at is not None else (file, 1, 1)
        in_flow = "${" in "".join(text.splitlines()[mark[1] - 1 : mark[1]])
        hint = "; inside brackets write '${NAME}', with quotes" if in_flow else ""
        document.lack(f"is no YAML: {error.problem}{hint}", mark)
        return
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        document.lack(f"cannot be read: {error}", (file, 1, 1))
        return
    if not isinstance(root, yaml.MappingNode):
        document.lack("should be a mapping: `name: ...` and so on", (file, 1, 1))
        return
    included, own = _split_include(root)
    for node in included:
        other = path.parent / str(node.value)
        mark = _mark(file, node)
        if other.resolve() in (*including, path.resolve()):
            document.lack(f"{node.value} includes itself", mark, ("include",))
        elif not other.is_file():
            document.lack(not_there(other), mark, ("include",))
        else:
            _read(other, document, (*including, path.resolve()))
    _Reader(file, document).merge(own, document.data, ())


def _split_include(root: yaml.MappingNode) -> tuple[list[yaml.Node], list[tuple[yaml.Node, yaml.Node]]]:
    included: list[yaml.Node] = []
    own: list[tuple[yaml.Node, yaml.Node]] = []
    for key, value in root.value:
        if key.value != "include":
            own.append((key, value))
        elif isinstance(value, yaml.SequenceNode):
            included += value.value
        else:
            included.append(value)
    return included, own


class _Reader:
    """Turns the nodes of one file into values."""

    def __init__(self, file: str, document: Document) -> None:
        self._file = file
        self._document = document
        self._loader = yaml.SafeLoader("")

    def merge(self, pairs: list[tuple[yaml.Node, yaml.Node]], into: dict[str, Any], path: Path_) -> None:
        """Add a mapping to one that may hold something already, from an included file."""
        seen: set[str] = set()
        for key, node in pairs:
            here = (*path, str(key.value))
            mark = _mark(self._file, key)
            if not isinstance(key, yaml.ScalarNode):
                self._document.complain("a name should be a text", mark, path)
                continue
            if key.value in seen:
                self._document.complain("is here twice", mark, here)
            seen.add(key.value)
            known = into.get(key.value)
            if isinstance(node, yaml.MappingNode) and isinstance(known, dict):
                self._place(here, mark, node)
                self.merge(node.value, known, here)
            else:
                self._forget(here)
                self._place(here, mark, node)
                into[key.value] = self._value(node, here)

    def _value(self, node: yaml.Node, path: Path_) -> Any:
        if len(path) > DEEPEST:  # an alias inside its own anchor
            self._document.complain("is nested too deeply", _mark(self._file, node), path[:4])
            return None
        if isinstance(node, yaml.MappingNode):
            found: dict[str, Any] = {}
            self.merge(node.value, found, path)
            return found
        if isinstance(node, yaml.SequenceNode):
            items: list[Any] = []
            for index, item in enumerate(node.value):
                self._place((*path, index), _mark(self._file, item), item)
                items.append(self._value(item, (*path, index)))
            return items
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, path)

    def _scalar(self, node: yaml.ScalarNode, path: Path_) -> Any:
        text: str = node.value
        mark = _mark(self._file, node)
        secret = any(isinstance(part, str) and SECRET_FIELD.search(part) for part in path[-1:])
        literal = VARIABLE.sub("", text)
        given = literal.strip() and node.tag not in ("tag:yaml.org,2002:null", "tag:yaml.org,2002:bool")
        if (secret and given) or SECRET_TEXT.search(literal):
            hint = "write ${VARIABLE} and set it in the environment"
            self._document.complain(f"holds a key; keys do not belong into files: {hint}", mark, path)
            return None
        if VARIABLE.search(text):
            keys = [name for _, name, _ in VARIABLE.findall(text) if SECRET_FIELD.search(name)]
            text = self._filled_in(text, mark, path, secret)
            if not secret and (keys or SECRET_TEXT.search(text)):
                hint = "keys belong into fields for one, such as api_key"
                problem = f"takes a key from the environment and would show it; {hint}"
                self._document.complain(problem, mark, path)
                return None
        if secret and isinstance(text, str) and text:
            return SecretStr(text)
        tag = node.tag
        if text != node.value and _is_plain(node):  # "${PORT}" is a number if its value is one
            tag = self._loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        try:
            return self._loader.construct_object(yaml.ScalarNode(tag, text))
        except (ValueError, yaml.YAMLError) as error:
            self._document.complain(f"cannot be read: {error}", mark, path)
            return None

    def _filled_in(self, text: str, mark: Mark, path: Path_, secret: bool) -> str:
        def fill(match: re.Match[str]) -> str:
            escaped, name, default = match.groups()
            if escaped:
                return "${"
            if name is None:
                self._document.complain("`${` should be `${NAME}` or `${NAME:-default}`", mark, path)
                return ""
            if default is not None and (secret or SECRET_TEXT.search(default)) and default:
                self._document.complain("a key has no default: write ${VARIABLE}", mark, path)
                return ""
            value = os.environ.get(name) or default
            if value is None:
                self._document.complain(
                    f"{name} is not set; set it, or give a default: ${{{name}:-...}}", mark, path
                )
            return value or ""

        return VARIABLE.sub(fill, text)

    def _place(self, path: Path_, mark: Mark, node: yaml.Node) -> None:
        self._document.keys[path] = mark
        self._document.values[path] = _mark(self._file, node)

    def _forget(self, path: Path_) -> None:
        """What is replaced stands nowhere any more."""
        for marks in (self._document.keys, self._document.values):
            for known in [k for k in marks if k[: len(path)] == path]:
                del marks[known]


def follow(loc: tuple[Any, ...], data: Any) -> Path_:
    """The path in the data that an error of pydantic is about: it also names what is not written there."""
    path: list[str | int] = []
    for step in loc:
        in_list = isinstance(data, list | tuple) and isinstance(step, int) and step < len(data)
        if in_list or (isinstance(data, Mapping) and step in data):
            data = data[step]
            path.append(step)
    return tuple(path)


def _is_plain(node: yaml.ScalarNode) -> bool:
    return getattr(node, "style", None) is None


def _mark(file: str, node: yaml.Node) -> Mark:
    return file, node.start_mark.line + 1, node.start_mark.column + 1
