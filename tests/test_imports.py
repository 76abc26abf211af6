"""The repository's root is the package: nothing of it may be left out, or imported under a second name."""

from __future__ import annotations

import sys
import tomllib
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


def test_every_package_and_every_file_in_it_is_installed() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    needed: set[str] = {"bargein"}
    for top in ("bots", "pipeline", "processors", "transports"):
        needed |= {".".join(("bargein", *p.relative_to(ROOT).parts[:-1])) for p in (ROOT / top).rglob("*.py")}
    assert sorted(setuptools["packages"]) == sorted(needed)
    for package, patterns in setuptools["package-data"].items():
        directory = ROOT.joinpath(*package.split(".")[1:])
        assert all(any(directory.glob(pattern)) for pattern in patterns), package
