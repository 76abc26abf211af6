"""What test assertions say of a frame's values, and how frames are shown when they do not hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar
from unittest.mock import ANY

from .frames import Frame

FrameT = TypeVar("FrameT", bound=Frame)

any_: Any = ANY


class like:  # noqa: N801 - reads as a word of the assertion: text=like("yes please")
    """Equal to any text with the same words: case, punctuation and spaces do not count."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and _words(other) == _words(self.text)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"like({self.text!r})"


class regex:  # noqa: N801
    """Equal to any text in which the pattern is found."""

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self.pattern = re.compile(pattern, flags)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.pattern.search(other) is not None

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"regex({self.pattern.pattern!r})"


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def describe_frame(frame: Frame) -> str:
    """The frame's name and what is in it, on one line; long values are cut."""
    base = {field.name for field in fields(Frame)}
    held = vars(frame)  # read past the properties of deprecated fields
    values = [
        f"{field.name}={_short(held[field.name])}"
        for field in fields(frame)
        if field.name not in base and held.get(field.name) is not None
    ]
    return f"{frame.name}({', '.join(values)})"


def _short(value: object) -> str:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def mismatch(frame: FrameT, values: dict[str, Any], where: Callable[[FrameT], bool] | None) -> str | None:
    """What of a frame is not as wanted, if anything; see `PipelineTest.expect`."""
    for name, wanted in values.items():
        if not hasattr(frame, name):
            return f"no field {name}"
        # The matcher on the left: its `==` decides.
        if not wanted == getattr(frame, name):  # noqa: SIM201
            return f"{name}={_short(getattr(frame, name))}, not {wanted!r}"
    if where is not None and not where(frame):
        return "not what `where` asks for"
    return None
