"""Each benchmark runs, small, and reports what it says; how fast a machine is decides no test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import footprint, hops, interruption
from benchmarks.__main__ import NAMES
from benchmarks.report import Report, Row

ROOT = Path(__file__).parents[2]


def row(report: Report, what: str) -> Row:
    return next(row for row in report.rows if row.what == what)


def test_hops_measures_both_engines() -> None:
    report = hops.run(frames=5, repeats=2, processors=3)
    assert [row.what for row in report.rows] == [
        "passing",
        "passing, Pipecat with its default observers",
        "handling",
        "handling, Pipecat with its default observers",
        "handling, async",
    ]
    for measured in report.rows:
        assert len(measured.bargein) == len(measured.pipecat) == 2
        assert min(measured.bargein + measured.pipecat) > 0
        assert measured.ratio is not None
    assert row(report, "handling").aim == hops.AIM


def test_interruption_measures_both_engines_and_no_stale_frame_leaves_bargein() -> None:
    report = interruption.run(queued=3, repeats=2, processors=4)
    stopped = row(report, "decision to last handler stopped")
    returned = row(report, "decision to the call's return")
    assert len(stopped.bargein) == len(stopped.pipecat) == 2
    assert min(stopped.bargein + stopped.pipecat) > 0
    assert all(0 < a < b for a, b in zip(returned.bargein, stopped.bargein, strict=True))
    assert row(report, "stale frames that left").bargein == (0, 0)


def test_footprint_measures_both_engines() -> None:
    report = footprint.run(sessions=3, repeats=1)
    assert row(report, "tasks of an idle session").bargein == (1,)
    assert row(report, "tasks of a busy session").bargein == (1 + footprint.PROCESSORS,)
    for measured in report.rows:
        assert len(measured.bargein) == len(measured.pipecat) == 1
        if measured.unit == "KiB":  # so few sessions may fit into memory that the process had before
            continue
        assert min(measured.bargein + measured.pipecat) > 0
        assert measured.pipecat > measured.bargein or measured.unit == "ms"


def test_a_report_is_a_table_of_medians_and_ratios() -> None:
    report = Report(
        "Title",
        (Row("cost", "us", (1.0, 2.0, 9.0), (80.0, 20.0, 30.0), 20), Row("stale", "frames", (0.0,), (3.0,))),
        ("A note.",),
    )
    assert report.rows[0].ratio == 15
    assert report.rows[1].ratio is None
    assert str(report).splitlines() == [
        "Title",
        "-----",
        "       bargein  best  Pipecat  best          times less  aim",
        "cost         2     1       30    20      us        15.0   20",
        "stale        0              3        frames",
        "A note.",
    ]


@pytest.mark.parametrize("arguments", [["--help"], ["nonsense"]])
def test_the_command_names_the_benchmarks(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if arguments == ["--help"] else 2)
    assert ", ".join(NAMES) in " ".join((done.stdout or done.stderr).split())
