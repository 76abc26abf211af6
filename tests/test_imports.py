"""The repository's root is the package: nothing of it may be imported under a second name."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_no_module_is_imported_twice() -> None:
    ours: dict[str, Path] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is not None and name.partition(".")[0] not in ("bargein", "__main__"):
            ours[name] = Path(file)
    twins = [
        name
        for name, path in ours.items()
        if path.is_relative_to(ROOT)
        and path.relative_to(ROOT).parts[0] not in ("tests", "benchmarks", "scripts", ".venv")
    ]
    assert twins == []
