"""Every Python snippet of the documentation runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent.parent / "docs"


def snippets(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


PAGES = {page.stem: "\n".join(found) for page in sorted(DOCS.rglob("*.md")) if (found := snippets(page))}


def test_the_snippets_of_a_page_run_one_after_the_other(pytester: pytest.Pytester) -> None:
    """A page's snippets are one module; its tests, if it has any, are run in virtual time."""
    assert len(PAGES) > 10
    pytester.makeini(
        "[pytest]\nbargein_asyncio = virtual\nfilterwarnings =\n    error\n    ignore::DeprecationWarning"
    )
    pytester.makepyfile(
        **{
            f"test_{stem.replace('-', '_')}": source + "\n\ndef test_it_is_read():\n    pass\n"
            for stem, source in PAGES.items()
        }
    )
    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=sum(map(_tests, PAGES.values())) + len(PAGES))


def _tests(source: str) -> int:
    """How many tests there are, each case of a parametrized one counted."""
    lists = re.findall(r'parametrize\("\w+", \[(.*?)\]\)', source)
    return source.count("\nasync def test_") + sum(len(values.split(",")) - 1 for values in lists)
