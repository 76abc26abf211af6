"""The repository's root is the package: nothing of it may be imported under a second name."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_no_module_is_imported_twice() -> None:
    ours = {
        name: Path(module.__file__)
        for name, module in list(sys.modules.items())
        if getattr(module, "__file__", None) and name.partition(".")[0] not in ("bargein", "__main__")
    }
    twins = [
        name
        for name, path in ours.items()
        if path.is_relative_to(ROOT)
        and path.relative_to(ROOT).parts[0] not in ("tests", "benchmarks", "scripts", ".venv")
    ]
    assert twins == []
