"""What a message says or shows: text, or parts of it in OpenAI's format."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Content = str | list[dict[str, Any]]


def parts_of(content: Content | None) -> list[dict[str, Any]]:
    """Its parts: a text is one, and nothing has none."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content or []


def joined(contents: Iterable[Content]) -> Content:
    """Several contents as one: text if there is nothing else in them. Parts are not copied."""
    parts = [part for content in contents for part in parts_of(content)]
    if all(part["type"] == "text" for part in parts):
        return " ".join(part["text"] for part in parts)
    return parts
