"""`bargein completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .shared import examples

# In click's scripts, by shell: what does not always work, and what does.
AMENDED = {
    # The name of a file is quoted, else one with a space becomes two words.
    "bash": (
        "COMPREPLY+=($value)",
        'COMPREPLY+=("$value")\n            [[ -f $value ]] && compopt -o filenames',
    ),
    # Completion is set up where .zshrc does not, else each new shell says "command not found: compdef".
    "zsh": (
        "    compdef ",
        "    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }\n    compdef ",
    ),
    # Help and file names are not cut at their first comma.
    "fish": ('string split ","', 'string split --max 1 ","'),
}


@click.command(
    epilog=examples(
        "bargein completion bash >> ~/.bashrc",
        "bargein completion zsh >> ~/.zshrc",
        "bargein completion fish > ~/.config/fish/completions/bargein.fish",
    ),
    short_help="Let the shell complete commands.",
)
@click.argument("shell", type=click.Choice([*AMENDED]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Write a script that lets the shell complete commands, options and bots."""
    of_shell = get_completion_class(shell)
    assert of_shell is not None
    script = of_shell(context.find_root().command, {}, "bargein", "_BARGEIN_COMPLETE").source()
    click.echo(script.replace(*AMENDED[shell]))
