"""`bargein new`: the beginnings of a bot of one's own."""

from __future__ import annotations

import re
from pathlib import Path

from ..pipeline import BargeinError

TEMPLATE = Path(__file__).parent / "template"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


class BadName(BargeinError, ValueError):
    """Raised when a new bot cannot have this name."""


def scaffold(name: str, parent: Path) -> Path:
    """Write a bot's directory: NAME.yaml, tools.py, test_NAME.py and README.md.

    Returns:
        The directory.

    Raises:
        BadName: It has other characters than letters, digits, - and _, or there is a file of that name.
    """
    if not NAME.fullmatch(name):
        raise BadName(f"{name!r} should be letters, digits, - and _, with a letter in front")
    directory = parent / name
    if directory.exists():
        raise BadName(f"{directory} is there already; choose another name")
    directory.mkdir()
    module = name.replace("-", "_")
    for source in sorted(TEMPLATE.iterdir()):
        file = directory / source.name.removesuffix(".in").replace(
            "NAME", module if "test" in source.name else name
        )
        text = source.read_text(encoding="utf-8")
        file.write_text(text.replace("@NAME@", name).replace("@MODULE@", module), encoding="utf-8")
    return directory
