"""`python -m benchmarks [NAME ...]`: bargein beside stock Pipecat, measured in the same run."""

from __future__ import annotations

import argparse
import importlib
import sys

from loguru import logger

# Modules of this directory, in the order they are run. Their `main()` measures and prints; one that
# checks something returns an exit code.
NAMES = ("hops", "interruption", "hosting", "footprint", "voice_agent", "stack", "speculation", "schedules")


def main() -> None:
    """Run the named benchmarks, all if none is named; exits with 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(NAMES)} (default: all)")
    names = parser.parse_args().names
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are {', '.join(NAMES)}")
    logger.remove()  # neither side pays for its log
    del sys.argv[1:]  # the names are no options of the benchmarks
    failed = [name for name in names or NAMES if _run(name)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _run(name: str) -> bool:
    failed = bool(importlib.import_module(f"benchmarks.{name}").main())
    print(flush=True)
    return failed


if __name__ == "__main__":
    main()
