"""The hosting benchmark runs, small, and no stale frame leaves a hosted pipeline."""

from __future__ import annotations

from benchmarks import hosting


def test_hosting_measures_both_sides() -> None:
    report = hosting.run(frames=5, queued=2, repeats=1, processors=3)
    values = {row.what: row for row in report.rows}
    for what in ("one hop", "decision to last handler stopped", "the same beside a stubborn one"):
        assert min(*values[what].bargein, *values[what].pipecat) > 0
    for what in ("stale frames that left", "stale frames that left beside it"):
        assert max(values[what].bargein) == 0
