"""The benchmark runs, small; how fast a machine is decides no test."""

from __future__ import annotations

import pytest

from benchmarks import voice_agent

pytestmark = pytest.mark.real_time


async def test_each_interruption_is_told_once_and_silences(capsys: pytest.CaptureFixture[str]) -> None:
    early, late = await voice_agent.measure(trials=2, step_s=0.8)
    assert (early.reports, late.reports) == (1, 1)
    assert (early.stale, late.stale) == (0, 0)
    assert (late.aborted or 0) > 0
    assert (late.told or 0) > 0
    assert voice_agent.show([early, late]) == 0
    assert "2 interruptions" in capsys.readouterr().out
    late.stale = 1
    assert voice_agent.show([early, late]) == 1
