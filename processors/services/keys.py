"""Keys of services: from the environment or from a secrets file, and from nowhere else."""

from __future__ import annotations

import os
import re
import stat
from functools import lru_cache
from pathlib import Path

from dotenv import dotenv_values
from loguru import logger

from ...pipeline import BargeinError

# Names the secrets file; without it `.env` in the working directory is one.
SECRETS_FILE = "BARGEIN_SECRETS"

# What manuals and templates have in the place of a key.
_PLACEHOLDER = re.compile(
    r"\.\.\.|…|[<>{}]|\*{3}|x{6}|^(sk-)?(your|insert|replace|change)[-_ ]?", re.IGNORECASE
)
_QUOTES = "\"'`\u2018\u2019“”„«»"

# Texts that are a key wherever they stand.
SECRET_TEXT = re.compile(
    r"\b(sk-[A-Za-z0-9_-]{16,}|sk_[a-z]*_?[A-Za-z0-9]{16,}|gsk_\w{16,}|AKIA[A-Z0-9]{16}|AIza[\w-]{30,}"
    r"|xox[abp]-[\w-]{10,}|gh[pousr]_\w{30,}|hf_\w{20,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,})"
)


class SecretsUnreadable(BargeinError, OSError):
    """Raised when the secrets file that BARGEIN_SECRETS names cannot be read."""


class KeyMalformed(BargeinError, ValueError):
    """Raised when what is set as a key cannot be one; names the variable and the fix, never what is set."""


class Key(str):
    """A key. `repr`, which is what logs and tracebacks show, does not contain it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<key>"


def api_key(name: str) -> Key | None:
    """The key of this name, such as "OPENAI_API_KEY"; the environment comes before the secrets file.

    White space around it does not belong to it. The file has lines of the form NAME=value.

    Raises:
        KeyMalformed: What is set cannot be a key.
        SecretsUnreadable: BARGEIN_SECRETS names a file that cannot be read.
    """
    value, where = os.environ.get(name, "").strip(), "the environment"
    if not value:
        value, where = _from_file(name)
    wrong = fault(value) if value else None
    if wrong:
        raise KeyMalformed(f"{name} in {where} {wrong}")
    return Key(value) if value else None


def fault(value: str) -> str | None:
    """What is wrong with a text as a key, as in "OPENAI_API_KEY ...", with the fix; None if nothing is."""
    if value[0] in _QUOTES or value[-1] in _QUOTES:
        return "has quotes round it: remove them"
    if _PLACEHOLDER.search(value):
        return "is a placeholder: put the key there, or remove it"
    if re.search(r"\s", value):
        return "has white space or a line break in it: copy the key again, in one piece"
    if not value.isascii() or not value.isprintable():
        return "has characters in it that no key has: copy the key again, as plain text"
    return None


def _from_file(name: str) -> tuple[str, str]:
    """The value, "" if there is none, and the file."""
    named = os.environ.get(SECRETS_FILE, "")
    path = Path(named or ".env").absolute()
    try:
        changed = path.stat().st_mtime_ns
        return (_read(path, changed).get(name) or "").strip(), str(path)
    except (OSError, UnicodeDecodeError) as error:
        if not named:
            return "", str(path)
        raise SecretsUnreadable(f"{SECRETS_FILE} names {path}, which cannot be read: {error}") from None


@lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> dict[str, str | None]:
    """The file as it was at this time of change (ns)."""
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        logger.warning("{} holds keys and can be read by others; chmod 600 {}", path, path)
    with path.open(encoding="utf-8") as lines:
        return dotenv_values(stream=lines, interpolate=False)


__all__ = ["SECRET_TEXT", "Key", "KeyMalformed", "SecretsUnreadable", "api_key", "fault"]
