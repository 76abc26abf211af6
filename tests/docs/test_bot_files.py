"""Every bot file of the documentation can be loaded and drawn, with the modules that stand beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from bargein.bots import draw_svg, draw_text, load_bot, shipped_bots

DOCS = Path(__file__).parent.parent.parent / "docs"
BLOCK = re.compile(r"^```(yaml|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind == language]


def bot_files(page: Path) -> dict[str, str]:
    """The texts of a page's bots, by name."""
    named = {yaml.safe_load(text).get("name"): text for text in blocks(page, "yaml")}
    return {name: text for name, text in named.items() if name is not None}


BOTS = [(page, name) for page in sorted(DOCS.rglob("*.md")) for name in bot_files(page)]


@pytest.mark.parametrize(("page", "name"), BOTS, ids=lambda value: getattr(value, "stem", value))
def test_a_bot_of_a_page(page: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for other, text in bot_files(page).items():
        (tmp_path / f"{other}.yaml").write_text(text)
        for variable in re.findall(r"\$\{(\w+)\}", text):
            monkeypatch.setenv(variable, "a-value")
    for module in blocks(page, "python"):
        if (named := re.match(r"# (\w+\.py)\n", module)) is not None:
            (tmp_path / named[1]).write_text(module)
    bot = load_bot(tmp_path / f"{name}.yaml")
    assert bot.name == name
    assert name in draw_text(bot)
    assert name in draw_svg(bot)


def test_bots_are_found_in_the_documentation() -> None:
    assert {page.name for page, _ in BOTS} >= {"bots.md", "first-bot.md"}


def test_all_shipped_bots_are_told_of() -> None:
    told = re.findall(r"^- `(\w+)`: ", (DOCS / "bots.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(shipped_bots())
