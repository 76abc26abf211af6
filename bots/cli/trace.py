"""`bargein trace`."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
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

    LOG is what `bargein talk` or `bargein run --log` wrote. Without --output its turns, interruptions,
    pauses and errors are told as text.
    """
    if output is not None and output.suffix not in (".html", ".svg"):
        raise click.BadParameter(f"{output} should end in .html or .svg", param_hint="--output")
    from ..trace import complete, draw_html, draw_svg, read_log

    events = read_log(log)
    if output is not None:
        draw = draw_html if output.suffix == ".html" else draw_svg
        output.write_text(draw(events), encoding="utf-8")
        click.echo(f"{output} written", err=True)
    if as_json:
        write_json(summary(events))
    elif output is None:
        with complete():
            _tell(summary(events))


def summary(events: list[dict[str, Any]]) -> dict[str, Any]:
    """A conversation in figures."""
    return {
        "seconds": max(event["t"] for event in events),
        "turns": [event for event in events if event["event"] == "turn_report"],
        "interruptions": [event for event in events if event["event"] == "interruption_report"],
        "pauses": [event for event in events if event["event"] == "pause_report"],
        "errors": [event for event in events if event["event"] == "error"],
    }


def _tell(found: dict[str, Any]) -> None:
    click.echo(f"{found['seconds']:.1f} s of conversation")
    events = found["turns"] + found["interruptions"] + found["pauses"] + found["errors"]
    for event in sorted(events, key=itemgetter("t")):
        click.echo(f"{event['t']:8.2f}  {_TOLD[event['event']](event)}")


def _turn(turn: dict[str, Any]) -> str:
    waited = "no sound" if turn["ms"] is None else f"{turn['ms']:.0f} ms to the first sound"
    parts = ", ".join(f"{name} {ms:.0f}" for name, ms in turn["parts"].items())
    return f"turn {turn['number']}: {turn['outcome']}, {waited}" + (f" ({parts})" if parts else "")


def _interruption(cut: dict[str, Any]) -> str:
    silence = f"silent after {cut['silence_ms']:.0f} ms, decided after {cut['decision_ms']:.0f} ms"
    saved = f", about {cut['saved_tokens']} tokens saved" if cut["saved_tokens"] else ""
    return f"{cut['level']} interruption, {cut['reason']}: {silence}{saved}"


def _pause(pause: dict[str, Any]) -> str:
    went_on = "said the rest after all" if pause["resumed"] else "went on"
    return f"{went_on} after {pause['ms']:.0f} ms, {pause['reason']}"


_TOLD: dict[str, Callable[[dict[str, Any]], str]] = {
    "turn_report": _turn,
    "interruption_report": _interruption,
    "pause_report": _pause,
    "error": lambda event: f"error: {event['error']}",
}
