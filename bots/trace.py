"""A conversation as a picture: who spoke when, what was held, heard and cut, and what it cost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from ..pipeline import BargeinError, Level

ROW_S = 15.0  # of conversation in a row of the picture
PX_S = 80  # width of a second
LEFT = 64  # of the lanes' names
# Each lane's name, and its place in a row: top and height, px.
LANES = {"you": (22, 26), "bot": (54, 26), "model": (86, 10), "tools": (100, 10)}
ROW = 128
LETTER_PX = 5.6  # about the width of a letter of the small text

STYLE = """
svg{font:12px system-ui,sans-serif;background:#fff;color:#1c1e21}
text{fill:currentColor}.dim{opacity:.6}.small{font-size:10px}
.you{fill:#4c8dd6}.bot{fill:#4aa36b}.model{fill:#b9a3e3}.tools{fill:#e0a94b}.held{fill:#fff;opacity:.55}
.lane{fill:currentColor;opacity:.05}.grid{stroke:currentColor;opacity:.15}.cut{stroke:#d0342c;stroke-width:2}
.why{fill:#d0342c}.unheard{fill:#d0342c;text-decoration:line-through}
@media (prefers-color-scheme:dark){svg{background:#16181c;color:#e6e6e6}.held{fill:#16181c}}
"""
PAGE_STYLE = """
:root{color-scheme:light dark}body{font:14px system-ui,sans-serif;margin:2rem auto;max-width:1300px}
table{border-collapse:collapse;margin:1rem 0}
td,th{padding:.2rem .7rem;text-align:left;border-bottom:1px solid #8884}
.picture{overflow-x:auto}
"""


class BadLog(BargeinError, ValueError):
    """Raised when a file is no event log; the message names the line."""


@dataclass
class Bar:
    """Something that lasted, in s since the conversation began."""

    lane: str
    begin: float
    end: float
    title: str = ""


@dataclass
class Label:
    """A text at a moment."""

    lane: str
    at: float
    text: str
    style: str = ""


@dataclass
class Conversation:
    """What the picture shows."""

    bars: list[Bar] = field(default_factory=list)
    held: list[Bar] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    cuts: list[tuple[float, str, str]] = field(default_factory=list)  # when, why, what was not heard
    turns: list[dict[str, Any]] = field(default_factory=list)
    interruptions: list[dict[str, Any]] = field(default_factory=list)
    pauses: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def read_log(path: Path) -> list[dict[str, Any]]:
    """The events of a log that `bargein talk` or `bargein run --log` wrote.

    Raises:
        BadLog: A line is no event.
        OSError: The file cannot be read.
    """
    events: list[dict[str, Any]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise BadLog(f"{path} is no text") from error
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
            float(event["t"]), str(event["event"])
        except (ValueError, KeyError, TypeError) as error:
            problem = "is no event: a JSON object with the time `t` and the name `event` is expected"
            raise BadLog(f"{path}, line {number} {problem}") from error
        events.append(event)
    if not events:
        raise BadLog(f"{path} has no events")
    return events


def draw_svg(events: list[dict[str, Any]]) -> str:
    """The conversation as an SVG, self-contained, light or dark as the viewer is.

    Raises:
        BadLog: An event lacks a field.
    """
    return _svg(_read(events))


def draw_html(events: list[dict[str, Any]]) -> str:
    """A page with the picture, and tables of the turns, the interruptions, the pauses and the errors.

    Raises:
        BadLog: An event lacks a field.
    """
    conversation = _read(events)
    turns = _table(
        ("turn", "answer", "outcome", "stop to first audio, ms", "parts, ms", "pieces"),
        (
            (t["number"], t["response_id"], t["outcome"], _ms(t["ms"]), _parts(t["parts"]), t["tokens"])
            for t in conversation.turns
        ),
    )
    interruptions = _table(
        ("at, s", "level", "reason", "answer", "silent after, ms", "decided after, ms", "pieces saved"),
        (
            (
                f"{i['t']:.2f}",
                i["level"],
                i["reason"],
                i["response_id"] or "-",
                _ms(i["silence_ms"]),
                _ms(i["decision_ms"]),
                i["saved_tokens"],
            )
            for i in conversation.interruptions
        ),
    )
    pauses = _table(
        ("at, s", "reason", "answer cut", "voice silent for, ms"),
        (
            (f"{p['t']:.2f}", p["reason"], "said anew" if p["resumed"] else "no", _ms(p["ms"]))
            for p in conversation.pauses
        ),
    )
    errors = _table(("at, s", "error"), ((f"{e['t']:.2f}", e["error"]) for e in conversation.errors))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>A conversation</title>'
        f'<style>{PAGE_STYLE}</style><h1>A conversation</h1><div class="picture">{_svg(conversation)}</div>'
        f"<h2>Turns</h2>{turns}<h2>Interruptions</h2>{interruptions}<h2>Pauses</h2>{pauses}"
        + (f"<h2>Errors</h2>{errors}" if conversation.errors else "")
        + "</html>\n"
    )


def _read(events: list[dict[str, Any]]) -> Conversation:
    with complete():
        return _bars(events)


@contextmanager
def complete() -> Iterator[None]:
    """In this block an event without one of its fields is told of as `BadLog`."""
    try:
        yield
    except KeyError as error:
        raise BadLog(f"an event has no {error}") from error


def _bars(events: list[dict[str, Any]]) -> Conversation:
    """Make bars of beginnings and ends."""
    found = Conversation(seconds=max(float(e["t"]) for e in events))
    open_at: dict[tuple[str, str], float] = {}

    def close(lane: str, key: str, at: float, title: str = "") -> None:
        begin = open_at.pop((lane, key), None)
        if begin is not None:
            (found.held if lane == "held" else found.bars).append(Bar(lane, begin, at, title))

    spoke_at = 0.0
    for event in events:
        at, name = float(event["t"]), event["event"]
        match name:
            case "vad_started":
                open_at["you", ""] = spoke_at = at
            case "vad_stopped":
                close("you", "", at)
            case "user_said":
                found.labels.append(Label("you", spoke_at, event["text"]))
            case "backchannel":
                found.labels.append(Label("you", spoke_at, event["text"], "dim"))
            case "bot_started":
                open_at["bot", ""] = at
            case "bot_heard":
                found.labels.append(Label("bot", at, event["text"].strip()))
            case "bot_stopped":
                close("bot", "", at)
            case "held":
                open_at["held", ""] = at
            case "released":
                reason = event.get("reason", "")
                close("held", "", at, f"went on: {reason}," if reason else "")
            case "response_started":
                open_at["model", event.get("response_id", "")] = at
            case "response_ended":
                close("model", event.get("response_id", ""), at, event.get("response_id", ""))
            case "tool_started":
                open_at["tools", event["tool_call_id"]] = at
            case "tool_ended":
                close("tools", event["tool_call_id"], at, event["function_name"])
            case "interrupted":
                close("held", "", at)
                if event["response_id"] is not None:
                    if event["level"] == Level.FULL:  # else the model goes on
                        close("model", event["response_id"], at, f"{event['response_id']}, interrupted")
                    found.cuts.append((at, f"{event['level']}: {event['reason']}", event["unheard"].strip()))
            case "turn_report":
                found.turns.append(event)
            case "interruption_report":
                found.interruptions.append(event)
            case "pause_report":
                found.pauses.append(event)
            case "error":
                found.errors.append(event)
    for lane, key in tuple(open_at):
        close(lane, key, found.seconds)
    return found


def _svg(conversation: Conversation) -> str:
    rows = int(conversation.seconds // ROW_S) + 1
    width = LEFT + int(ROW_S * PX_S) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{rows * ROW + 8}" '
        f'role="img" aria-label="Who spoke when in {conversation.seconds:.0f} seconds of conversation">'
        f"<style>{STYLE}</style>"
    ]
    for row in range(rows):
        parts.extend(_row(conversation, row))
    parts.append("</svg>")
    return "".join(parts)


def _row(conversation: Conversation, row: int) -> Iterator[str]:
    begin, end = row * ROW_S, (row + 1) * ROW_S
    yield f'<g transform="translate(0,{row * ROW})">'
    for second in range(int(ROW_S) + 1):
        x = LEFT + second * PX_S
        yield f'<line class="grid" x1="{x}" x2="{x}" y1="18" y2="{ROW - 16}"/>'
        if second % 5 == 0:
            yield f'<text class="small dim" x="{x}" y="12">{begin + second:.0f} s</text>'
    for lane, (top, height) in LANES.items():
        yield f'<text class="dim" x="8" y="{top + height / 2 + 4}">{lane}</text>'
        yield f'<rect class="lane" x="{LEFT}" y="{top}" width="{ROW_S * PX_S}" height="{height}"/>'
    for bar in (*conversation.bars, *conversation.held):
        if bar.begin < end and bar.end >= begin:
            yield _bar(bar, begin, end)
    for lane in ("you", "bot"):
        yield from _labels([x for x in conversation.labels if x.lane == lane and begin <= x.at < end], begin)
    for at, why, unheard in conversation.cuts:
        if begin <= at < end:
            yield _cut(LEFT + (at - begin) * PX_S, why, unheard)
    yield "</g>"


def _bar(bar: Bar, begin: float, end: float) -> str:
    top, height = LANES["bot" if bar.lane == "held" else bar.lane]
    x = LEFT + (max(bar.begin, begin) - begin) * PX_S
    width = max(1.5, (min(bar.end, end) - max(bar.begin, begin)) * PX_S)
    title = f"{bar.title} {bar.end - bar.begin:.2f} s".strip()
    return (
        f'<rect class="{bar.lane}" x="{x:.1f}" y="{top}" width="{width:.1f}" height="{height}" rx="2">'
        f"<title>{escape(title)}</title></rect>"
    )


def _cut(x: float, why: str, unheard: str) -> str:
    room = max(0, int((LEFT + ROW_S * PX_S - x) / LETTER_PX) - len(why) - 2)
    rest = unheard if len(unheard) <= room else unheard[: max(0, room - 1)] + "…"
    return (
        f'<line class="cut" x1="{x:.1f}" x2="{x:.1f}" y1="18" y2="{ROW - 14}"/>'
        f'<text class="small why" x="{x + 3:.1f}" y="{ROW - 6}">{escape(why)} '
        f'<tspan class="unheard">{escape(rest)}</tspan><title>{escape(unheard)}</title></text>'
    )


def _labels(labels: list[Label], begin: float) -> Iterator[str]:
    """Texts in their lane, each where it was said or behind the one before."""
    free = 0.0
    for label in labels:
        top, height = LANES[label.lane]
        x = max(free, LEFT + (label.at - begin) * PX_S + 3)
        free = x + LETTER_PX * len(label.text) + 6
        room = int((LEFT + ROW_S * PX_S - x) / LETTER_PX)
        if room < 1:
            continue
        text = label.text if len(label.text) <= room else label.text[: max(0, room - 1)] + "…"
        yield (
            f'<text class="small {label.style}" x="{x:.1f}" y="{top + height / 2 + 4}">'
            f"{escape(text)}<title>{escape(label.text)}</title></text>"
        )


def _table(names: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(c))}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _parts(parts: dict[str, float]) -> str:
    return ", ".join(f"{name} {ms:.0f}" for name, ms in parts.items())
