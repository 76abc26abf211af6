"""`bargein check`."""

from __future__ import annotations

from typing import Any

import click

from .shared import BOT_HELP, BotName, examples, json_option, write_json


@click.command(
    epilog=examples(
        "bargein check librarian.yaml",
        "bargein check *.yaml",
        "bargein check --json librarian.yaml | jq '.[].problems[].line'",
    ),
    short_help="Tell what is wrong with bots.",
    help=f"""Tell what is wrong with bots, with file, line, field and the nearest word that would fit.

{BOT_HELP}. Exit code 1 if something is wrong with one. Services that cannot be used on this machine, for
want of a key or a package, are noted; that is no mistake of the file.""",
)
@click.argument("bots", nargs=-1, required=True, type=BotName(), metavar="BOT...")
@json_option
def check(bots: tuple[str, ...], as_json: bool) -> int:
    found = [_examine(name) for name in bots]
    if as_json:
        write_json(found)
    else:
        for result in found:
            _tell(result)
    return 0 if all(result["ok"] for result in found) else 1


def _examine(name: str) -> dict[str, Any]:
    from ..errors import BadBot, NoSuchBot
    from ..loader import load_bot
    from ..parts import ServiceMissing, ServicePart, every

    try:
        bot = load_bot(name)
    except BadBot as error:
        problems = [
            {"file": p.file, "line": p.line, "column": p.column, "field": p.field, "text": p.text}
            for p in error.problems
        ]
        return {"bot": name, "ok": False, "problems": problems, "text": str(error)}
    except NoSuchBot as error:
        return {"bot": name, "ok": False, "problems": [], "text": str(error)}
    missing: list[str] = []
    for part in every(bot.declaration.parts):
        if isinstance(part, ServicePart):
            try:
                part.usable  # noqa: B018 - asked for its complaint
            except ServiceMissing as error:
                missing.append(str(error))
    return {"bot": name, "ok": True, "name": bot.name, "problems": [], "missing": missing}


def _tell(result: dict[str, Any]) -> None:
    if not result["ok"]:
        click.echo(result["text"], err=True)
        return
    click.echo(f"{result['bot']}: ok")
    for text in result["missing"]:
        click.echo(f"  here {text}")
