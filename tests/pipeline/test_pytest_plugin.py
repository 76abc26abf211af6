"""The pytest plugin, in pytest runs of its own."""

import pytest

ASYNC_TESTS = """
    import asyncio, pytest
    from bargein.pipeline.testing import VirtualTimeLoop

    def is_virtual():
        return isinstance(asyncio.get_running_loop(), VirtualTimeLoop)

    @pytest.fixture
    def hours():
        return 10

    @pytest.mark.virtual_time
    async def test_virtual(hours):
        await asyncio.sleep(hours * 3600)
        assert is_virtual()

    @pytest.mark.real_time
    async def test_real():
        assert not is_virtual()
"""


def run(pytester: pytest.Pytester, source: str, mode: str = "off") -> pytest.RunResult:
    pytester.makepyfile(source)
    return pytester.runpytest_inprocess("-o", f"bargein_asyncio={mode}", "-p", "no:cacheprovider")


def test_marked_tests_run_in_their_time(pytester: pytest.Pytester) -> None:
    run(pytester, ASYNC_TESTS).assert_outcomes(passed=2)


@pytest.mark.parametrize(("mode", "expected"), [("virtual", True), ("real", False)])
def test_the_option_rules_unmarked_tests(pytester: pytest.Pytester, mode: str, expected: bool) -> None:
    source = (
        ASYNC_TESTS
        + f"""
    async def test_unmarked():
        assert is_virtual() is {expected}
    """
    )
    run(pytester, source, mode).assert_outcomes(passed=3)


def test_off_leaves_unmarked_tests_to_others(pytester: pytest.Pytester) -> None:
    result = run(pytester, "async def test_unmarked(): pass")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*async def functions are not natively supported*"])


def test_tests_marked_for_another_plugin_are_left_to_it(pytester: pytest.Pytester) -> None:
    source = """
    import pytest
    from bargein.pipeline.testing import VirtualTimeLoop
    import asyncio

    @pytest.mark.anyio
    @pytest.mark.parametrize("anyio_backend", ["asyncio"])
    async def test_foreign(anyio_backend):
        assert not isinstance(asyncio.get_running_loop(), VirtualTimeLoop)
    """
    run(pytester, source, "virtual").assert_outcomes(passed=1)


def test_a_leak_fails_the_test(pytester: pytest.Pytester) -> None:
    source = """
    import asyncio, pytest

    kept = []

    async def test_leaks():
        kept.append(asyncio.create_task(asyncio.sleep(9), name="lost"))
    """
    result = run(pytester, source, "virtual")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Leaked: left running or open*", "*task 'lost' in sleep at *"])


def test_an_exception_in_a_callback_fails_the_test(pytester: pytest.Pytester) -> None:
    source = """
    import asyncio

    async def test_callback():
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)
    """
    result = run(pytester, source, "virtual")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the event loop reported:*", "*ZeroDivisionError*"])


def test_a_test_that_waits_for_ever_fails(pytester: pytest.Pytester) -> None:
    source = """
    import asyncio

    async def test_waits():
        await asyncio.Event().wait()
    """
    result = run(pytester, source, "virtual")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*these wait for ever:*", "*in test_waits at *"])


def test_hypothesis_tests_may_be_async(pytester: pytest.Pytester) -> None:
    source = """
    import asyncio
    from hypothesis import given, settings, strategies as st

    seen = []

    @settings(max_examples=5, database=None, deadline=None)
    @given(st.integers())
    async def test_any(number):
        await asyncio.sleep(3600)
        seen.append(number)

    def test_after():
        assert seen
    """
    run(pytester, source, "virtual").assert_outcomes(passed=2)


def test_an_unknown_mode_is_refused(pytester: pytest.Pytester) -> None:
    result = run(pytester, "", "sometimes")
    result.stderr.fnmatch_lines(["*bargein_asyncio is 'sometimes'; it must be virtual, real or off*"])
