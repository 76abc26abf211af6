"""With BARGEIN_NO_SKIP=1, as in CI, a skipped test fails the run. No test fails for being slow."""

import os

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["pytester"]

settings.register_profile("bargein", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bargein")

skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        skipped.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if skipped and os.environ.get("BARGEIN_NO_SKIP") == "1":
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if skipped and os.environ.get("BARGEIN_NO_SKIP") == "1":
        terminalreporter.section("skipped although BARGEIN_NO_SKIP=1", red=True)
        for nodeid in skipped:
            terminalreporter.line(nodeid)
