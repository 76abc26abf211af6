"""`bargein new`."""

from __future__ import annotations

from pathlib import Path

import click

from .shared import examples


@click.command(epilog=examples("bargein new librarian", "cd librarian && pytest"), short_help="Begin a bot.")
@click.argument("name")
def new(name: str) -> None:
    """Begin a bot: a directory NAME with a bot file, a tool, a test that passes, and a README."""
    from ..scaffold import scaffold

    directory = scaffold(name, Path.cwd())
    click.echo(f"{directory.name}/ is there. Next:\n")
    click.echo(
        f"  cd {directory.name}\n  pytest  # pip install pytest\n  bargein console {directory.name}.yaml"
    )
