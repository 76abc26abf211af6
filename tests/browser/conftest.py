"""Which browser the tests in this directory use."""

from __future__ import annotations

import os
import shutil

import pytest
from aioice.ice import get_host_addresses


@pytest.fixture(scope="session")
def chromium() -> str:
    """Chromium's path: `BARGEIN_CHROMIUM` if that is set, else one on the path. Skips where there is none."""
    chosen = os.environ.get("BARGEIN_CHROMIUM")
    names = ("chromium", "chromium-browser", "google-chrome") if chosen is None else (chosen,)
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(os.environ.get("BARGEIN_NO_BROWSER_REASON") or "no Chromium found: set BARGEIN_CHROMIUM")
    if not get_host_addresses(use_ipv4=True, use_ipv6=True):
        pytest.skip("WebRTC needs an address other than 127.0.0.1: `ip addr add 10.99.0.1/32 dev lo`")
    return found
