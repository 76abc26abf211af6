"""The pytest plugin: async tests in virtual or in real time, each with a leak check.

`@pytest.mark.virtual_time` and `@pytest.mark.real_time` say how an async test runs. What unmarked async
tests do, the option `bargein_asyncio` in pytest's configuration says: `virtual`, `real`, or `off` (the
default), which leaves them to other plugins.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest

from .leaks import leak_check
from .virtual_time import Deadlock, VirtualTimeLoop

AsyncTest = Callable[..., Coroutine[Any, Any, object]]

# Marks of other plugins that run async tests.
FOREIGN_MARKS = ("anyio", "asyncio", "trio")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option `bargein_asyncio`."""
    parser.addini("bargein_asyncio", "how unmarked async tests run: virtual, real or off", default="off")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks, and reject an unknown mode."""
    config.addinivalue_line("markers", "virtual_time: run an async test in virtual time, without sleeping")
    config.addinivalue_line("markers", "real_time: run an async test in real time")
    mode = config.getini("bargein_asyncio")
    if mode not in ("virtual", "real", "off"):
        raise pytest.UsageError(f"bargein_asyncio is {mode!r}; it must be virtual, real or off")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object | None:
    """Run an async test, or prepare one wrapped by hypothesis; leave all others alone."""
    mode = _mode(pyfuncitem)
    if mode == "off":
        return None
    hypothesis = getattr(pyfuncitem.obj, "hypothesis", None)
    if hypothesis is not None:
        if inspect.iscoroutinefunction(hypothesis.inner_test):
            hypothesis.inner_test = _made_sync(hypothesis.inner_test, mode)
        return None
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    _made_sync(pyfuncitem.obj, mode)(**arguments)
    return True


def _mode(item: pytest.Function) -> str:
    if item.get_closest_marker("virtual_time"):
        return "virtual"
    if item.get_closest_marker("real_time"):
        return "real"
    if any(item.get_closest_marker(name) for name in FOREIGN_MARKS):
        return "off"
    mode: str = item.config.getini("bargein_asyncio")
    return mode


def _made_sync(test: AsyncTest, mode: str) -> Callable[..., None]:
    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        failures: list[str] = []

        def note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            failures.append(f"{context['message']}: {context.get('exception')!r}")

        with asyncio.Runner(loop_factory=VirtualTimeLoop if mode == "virtual" else None) as runner:
            runner.get_loop().set_exception_handler(note)
            try:
                runner.run(_checked(test(*args, **kwargs)))
            except Deadlock as error:
                # It rises from the depths of the loop: its message says where, a traceback does not.
                pytest.fail(str(error), pytrace=False)
        if failures:
            raise AssertionError("the event loop reported:\n" + "\n".join(failures))

    return run


async def _checked(test: Coroutine[Any, Any, object]) -> None:
    async with leak_check():
        await test
