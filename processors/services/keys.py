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

# Texts that are a key wherever they stand.
SECRET_TEXT = re.compile(
    r"\b(sk-[A-Za-z0-9_-]{16,}|sk_[a-z]*_?[A-Za-z0-9]{16,}|gsk_\w{16,}|AKIA[A-Z0-9]{16}|AIza[\w-]{30,}"
    r"|xox[abp]-[\w-]{10,}|gh[pousr]_\w{30,}|hf_\w{20,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,})"
)


class SecretsUnreadable(BargeinError, OSError):
    """Raised when the secrets file that BARGEIN_SECRETS names cannot be read."""


class Key(str):
    """A key. `repr`, which is what logs and tracebacks show, does not contain it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<key>"


def api_key(name: str) -> Key | None:
    """The key of this name, such as "OPENAI_API_KEY"; the environment comes before the secrets file.

    The file has lines of the form NAME=value.

    Raises:
        SecretsUnreadable: BARGEIN_SECRETS names a file that cannot be read.
    """
    value = os.environ.get(name, "").strip() or _from_file(name)
    return Key(value) if value else None


def _from_file(name: str) -> str:
    named = os.environ.get(SECRETS_FILE, "")
    path = Path(named or ".env").absolute()
    try:
        changed = path.stat().st_mtime_ns
        return (_read(path, changed).get(name) or "").strip()
    except (OSError, UnicodeDecodeError) as error:
        if not named:
            return ""
        raise SecretsUnreadable(f"{SECRETS_FILE} names {path}, which cannot be read: {error}") from None


@lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> dict[str, str | None]:
    """The file as it was at this time of change (ns)."""
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        logger.warning("{} holds keys and can be read by others; chmod 600 {}", path, path)
    with path.open(encoding="utf-8") as lines:
        return dotenv_values(stream=lines, interpolate=False)


__all__ = ["SECRET_TEXT", "Key", "SecretsUnreadable", "api_key"]
