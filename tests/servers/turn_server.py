"""A real TURN server, coturn, on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aioice import stun
from aioice.ice import get_host_addresses

USER, PASSWORD, SECRET = "ada", "open-sesame", "a-shared-secret"
WAIT_S = 120.0


@contextmanager
def turn_server(directory: Path, *, shared: bool = False) -> Iterator[str]:
    """Serve in this block; yields its URL. Skips where coturn is not installed.

    Args:
        directory: For its files.
        shared: It takes logins made of `SECRET`, in place of `USER` with `PASSWORD`.
    """
    program = shutil.which("turnserver")
    if program is None:
        pytest.skip("no coturn found: apt-get install coturn")
    host = get_host_addresses(use_ipv4=True, use_ipv6=False)[0]
    port = _free_port(host)
    login = (
        ["--use-auth-secret", f"--static-auth-secret={SECRET}"] if shared else [f"--user={USER}:{PASSWORD}"]
    )
    command = [
        *(program, "-n", "--lt-cred-mech", *login, "--realm=bargein.test"),
        *(f"--listening-ip={host}", f"--relay-ip={host}", f"--listening-port={port}"),
        *("--no-tls", "--no-dtls", "--no-cli", "--no-tcp-relay", "--no-multicast-peers"),
        *(f"--userdb={directory / 'turn.sqlite'}", f"--pidfile={directory / 'turn.pid'}"),
        *("--log-file=stdout", "--simple-log"),
    ]
    with (directory / "turn.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ})
    try:
        _wait_for(host, port, process)
        yield f"turn:{host}:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(host: str, port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until it answers a STUN request."""
    request = bytes(stun.Message(stun.Method.BINDING, stun.Class.REQUEST))
    deadline = time.monotonic() + WAIT_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.1)
        probe.connect((host, port))
        while time.monotonic() < deadline and process.poll() is None:
            try:
                probe.send(request)
                probe.recv(2000)
                return
            except OSError:
                time.sleep(0.05)  # nobody listens yet
    raise AssertionError("coturn does not answer")


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
