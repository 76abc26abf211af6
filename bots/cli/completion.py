"""`bargein completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .shared import examples

SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog=examples(
        "bargein completion bash >> ~/.bashrc",
        "bargein completion zsh >> ~/.zshrc",
        "bargein completion fish > ~/.config/fish/completions/bargein.fish",
    ),
    short_help="Let the shell complete commands.",
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Write a script that lets the shell complete commands, options and bots."""
    of_shell = get_completion_class(shell)
    assert of_shell is not None
    click.echo(of_shell(context.find_root().command, {}, "bargein", "_BARGEIN_COMPLETE").source())
