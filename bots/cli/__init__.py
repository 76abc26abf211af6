"""The command line, `bargein`: a module for each command.

What a command needs is imported when it runs: help and completion do not wait for Pipecat or a model.
"""

from __future__ import annotations

import os
import sys

import click

from .bench import bench
from .check import check
from .completion import completion
from .console import console
from .doctor import doctor
from .new import new
from .run import run
from .show import show
from .talk import talk
from .trace import trace

EXAMPLES = """\b
Examples:
  bargein run                     serve the default bot and its web page
  bargein new librarian           begin a bot of your own
  bargein check librarian.yaml    is its file right?
  bargein console librarian.yaml  talk with it in the terminal
  bargein doctor                  is everything here that a bot needs?

\b
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C."""


class InThisOrder(click.Group):
    """Help lists the commands as they were added, the first needed first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=InThisOrder,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("-v", "--verbose", is_flag=True, help="Log what happens to standard error.")
@click.version_option(package_name="bargein")
def bargein(verbose: bool) -> None:
    """Voice bots that can be interrupted."""
    from loguru import logger

    logger.remove()
    # Without the values of variables: they may hold what a user said, or a key.
    logger.add(sys.stderr, level="DEBUG" if verbose else "WARNING", diagnose=False)
    sys.path.insert(0, os.getcwd())  # where a bot file's `module:function` is looked for


for command in (run, console, talk, new, check, show, trace, doctor, bench, completion):
    bargein.add_command(command)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C."""
    try:
        code = bargein.main(arguments, prog_name="bargein", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:  # what Ctrl-C becomes
        return 130
    except Exception as error:
        if not _is_expected(error):
            raise
        print(f"bargein: {_told(error)}", file=sys.stderr)
        return 1
    return code if isinstance(code, int) else 0


def _is_expected(error: Exception) -> bool:
    """Whether its message says all that there is to know."""
    if isinstance(error, OSError):
        return True
    from ...pipeline import BargeinError
    from ...processors.local.errors import LocalModelError

    return isinstance(error, BargeinError | LocalModelError)


def _told(error: Exception) -> str:
    """Without the number that an OSError's text begins with."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
