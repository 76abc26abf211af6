"""The table of promises names tests that exist, and each row has one or says why not."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "voice-agent-promises.md"
NODE = re.compile(r"`([\w/.-]+)::(\w+)`")


def rows() -> list[str]:
    """The rows of all tables, without their heads."""
    lines = PAGE.read_text().splitlines()
    tables = [i for i, line in enumerate(lines) if re.fullmatch(r"\|( --- \|)+", line)]
    heads = {i - 1 for i in tables} | set(tables)
    return [line for i, line in enumerate(lines) if line.startswith("|") and i not in heads]


@cache
def names_in(path: str) -> frozenset[str]:
    """The functions in a file, or in the snippets of a page."""
    if path.endswith(".md"):
        source = "\n".join(re.findall(r"^```python\n(.*?)^```", (ROOT / path).read_text(), re.DOTALL | re.M))
    else:
        source = (ROOT / "tests" / path).read_text()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.parse(source).body if isinstance(node, functions))


@pytest.mark.parametrize(("path", "name"), sorted(set(NODE.findall(PAGE.read_text()))))
def test_every_test_that_is_named_exists(path: str, name: str) -> None:
    assert name in names_in(path)
    assert name.startswith("test_")


def test_every_row_names_a_test_or_says_why_there_is_none() -> None:
    assert len(rows()) > 100
    for row in rows():
        state = row.rstrip(" |").rsplit("| ", 1)[1]
        assert NODE.search(row) or state.startswith("no: "), row


def test_all_faults_are_there() -> None:
    faults = PAGE.read_text().split("## Faults")[1]
    assert [int(n) for n in re.findall(r"^\| (\d+)\.", faults, re.M)] == list(range(1, 24))
