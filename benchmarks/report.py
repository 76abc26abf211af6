"""What a benchmark found, as rows of bargein beside stock Pipecat."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity, measured several times on both sides.

    Attributes:
        what: What was measured.
        unit: Of all values.
        bargein: Values of bargein.
        pipecat: Values of stock Pipecat in the same run; empty where it has no such thing.
        aim: How many times less bargein wants to need; None where there is no aim.
    """

    what: str
    unit: str
    bargein: tuple[float, ...]
    pipecat: tuple[float, ...] = ()
    aim: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times less bargein needs, median to median; None where that says nothing."""
        if not self.pipecat or median(self.bargein) <= 0:
            return None
        return median(self.pipecat) / median(self.bargein)


@dataclass(frozen=True, slots=True)
class Report:
    """A benchmark's rows, and notes on what they mean."""

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The report as a table."""
        cells = [("", "bargein", "best", "Pipecat", "best", "", "times less", "aim")]
        cells += [
            (
                row.what,
                *_median_and_best(row.bargein),
                *_median_and_best(row.pipecat),
                row.unit,
                f"{row.ratio:.1f}" if row.ratio is not None else "",
                f"{row.aim:.0f}" if row.aim is not None else "",
            )
            for row in self.rows
        ]
        widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
        lines = [self.title, "-" * len(self.title)]
        for line in cells:
            numbers = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
            lines.append("  ".join([line[0].ljust(widths[0]), *numbers]).rstrip())
        return "\n".join([*lines, *self.notes])


def progress(text: str) -> None:
    """Show on a terminal's error output what is being measured; an empty text clears it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _median_and_best(values: tuple[float, ...]) -> tuple[str, str]:
    if not values:
        return "", ""
    best = _number(min(values)) if len(values) > 1 else ""
    return _number(median(values)), best


def _number(value: float) -> str:
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"
