"""History limits: whatever is cut, the rest is a history that a model accepts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bargein.processors.history import Limits, Message, estimate_tokens

from ..servers.openai_server import invalid

SYSTEM: Message = {"role": "system", "content": "Be brief."}

texts = st.text("ab ", min_size=1, max_size=80)


def message(role: str) -> st.SearchStrategy[list[Message]]:
    return texts.map(lambda text: [{"role": role, "content": text}])


@st.composite
def tool_step(draw: st.DrawFn) -> list[Message]:
    """An assistant message with one to three calls, and their results."""
    number = draw(st.integers(0, 10**9))
    ids = [f"call_{number}_{i}" for i in range(draw(st.integers(1, 3)))]
    calls = [{"id": i, "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in ids]
    said = {"content": draw(texts)} if draw(st.booleans()) else {}
    results = [{"role": "tool", "tool_call_id": i, "content": draw(texts)} for i in ids]
    return [{"role": "assistant", **said, "tool_calls": calls}, *results]


steps = st.one_of(message("user"), message("assistant"), message("system"), tool_step())
histories = st.lists(steps, max_size=12)


def places(left: list[Message], history: list[Message]) -> list[int]:
    return [next(i for i, m in enumerate(history) if m is kept) for kept in left]


@given(
    histories,
    st.none() | st.integers(1, 20),
    st.none() | st.integers(1, 200),
)
def test_what_is_left_is_valid_and_no_more_is_cut_than_must_be(
    units: list[list[Message]], max_messages: int | None, max_tokens: int | None
) -> None:
    # Instructions at the start belong to the prompt.
    prompt = [SYSTEM]
    while units and units[0][0]["role"] == "system":
        prompt += units.pop(0)
    history = prompt + [m for unit in units for m in unit]
    limits = Limits(max_messages, max_tokens)
    left = limits.trim(history)

    assert invalid(left) is None
    assert left[: len(prompt)] == prompt
    rest = left[len(prompt) :]
    numbers = places(left, history)
    assert numbers == sorted(set(numbers))

    def fits(messages: list[Message]) -> bool:
        return (max_messages is None or len(messages) - len(prompt) <= max_messages) and (
            max_tokens is None or sum(map(estimate_tokens, messages)) <= max_tokens
        )

    if fits(history):
        assert left == history
        return
    assert rest[-1] is history[-1] if units else not rest
    questions = [unit[0] for unit in units if unit[0]["role"] == "user"]
    must_stay = [m for m in questions[-1:] if m is not units[-1][0]] + (units[-1] if units else [])
    if questions:
        assert any(m is questions[-1] for m in rest)
    # It fits, or nothing is left that may go.
    assert fits(left) or rest == must_stay
    # After a cut, a question comes first, if there is any.
    if questions and len(left) < len(history):
        assert rest[0]["role"] == "user"


@given(histories, st.integers(1, 20))
def test_the_newest_messages_stay(units: list[list[Message]], max_messages: int) -> None:
    history = [SYSTEM, *(m for unit in units for m in unit)]
    left = Limits(max_messages).trim(history)
    # All but the prompt and the last question is one stretch up to the end.
    numbers = places(left, history)
    gaps = [i for i, (a, b) in enumerate(pairwise(numbers)) if b != a + 1]
    assert len(gaps) <= 2
    assert numbers[-1] == len(history) - 1


def test_a_long_turn_keeps_its_question() -> None:
    step: list[Message] = [
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ]
    old: Message = {"role": "user", "content": "old"}
    question: Message = {"role": "user", "content": "new"}
    history = [SYSTEM, old, {"role": "assistant", "content": "a"}, question, *step, *step, *step]
    assert Limits(max_messages=5).trim(history) == [SYSTEM, question, *step, *step]
    assert Limits(max_messages=2).trim(history) == [SYSTEM, question, *step]


def test_an_answer_goes_with_its_question() -> None:
    history = [
        {"role": r, "content": r} for r in ("system", "user", "assistant", "user", "assistant", "user")
    ]
    assert Limits(max_messages=4).trim(history) == [history[0], *history[3:]]


def test_tokens_are_counted_by_whatever_the_application_gives() -> None:
    history = [SYSTEM, *({"role": "user", "content": str(n)} for n in range(5))]
    limits = Limits(max_tokens=30, count_tokens=lambda m: 10)
    assert limits.trim(history) == [SYSTEM, *history[-2:]]


def test_the_estimate_counts_calls_too() -> None:
    said = {"role": "user", "content": "x" * 36}
    assert estimate_tokens(said) == 10
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "y" * 400}}]}
    assert estimate_tokens(called) > 100


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_leaves_nothing_is_refused(limit: int) -> None:
    for limits in ({"max_messages": limit, "max_tokens": None}, {"max_messages": 1, "max_tokens": limit}):
        with pytest.raises(ValueError, match="leaves nothing to answer"):
            Limits(limits["max_messages"], limits["max_tokens"])
