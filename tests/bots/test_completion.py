"""`bargein completion`: what shells complete with its scripts.

The script for bash is tried in bash. Those for zsh and fish need shells that are not everywhere: by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .command import bargein
from .terminal import TAB, terminal

CLEAR_LINE = "\x15"


@pytest.mark.parametrize(
    ("shell", "amended"),
    [("bash", "compopt -o filenames"), ("zsh", "autoload -Uz compinit"), ("fish", "--max 1")],
)
def test_a_script_for_each_shell(shell: str, amended: str, tmp_path: Path) -> None:
    done = bargein("completion", shell, cwd=tmp_path)
    assert done.returncode == 0
    assert "_BARGEIN_COMPLETE" in done.stdout
    assert done.stdout.count(amended) == 1


@pytest.mark.real_time
async def test_bash_completes_with_it(tmp_path: Path) -> None:
    for name in ("my bot.yaml", "stove.yaml", "question.wav", "storm.wav"):
        (tmp_path / name).touch()
    (tmp_path / "logs").mkdir()
    async with terminal(
        cwd=tmp_path,
        command=("bash", "--norc", "--noprofile", "-i"),
        PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin",
        HOME=str(tmp_path),
    ) as (screen, _):
        screen.type("source <(bargein completion bash); echo is re''ady\r")
        await screen.until("is ready")
        for typed, completed in (
            ("bargein con", "bargein console "),
            ("bargein run --rel", "bargein run --reload "),
            ("bargein show storyt", "bargein show storyteller "),
            ("bargein show m", "bargein show my\\ bot.yaml "),
            ("bargein talk q", "bargein talk question.wav "),
            ("bargein talk storyteller stor", "bargein talk storyteller storm.wav "),
            ("bargein run --log lo", "bargein run --log logs/"),
        ):
            screen.type(CLEAR_LINE + typed + TAB)
            await screen.until(completed)
        screen.type(CLEAR_LINE + "exit\r")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("bargein c", {"plain,console", "plain,check", "plain,completion"}),
        ("bargein run st", {"plain,storyteller", "plain,stove.yaml"}),
        ("bargein talk que", {"file,que"}),
        ("bargein talk st", {"file,st", "plain,storyteller", "plain,stove.yaml"}),
        ("bargein talk storyteller st", {"file,st"}),
        ("bargein talk --bot storyteller st", {"file,st"}),
        ("bargein run --po", {"plain,--port"}),
    ],
)
def test_commands_bots_recordings_and_options(words: str, completed: set[str], tmp_path: Path) -> None:
    (tmp_path / "stove.yaml").touch()
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_BARGEIN_COMPLETE": "bash_complete"}
    assert set(bargein(cwd=tmp_path, **asked).stdout.split()) == completed
