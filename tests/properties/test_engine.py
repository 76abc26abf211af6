"""What holds for any pipeline and any schedule of frames and interruptions; see `schedules.py` for how."""

import asyncio
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loguru import logger

from bargein.pipeline.testing import VirtualTimeLoop
from tests.properties.schedules import make_plan, run_plan

# Beside hypothesis's own search, which favours small plans.
SEEDS = 2500


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Handlers fail by plan, thousands of times; writing that down would take longer than the test."""
    logger.disable("bargein")
    yield
    logger.enable("bargein")


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        yield runner


@settings(max_examples=800, deadline=None, suppress_health_check=list(HealthCheck))
@given(random=st.randoms(use_true_random=False))
def test_any_plan(runner: asyncio.Runner, random: Random) -> None:
    plan = make_plan(random)
    assert runner.run(run_plan(plan)) == [], plan


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(random=st.randoms(use_true_random=False))
def test_any_plan_with_threads(runner: asyncio.Runner, random: Random) -> None:
    plan = make_plan(random, threads=True)
    assert runner.run(run_plan(plan)) == [], plan


@pytest.mark.parametrize("part", range(10))
def test_plans_from_seeds(runner: asyncio.Runner, part: int) -> None:
    for seed in range(part, SEEDS, 10):
        plan = make_plan(Random(seed))
        assert runner.run(run_plan(plan)) == [], (seed, plan)
