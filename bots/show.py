"""A bot drawn: its stages, branches, services, policies and tools, as text and as SVG."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

from ..processors.tools import Tools
from .bot import Bot
from .parts import Details, InputPart, LLMPart, OutputPart, ParallelPart, Part, UserContextPart
from .schema import Declaration

TEXT_WIDTH = 100  # characters


@dataclass
class Row:
    """One part of the picture.

    Attributes:
        stage: "hearing", "thinking", "speaking", "transport" or "".
        details: Names, "" for none, and values.
        branches: Of a parallel pipeline; such a row has nothing else.
    """

    title: str
    stage: str
    details: Details = field(default_factory=list)
    branches: list[list[Row]] = field(default_factory=list)


def rows(bot: Bot) -> list[Row]:
    """All that a picture of the bot shows, from end to end."""
    return [_row(part, bot.declaration) for part in bot.declaration.parts]


def draw_text(bot: Bot) -> str:
    """The bot as text of up to 100 characters a line; ends in a newline."""
    declaration = bot.declaration
    lines = [declaration.name, *textwrap.wrap(declaration.description, TEXT_WIDTH), ""]
    lines += _text(rows(bot), "")
    lines.append("")
    for note in _notes(declaration):
        lines += textwrap.wrap(note, TEXT_WIDTH, subsequent_indent="  ")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def draw_svg(bot: Bot) -> str:
    """The bot as an SVG image, for light and dark backgrounds, with nothing outside it."""
    declaration = bot.declaration
    canvas = _Canvas()
    y = canvas.text(MARGIN, MARGIN + 18, declaration.name, "name")
    for line in _wrapped(declaration.description, WIDTH - 2 * MARGIN):
        y = canvas.text(MARGIN, y + 6, line, "detail")
    y = canvas.column(rows(bot), MARGIN, y + 6, WIDTH - 2 * MARGIN)
    y += 8
    for note in _notes(declaration):
        for line in _wrapped(note, WIDTH - 2 * MARGIN):
            y = canvas.text(MARGIN, y + LINE, line, "detail")
    height = round(y + MARGIN)
    label = escape(f"The bot {declaration.name}", quote=True)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">'
    )
    background = f'<rect class="page" width="{WIDTH}" height="{height}" rx="10"/>'
    return "\n".join([head, f"<style>{STYLE}</style>", background, *canvas.elements, "</svg>", ""])


def _row(part: Part, declaration: Declaration) -> Row:
    if isinstance(part, ParallelPart):
        branches = [[_row(inner, declaration) for inner in branch] for branch in part.branches]
        return Row(part.title, "", branches=branches)
    details = list(part.details)
    if isinstance(part, InputPart | OutputPart):
        details.append(("", ", ".join(declaration.takes)))
    elif isinstance(part, UserContextPart):
        details += _context(declaration)
    elif isinstance(part, LLMPart):
        details += _tools(declaration)
    return Row(part.title, part.stage, details)


def _context(declaration: Declaration) -> Iterator[tuple[str, str]]:
    context = declaration.context
    yield "instructions", textwrap.shorten(context.instructions, 160, placeholder=" ...")
    limits = {"messages": context.max_messages, "tokens": context.max_tokens}
    kept = [f"{limit} {name}" for name, limit in limits.items() if limit is not None]
    if kept:
        yield "history", f"the last {' and '.join(kept)}"


def _tools(declaration: Declaration) -> Iterator[tuple[str, str]]:
    tools = Tools(declaration.tools)
    found = [tool for name in tools if (tool := tools.find(name)) is not None]
    if found:
        yield "tools", ", ".join(f"{tool.name} ({tool.on_interruption})" for tool in found)


def _notes(declaration: Declaration) -> Iterator[str]:
    """What belongs to no part. Of ICE servers it tells where they are, no more."""
    greeting = declaration.greeting
    if greeting is not None:
        kind = "critical greeting" if greeting.critical else "greeting"
        yield f'{kind}: "{greeting.text}"'
    if declaration.ice_servers:
        yield f"ICE servers: {', '.join(server.url for server in declaration.ice_servers)}"
    if "report_calls" in declaration.model_fields_set:
        levels = declaration.report_calls.items()
        yield f"tool calls told: {', '.join(f'{name}: {level}' for name, level in levels)}"
    yield f"limits: {_limits(declaration)}"


def _limits(declaration: Declaration) -> str:
    limits = declaration.limits
    parts = [f"{limits.max_sessions} conversation{'s' if limits.max_sessions > 1 else ''} at a time"]
    if limits.max_duration_s is not None:
        parts.append(f"{limits.max_duration_s:g} s each")
    if limits.idle_timeout_s is not None:
        parts.append(f"over after {limits.idle_timeout_s:g} s of silence")
    return ", ".join(parts)


# Text ------------------------------------------------------------------------------------------------


def _text(drawn: Sequence[Row], indent: str) -> Iterator[str]:
    stages = ["", *(row.stage for row in drawn)]
    for row, (before, stage) in zip(drawn, pairwise(stages), strict=True):
        name = stage if stage not in (before, "transport") else ""
        if row.branches:
            for number, branch in enumerate(row.branches, 1):
                yield f"{indent}{'':<10}{'├' if number > 1 else '┌'}─ branch {number}"
                yield from _text(branch, f"{indent}{'':<10}│  ")
            yield f"{indent}{'':<10}└─"
            continue
        head = f"{indent}{name:<10}{row.title}"
        left = f"{indent}{'':<10}"
        if not row.details:
            yield head
        for index, (label, value) in enumerate(row.details):
            start = f"{head if index == 0 else left:<{len(left) + 18}} "
            start += f"{label:<13}" if label else ""
            rest = " " * len(start)
            lines = textwrap.wrap(value, max(30, TEXT_WIDTH - len(start)), break_long_words=False)
            yield start + lines[0]
            yield from (rest + line for line in lines[1:])


# SVG -------------------------------------------------------------------------------------------------

WIDTH, MARGIN, GAP = 760, 24, 18
LINE = 17  # from one line of text to the next
CHARACTER = 6.5  # mean width at 12 px in the usual sans-serif fonts; the widest seen is 6.3
LABEL = 86  # of a detail

STYLE = """
:root { --page: #ffffff; --card: #f6f7f9; --edge: #d5d9e0; --ink: #1c2430; --soft: #55606f;
 --hearing: #1f7a8c; --thinking: #8a5a00; --speaking: #6b3fa0; --transport: #6d7785; }
@media (prefers-color-scheme: dark) { :root { --page: #14181e; --card: #1d232c; --edge: #38414d;
 --ink: #e8ecf1; --soft: #a7b1be; --hearing: #5cc3d6; --thinking: #e0b05a; --speaking: #bb94ea;
 --transport: #97a2b0; } }
text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--ink); }
.page { fill: var(--page); } .card { fill: var(--card); stroke: var(--edge); }
.frame { fill: none; stroke: var(--edge); stroke-dasharray: 4 4; }
.arrow { stroke: var(--soft); fill: none; stroke-width: 1.5; }
.name { font-size: 20px; font-weight: 650; } .title { font-size: 13.5px; font-weight: 600; }
.detail { font-size: 12px; } .soft, .stage { font-size: 12px; fill: var(--soft); }
.stage { text-anchor: end; }
.hearing { fill: var(--hearing); } .thinking { fill: var(--thinking); }
.speaking { fill: var(--speaking); } .transport { fill: var(--transport); } .none { fill: var(--edge); }
"""


class _Canvas:
    """Elements of the picture; what draws returns how far down it reached."""

    def __init__(self) -> None:
        self.elements: list[str] = []

    def text(self, x: float, y: float, text: str, kind: str) -> float:
        """One line."""
        self.elements.append(f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(text)}</text>')
        return y + (LINE if kind == "name" else 0 if kind != "detail" else LINE - 6)

    def column(self, drawn: Iterable[Row], x: float, y: float, width: float) -> float:
        """Rows below one another, with arrows between."""
        for number, row in enumerate(drawn):
            if number:
                self._arrow(x + width / 2, y, y + GAP)
                y += GAP
            y = self._branches(row, x, y, width) if row.branches else self._card(row, x, y, width)
        return y

    def _card(self, row: Row, x: float, y: float, width: float) -> float:
        lines = list(_lines(row.details, width - 28))
        height = 30 + LINE * len(lines) + (8 if lines else 2)
        self.elements.append(
            f'<rect class="card" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8"/>'
            f'<rect class="{row.stage or "none"}" x="{x:g}" y="{y + 8:g}" width="4" height="{height - 16:g}" '
            'rx="2"/>'
        )
        self.text(x + 16, y + 21, row.title, "title")
        self.text(x + width - 12, y + 21, row.stage, "stage")
        at = y + 25
        for label, value in lines:
            at += LINE
            offset = LABEL if any(name for name, _ in lines) and width > 300 else 0
            if label:
                self.text(x + 16, at, label, "soft")
            self.text(x + 16 + offset, at, value, "detail")
        return y + height

    def _branches(self, row: Row, x: float, y: float, width: float) -> float:
        inner = (width - 12 * (len(row.branches) + 1)) / len(row.branches)
        bottoms = [
            self.column(branch, x + 12 + number * (inner + 12), y + 12, inner)
            for number, branch in enumerate(row.branches)
        ]
        height = max(bottoms) + 12 - y
        self.elements.append(
            f'<rect class="frame" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="10"/>'
        )
        return y + height

    def _arrow(self, x: float, top: float, bottom: float) -> None:
        self.elements.append(f'<path class="arrow" d="M{x:g} {top + 3:g}V{bottom - 3:g}m-4 -4l4 4l4 -4"/>')


def _lines(details: Details, width: float) -> Iterator[tuple[str, str]]:
    """Details cut to lines; in a narrow card each label has a line of its own."""
    labelled = any(label for label, _ in details)
    narrow = width < 272
    for label, value in details:
        lines = _wrapped(value, width - (LABEL if labelled and not narrow else 0))
        if label and narrow:
            lines = ["", *lines]
        yield from zip([label, *[""] * len(lines)], lines, strict=False)


def _wrapped(text: str, width: float) -> list[str]:
    return textwrap.wrap(text, max(8, int(width / CHARACTER)))
