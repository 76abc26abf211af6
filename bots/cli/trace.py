"""`bargein trace`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .shared import examples, json_option, write_json


@click.command(
    epilog=examples(
        "bargein trace out.jsonl", "bargein trace out.jsonl -o out.html", "bargein trace out.jsonl -o out.svg"
    ),
    short_help="Draw a logged conversation.",
)
@click.argument("log", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page, for FILE.html, or a picture, for FILE.svg.",
)
@json_option
def trace(log: Path, output: Path | None, as_json: bool) -> None:
    """Draw a conversation from its log: who spoke when, what was held, heard and cut, and how long it took.

    LOG is what `bargein talk` or `bargein run --log` wrote. Without --output its turns and interruptions
    are told as text.
    """
    if output is not None and output.suffix not in (".html", ".svg"):
        raise click.BadParameter(f"{output} should end in .html or .svg", param_hint="--output")
    from ..trace import draw_html, draw_svg, read_log

    events = read_log(log)
    if output is not None:
        draw = draw_html if output.suffix == ".html" else draw_svg
        output.write_text(draw(events), encoding="utf-8")
        click.echo(f"{output} written", err=True)
    if as_json:
        write_json(summary(events))
    elif output is None:
        _tell(summary(events))


def summary(events: list[dict[str, Any]]) -> dict[str, Any]:
    """A conversation in figures."""
    return {
        "seconds": max(event["t"] for event in events),
        "turns": [event for event in events if event["event"] == "turn_report"],
        "interruptions": [event for event in events if event["event"] == "interruption_report"],
    }


def _tell(found: dict[str, Any]) -> None:
    click.echo(f"{found['seconds']:.1f} s of conversation")
    for turn in found["turns"]:
        waited = "no sound" if turn["ms"] is None else f"{turn['ms']:.0f} ms to the first sound"
        parts = ", ".join(f"{name} {ms:.0f}" for name, ms in turn["parts"].items())
        click.echo(f"{turn['t']:8.2f}  turn {turn['number']}: {turn['outcome']}, {waited} ({parts})")
    for cut in found["interruptions"]:
        silence = f"silent after {cut['silence_ms']:.0f} ms, decided after {cut['decision_ms']:.0f} ms"
        click.echo(f"{cut['t']:8.2f}  {cut['level']} interruption, {cut['reason']}: {silence}")
