"""The engine's properties on a million random plans: `python -m benchmarks.schedules [--count N] [--seed S]`.

Each seed gives one pipeline and one schedule of frames and interruptions; `tests/properties/schedules.py`
says what must hold for it. Uses every core, prints plans/s, and exits with 1 at the first plan that fails.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from random import Random

from loguru import logger

from bargein.pipeline.testing import VirtualTimeLoop
from tests.properties.schedules import make_plan, run_plan

COUNT = 1_000_000
CHUNK = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the plans; returns the process's exit code."""
    parser = argparse.ArgumentParser(description="Random schedules against the engine's properties.")
    parser.add_argument("--count", type=int, default=COUNT, help="plans to run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first plan (default: %(default)s)")
    options = parser.parse_args(arguments)

    end = options.seed + options.count
    chunks = [range(start, min(start + CHUNK, end)) for start in range(options.seed, end, CHUNK)]
    cores = os.cpu_count() or 1
    started = shown = time.monotonic()
    done = 0
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        for chunk, failure in pool.imap_unordered(_run_seeds, chunks):
            if failure is not None:
                print(f"\n{failure}", flush=True)
                return 1
            done += len(chunk)
            now = time.monotonic()
            if now - shown >= 1 or done == options.count:
                shown = now
                rate = done / (now - started)
                left = (options.count - done) / rate
                progress = f"{done:,} of {options.count:,} plans, {rate:,.0f}/s, {left:,.0f} s left"
                print(f"\r{progress:60}", end="", flush=True)
    seconds = time.monotonic() - started
    print(f"\n{done:,} plans on {cores} cores in {seconds:,.0f} s: {done / seconds:,.0f} plans/s, 0 failures")
    return 0


def _run_seeds(seeds: range) -> tuple[range, str | None]:
    logger.remove()
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        for seed in seeds:
            plan = make_plan(Random(seed))
            try:
                problems = runner.run(run_plan(plan))
            except Exception as error:
                problems = [repr(error)]
            if problems:
                return seeds, "\n".join([f"seed {seed}: {plan}", *problems])
    return seeds, None


if __name__ == "__main__":
    sys.exit(main())
