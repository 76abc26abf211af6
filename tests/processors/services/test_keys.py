"""Keys: where they come from, and that nothing shows them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from bargein.processors.services.keys import KeyMalformed, SecretsUnreadable, api_key

NAME = "SOME_API_KEY"


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without keys, and the path of its secrets file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(NAME, raising=False)
    monkeypatch.delenv("BARGEIN_SECRETS", raising=False)
    return tmp_path / ".env"


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append, diagnose=True)
    yield lines
    logger.remove(sink)


def write(path: Path, value: str, mode: int = 0o600) -> None:
    path.write_text(f"# keys\nexport OTHER=x\n{NAME}='{value}'\n", encoding="utf-8")
    path.chmod(mode)


def test_no_key_is_none(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api_key(NAME) is None
    monkeypatch.setenv(NAME, "  ")
    assert api_key(NAME) is None


def test_the_environment_comes_before_the_file(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(secrets, "from-the-file$HOME")
    assert api_key(NAME) == "from-the-file$HOME"
    monkeypatch.setenv(NAME, "from-the-environment")
    assert api_key(NAME) == "from-the-environment"


def test_the_environment_names_the_file(
    secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(secrets, "not this")
    write(tmp_path / "mine", "this")
    monkeypatch.setenv("BARGEIN_SECRETS", str(tmp_path / "mine"))
    assert api_key(NAME) == "this"
    monkeypatch.setenv("BARGEIN_SECRETS", str(tmp_path / "gone"))
    with pytest.raises(SecretsUnreadable, match=r"BARGEIN_SECRETS names .*gone"):
        api_key(NAME)


def test_a_changed_file_is_read_again(secrets: Path) -> None:
    write(secrets, "old")
    assert api_key(NAME) == "old"
    write(secrets, "newer")
    assert api_key(NAME) == "newer"


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX's")
def test_a_file_that_others_can_read_is_warned_of_once(secrets: Path, log: list[str]) -> None:
    write(secrets, "sk-open", mode=0o644)
    assert api_key(NAME) == "sk-open"
    api_key(NAME)
    assert sum("chmod 600" in line for line in log) == 1
    assert "sk-open" not in "".join(log)


def test_no_log_shows_a_key(secrets: Path, log: list[str]) -> None:
    write(secrets, "sk-hidden")
    key = api_key(NAME)
    try:
        raise ValueError(f"no {key!r}", int(key or ""))
    except ValueError:
        logger.bind(key=key).info("with {!r}", key)
    assert "sk-hidden" not in "".join(log)
    assert f"{key}" == "sk-hidden"  # as a client needs it


MALFORMED = [
    ("sk-abc def", "white space"),
    ("sk-abc\nexport", "white space"),
    ("sk-abc\tdef", "white space"),
    ('"sk-abcdef"', "quotes"),
    ("'sk-abcdef'", "quotes"),
    ("“sk-abcdef”", "quotes"),
    ("`sk-abcdef", "quotes"),
    ("sk-...", "placeholder"),
    ("sk-…", "placeholder"),
    ("sk-your-key-here", "placeholder"),
    ("YOUR_API_KEY", "placeholder"),
    ("<your key>", "placeholder"),
    ("${OTHER_KEY}", "placeholder"),
    ("sk-xxxxxxxxxxxx", "placeholder"),
    ("sk-********", "placeholder"),
    ("replace-me", "placeholder"),
    ("sk-abcdéf", "characters"),
    ("sk\u2013abcdef", "characters"),
    ("sk-abc\u200bdef", "characters"),
    ("sk-abc\x7fdef", "characters"),
]


@pytest.mark.parametrize(("value", "says"), MALFORMED)
def test_what_cannot_be_a_key_is_refused_and_not_shown(
    secrets: Path, monkeypatch: pytest.MonkeyPatch, value: str, says: str
) -> None:
    monkeypatch.setenv(NAME, value)
    with pytest.raises(KeyMalformed, match=says) as raised:
        api_key(NAME)
    assert str(raised.value).startswith(f"{NAME} in the environment ")
    assert value not in str(raised.value)
    assert "abc" not in str(raised.value)


def test_in_the_secrets_file_too(secrets: Path) -> None:
    secrets.write_text(f"{NAME}=sk-...\n")
    secrets.chmod(0o600)
    with pytest.raises(KeyMalformed, match=r"SOME_API_KEY in .*\.env is a placeholder: put the key there"):
        api_key(NAME)


@pytest.mark.parametrize(
    "value",
    [
        "a-key",
        "sk-proj-Ab_3-9xxxYz",
        "sk_car_0123456789abcdef",
        "gsk_Q",
        "eyJhbGciOi.J9.x-_",
        "a+b/c==",
        " sk-1 ",
    ],
)
def test_what_may_be_one_is_taken(secrets: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(NAME, value)
    assert api_key(NAME) == value.strip()
