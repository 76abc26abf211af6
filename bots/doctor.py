"""`bargein doctor`: what is installed, set and free here, and whether the stages of a bot work."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from ..processors.services.keys import KeyMalformed, SecretsUnreadable, api_key
from .app import CannotListen, PortInUse, check_port
from .bot import Bot
from .catalog import HEARING, SPEAKING, THINKING, Service
from .selftest import SelfTest
from .sound import NoSound, SoundDevice

EXTRAS = ("local", "audio")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Finding:
    """Something about this machine.

    Attributes:
        group: What it belongs to.
        name: What it is about.
        text: What was found; never a key's value.
        ok: None where a bot can do without it.
    """

    group: str
    name: str
    text: str
    ok: bool | None = True


def look_around(host: str, port: int) -> Iterator[Finding]:
    """What can be told without trying anything."""
    yield Finding("system", "bargein", version("bargein"))
    yield Finding("system", "Python", f"{platform.python_version()} on {platform.platform()}")
    yield from _packages()
    yield from _models()
    yield from _keys()
    yield _port(host, port)
    yield _browser()
    yield _sound()


async def examine(bot: Bot, testing: Callable[[str], None]) -> list[Finding]:
    """Try each stage of a bot; `testing` is called with the name of each before it is tried."""
    test, found = SelfTest(bot), []
    for stage in test.stages:
        testing(f"testing: {stage}")
        try:
            found.append(Finding("self-test", stage, await test.run(stage)))
        except Exception as error:  # whatever it is, the next stage is tried
            found.append(Finding("self-test", stage, str(error) or type(error).__name__, ok=False))
    return found


def _packages() -> Iterator[Finding]:
    wanted: dict[str, list[str]] = {"": [], **{extra: [] for extra in EXTRAS}}
    for requirement in requires("bargein") or ():
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == ['\"](\w+)", requirement)
        if name and (kind := extra[1] if extra else "") in wanted:
            wanted[kind].append(name[0])
    for kind, names in wanted.items():
        there = {name: found for name in names if (found := _version(name)) is not None}
        missing = [name for name in names if name not in there]
        text = ", ".join(f"{name} {found}" for name, found in there.items())
        if missing:
            remedy = f"pip install 'bargein[{kind}]'" if kind else "install bargein again"
            text += f"{'; ' if text else ''}missing: {', '.join(missing)} ({remedy})"
        if names:
            ok = True if not missing else None if kind else False
            yield Finding("packages", f"extra {kind}" if kind else "needed", text, ok)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _models() -> Iterator[Finding]:
    for choice in (HEARING, THINKING, SPEAKING):
        local = choice.models["local"].model_validate({})
        assert isinstance(local, Service)
        yield Finding("models", local.title, local.missing or "is here", None if local.missing else True)


def _keys() -> Iterator[Finding]:
    services = [model for choice in (HEARING, THINKING, SPEAKING) for model in choice.models.values()]
    names = {service.key_name for service in services if issubclass(service, Service) and service.key_name}
    for name in sorted(names):
        try:
            there = api_key(name) is not None
        except (KeyMalformed, SecretsUnreadable) as error:
            yield Finding("keys", name, str(error), ok=False)
        else:
            yield Finding("keys", name, "set" if there else "not set", True if there else None)


def _port(host: str, port: int) -> Finding:
    try:
        check_port(host, port)
    except (PortInUse, CannotListen) as error:
        return Finding("system", f"port {port}", str(error), ok=None)
    return Finding("system", f"port {port}", "free")


def _browser() -> Finding:
    names = [name for name in (os.environ.get("BARGEIN_CHROMIUM"), *BROWSERS) if name]
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        return Finding("system", "Chromium", "not found; only the browser's tests need it", ok=None)
    try:
        asked = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("system", "Chromium", f"{path} does not start: {error}", ok=None)
    return Finding("system", "Chromium", asked.stdout.strip() or path)


def _sound() -> Finding:
    try:
        with SoundDevice():
            return Finding("system", "sound", "a microphone and a loudspeaker, for `bargein console`")
    except NoSound as error:
        return Finding("system", "sound", f"{error}; only `bargein console` uses it", ok=None)
