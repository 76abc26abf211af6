"""Every Python snippet of the documentation runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent.parent / "docs"


def snippets(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


PAGES = [page for page in sorted(DOCS.rglob("*.md")) if snippets(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_snippets_of_a_page_run_one_after_the_other(page: Path, pytester: pytest.Pytester) -> None:
    """A page's snippets are one module; its tests, if it has any, are run in virtual time."""
    source = "\n".join(snippets(page))
    pytester.makeini(
        "[pytest]\nbargein_asyncio = virtual\nfilterwarnings =\n    error\n    ignore::DeprecationWarning"
    )
    pytester.makepyfile(
        **{f"test_{page.stem.replace('-', '_')}": source + "\n\ndef test_it_is_read():\n    pass\n"}
    )
    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=source.count("\nasync def test_") + _cases(source) + 1)


def _cases(source: str) -> int:
    """How many cases parametrized tests add."""
    lists = re.findall(r'parametrize\("\w+", \[(.*?)\]\)', source)
    return sum(len(values.split(",")) - 1 for values in lists)
