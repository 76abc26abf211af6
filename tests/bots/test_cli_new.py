"""`bargein new`: what it writes works in a directory of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .command import answered, bargein, environment


@pytest.mark.parametrize("name", ["librarian", "night-desk"])
def test_its_tests_pass_and_its_bot_is_right(name: str, tmp_path: Path) -> None:
    done = bargein("new", name, cwd=tmp_path)
    assert done.returncode == 0
    assert f"bargein console {name}.yaml" in done.stdout
    directory = tmp_path / name
    module = name.replace("-", "_")
    assert sorted(file.name for file in directory.iterdir()) == sorted(
        ["README.md", f"{name}.yaml", f"test_{module}.py", "tools.py"]
    )
    assert not any("@" in file.read_text() for file in directory.iterdir())
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=directory,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert tested.returncode == 0, tested.stdout
    assert "2 passed" in tested.stdout
    (found,) = answered("check", f"{name}.yaml", cwd=directory)
    assert found["name"] == name


def test_its_tests_fail_when_the_bot_is_broken(tmp_path: Path) -> None:
    bargein("new", "librarian", cwd=tmp_path)
    bot = tmp_path / "librarian" / "librarian.yaml"
    bot.write_text(bot.read_text().replace("  - ./tools.py:time_of_day\n", "  []\n"))
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=bot.parent,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert tested.returncode == 1
    assert "1 failed, 1 passed" in tested.stdout


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "librarian").mkdir()
    done = bargein("new", "librarian", cwd=tmp_path)
    assert done.returncode == 1
    assert "is there already" in done.stderr
    assert not any((tmp_path / "librarian").iterdir())
