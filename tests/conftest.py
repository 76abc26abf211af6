"""With BARGEIN_NO_SKIP=1, as in CI, a skipped test fails the run."""

import os

import pytest

pytest_plugins = ["pytester"]

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
