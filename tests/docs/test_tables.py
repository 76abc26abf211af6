"""Every test that the documentation names is there, and every metric."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bargein.pipeline.observing.prometheus import Prometheus

ROOT = Path(__file__).parent.parent.parent
NAMED = [
    (page.name, path, test)
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for path, test in re.findall(r"`(tests/[\w/.-]+\.py)(?:::(\w+))?`", page.read_text())
]


@pytest.mark.parametrize(("page", "path", "test"), NAMED)
def test_a_named_test_exists(page: str, path: str, test: str) -> None:
    source = (ROOT / path).read_text()
    assert not test or re.search(rf"^(async )?def {test}\(", source, re.MULTILINE), (
        f"{page}: {path} has no {test}"
    )


def test_the_comparison_names_tests() -> None:
    assert sum(page == "comparison.md" for page, _, _ in NAMED) > 30


def test_all_metrics_are_told_of() -> None:
    told = re.findall(r"`(bargein_\w+)`", (ROOT / "docs" / "observability.md").read_text())
    served = re.findall(r"^# TYPE (\w+)", Prometheus().text.decode(), re.MULTILINE)
    assert sorted(told) == sorted(name for name in served if not name.endswith("_created"))
