"""`bargein show`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from .shared import BOT_HELP, DEFAULT_BOT, BotName, examples, json_option, write_json


@click.command(
    epilog=examples("bargein show", "bargein show storyteller -o storyteller.svg"),
    short_help="Draw a bot's pipeline.",
    help=f"""Draw a bot's pipeline: stages, services, policies and tools.

{BOT_HELP} (default: {DEFAULT_BOT}).""",
)
@click.argument("bot", default=DEFAULT_BOT, type=BotName())
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write an SVG image, for FILE.svg.",
)
@json_option
def show(bot: str, output: Path | None, as_json: bool) -> None:
    if output is not None and output.suffix != ".svg":
        raise click.BadParameter(f"{output} should end in .svg", param_hint="--output")
    from ..loader import load_bot
    from ..show import draw_svg, draw_text, rows

    loaded = load_bot(bot)
    if output is not None:
        output.write_text(draw_svg(loaded), encoding="utf-8")
        click.echo(f"{output} written", err=True)
    if as_json:
        declaration = loaded.declaration
        write_json(
            {
                "name": declaration.name,
                "description": declaration.description,
                "greeting": declaration.greeting and declaration.greeting.model_dump(),
                "transport": declaration.takes,
                "pipeline": [asdict(row) for row in rows(loaded)],
                "limits": declaration.limits.model_dump(),
            }
        )
    elif output is None:
        click.echo(draw_text(loaded), nl=False)
