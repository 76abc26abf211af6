"""`bargein doctor`."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING

import click

from .run import HOST, PORT
from .shared import BOT_HELP, DEFAULT_BOT, BotName, examples, json_option, run_async, steps, write_json

if TYPE_CHECKING:
    from ..doctor import Finding

MARKS = {True: "ok", None: "--", False: "FAILED"}


@click.command(
    epilog=examples("bargein doctor", "bargein doctor librarian.yaml", "bargein doctor --json | jq .ok"),
    short_help="See whether a bot can run here.",
    help=f"""See what is installed, which models and keys are here, and whether each stage of a bot works.

Where keys are set the services are asked for a sentence. Exit code 1 if the bot could not run.

{BOT_HELP} (default: {DEFAULT_BOT}).""",
)
@click.argument("name", default=DEFAULT_BOT, type=BotName(), metavar="[BOT]")
@json_option
def doctor(name: str, as_json: bool) -> int:
    from ..doctor import examine, look_around
    from ..loader import load_bot
    from ..selftest import SelfTest

    bot = load_bot(name)
    findings = list(look_around(HOST, PORT))

    async def examination() -> None:
        with steps(len(SelfTest(bot).stages)) as step:
            findings.extend(await examine(bot, step))

    run_async(examination())
    able = all(finding.ok is not False for finding in findings)
    if as_json:
        write_json({"bot": bot.name, "ok": able, "findings": [asdict(finding) for finding in findings]})
    else:
        _tell(findings)
        click.echo(
            f"\nThe bot {bot.name} {'can run here.' if able else 'cannot run here: see FAILED above.'}"
        )
    return 0 if able else 1


def _tell(findings: Sequence[Finding]) -> None:
    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    ordered = sorted(findings, key=lambda finding: [f.group for f in findings].index(finding.group))
    for group, members in groupby(ordered, lambda finding: finding.group):
        click.echo(f"\n{group}")
        for finding in members:
            head = f"  {MARKS[finding.ok]:<6} {finding.name:<19} "
            indent = " " * (len(head) if width >= 2 * len(head) else 4)
            click.echo(textwrap.fill(finding.text, width, initial_indent=head, subsequent_indent=indent))
