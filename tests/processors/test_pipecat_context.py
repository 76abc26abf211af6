from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pipecat.processors.aggregators.llm_context import LLMSpecificMessage

from bargein.processors.pipecat_context import PipecatContext

SYSTEM = {"role": "system", "content": "Be brief."}
QUESTION = {"role": "user", "content": "What is up?"}
ANSWER = {"role": "assistant", "content": "The sky."}


def calling(*ids: str, text: str = "") -> list[dict[str, Any]]:
    """An answer with calls, and their results."""
    calls = [{"id": i, "type": "function", "function": {"name": "look", "arguments": "{}"}} for i in ids]
    message: dict[str, Any] = {"role": "assistant", "tool_calls": calls}
    if text:
        message["content"] = text
    return [message, *({"role": "tool", "tool_call_id": i, "content": f"result {i}"} for i in ids)]


def written(context: PipecatContext) -> list[Any]:
    """Its messages; the list is live."""
    return context.get_messages()


def note(provider: str = "google", text: str = "n") -> LLMSpecificMessage:
    return LLMSpecificMessage(provider, {"type": "thought", "text": text})


def test_a_service_reads_each_call_with_its_result_behind_the_text() -> None:
    messages = [SYSTEM, QUESTION, *calling("a", "b", text="Let me look.")]
    context = PipecatContext(list(messages))
    call_a, call_b = messages[2]["tool_calls"]
    assert context.get_messages("google") == [
        SYSTEM,
        QUESTION,
        {"role": "assistant", "content": "Let me look."},
        {"role": "assistant", "tool_calls": [call_a]},
        messages[3],
        {"role": "assistant", "tool_calls": [call_b]},
        messages[4],
    ]
    assert written(context) == messages


@given(
    st.lists(
        st.one_of(
            st.just([QUESTION]),
            st.just([ANSWER]),
            st.builds(
                calling,
                st.sampled_from("ab"),
                st.sampled_from("cd"),
                text=st.sampled_from(["", "Let me look."]),
            ),
        )
    )
)
def test_nothing_is_lost_or_reordered(units: list[list[dict[str, Any]]]) -> None:
    messages = [SYSTEM, *(message for unit in units for message in unit)]
    read: list[Any] = PipecatContext(list(messages)).get_messages("openai")

    def texts(of: list[Any]) -> list[str]:
        return [m["content"] for m in of if m["role"] != "tool" and m.get("content")]

    def calls(of: list[Any]) -> list[Any]:
        return [call for m in of for call in m.get("tool_calls", [])]

    assert texts(read) == texts(messages)
    assert calls(read) == calls(messages)
    assert [m for m in read if m["role"] == "tool"] == [m for m in messages if m["role"] == "tool"]
    for message, behind in zip(read, [*read[1:], None], strict=True):
        if "tool_calls" in message:
            assert "content" not in message
            assert [call["id"] for call in message["tool_calls"]] == [behind["tool_call_id"]]


def test_a_thought_stands_before_the_answer_it_led_to_for_its_provider_alone() -> None:
    context = PipecatContext([SYSTEM, QUESTION])
    context.note(first := note(text="first"), leads=True)
    assert context.get_messages("google") == [SYSTEM, QUESTION]
    answer, result = calling("a", text="Let me look.")
    del answer["tool_calls"]
    written(context).append(answer)
    context.note(second := note(text="second"), leads=True)
    answer["tool_calls"] = calling("a")[0]["tool_calls"]
    written(context).append(result)
    call = {"role": "assistant", "tool_calls": answer["tool_calls"]}
    text = {"role": "assistant", "content": "Let me look."}
    assert context.get_messages("google") == [SYSTEM, QUESTION, first, text, second, call, result]
    assert context.get_messages("openai") == [SYSTEM, QUESTION, text, call, result]


def test_the_thought_of_an_answer_that_left_nothing_goes_with_it() -> None:
    context = PipecatContext([SYSTEM, QUESTION])
    context.note(note(), leads=True)
    context.begin_answer()
    written(context).append(ANSWER)
    assert context.get_messages("google") == [SYSTEM, QUESTION, ANSWER]


def test_a_note_goes_with_the_message_before_it() -> None:
    context = PipecatContext([SYSTEM, dict(QUESTION)])
    context.note(note())
    written(context)[1:] = [QUESTION, ANSWER]
    context.note(kept := note(text="kept"))
    assert context.get_messages("google") == [SYSTEM, QUESTION, ANSWER, kept]
