"""The verdict of the speculation benchmark, on made-up turns."""

from __future__ import annotations

import pytest

from benchmarks.speculation import Measured, report


def turns(ms: float, *wasted: int) -> list[Measured]:
    return [Measured(ms, 100, count) for count in wasted]


@pytest.mark.parametrize(
    ("with_it", "verdict"),
    [
        (turns(700, 0, 0, 0), "on by default"),
        (turns(700, 0, 40, 40), "on by default"),
        (turns(700, 0, 60, 60), "off by default"),
        (turns(900, 0, 0, 0), "off by default"),
    ],
)
def test_it_is_on_if_it_gains_and_wastes_little(with_it: list[Measured], verdict: str) -> None:
    assert verdict in report(with_it, turns(800, 0, 0, 0))[-1]


def test_the_share_is_of_all_tokens() -> None:
    assert Measured(700, 60, 20).share == 0.25
    assert Measured(700, 0, 0).share == 0
