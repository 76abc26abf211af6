"""`bargein bench`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .shared import examples

ROOT = Path(__file__).resolve().parent.parent.parent


@click.command(epilog=examples("bargein bench", "bargein bench hops"), short_help="Measure bargein.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def bench(names: tuple[str, ...]) -> int:
    """Run the benchmarks of the source tree: bargein beside stock Pipecat, in the same run.

    An installed package does not hold them. All of them take some minutes.
    """
    if not (ROOT / "benchmarks" / "__main__.py").is_file():
        raise click.ClickException(
            "the benchmarks are in the source tree alone: clone it and run `make bench`"
        )
    import subprocess

    return subprocess.run([sys.executable, "-m", "benchmarks", *names], cwd=ROOT, check=False).returncode
