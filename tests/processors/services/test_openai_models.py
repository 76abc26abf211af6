"""OpenAI's two language model APIs through the real client: what is sent and read, and every fault.

What has to close connections runs over sockets, what has to wait runs in virtual time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import openai
import pytest
from loguru import logger
from openai import AsyncOpenAI
from pipecat.frames.frames import (
    FunctionCallsStartedFrame,
    LLMThoughtEndFrame,
    LLMThoughtStartFrame,
    LLMThoughtTextFrame,
    MetricsFrame,
)
from pipecat.metrics.metrics import LLMUsageMetricsData, TTFBMetricsData

from bargein.pipeline import UPSTREAM, Level, SpeechInterruptedFrame
from bargein.pipeline.frames import (
    ErrorFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMTextFrame,
    SourceFrame,
    ToolInputFrame,
)
from bargein.pipeline.testing import PipelineTest, regex
from bargein.processors.context import Context
from bargein.processors.llm import LLM
from bargein.processors.services.chat import (
    Call,
    CallBegun,
    CallInput,
    ChatModel,
    Piece,
    Thought,
    Usage,
)
from bargein.processors.services.errors import (
    KeyRejected,
    RateLimited,
    RequestRejected,
    ServiceUnavailable,
)
from bargein.processors.services.fallback import FallbackChat
from bargein.processors.services.openai_chat import ChatCompletions
from bargein.processors.services.openai_client import LAST_S, Timeouts
from bargein.processors.services.openai_responses import Responses
from bargein.processors.services.retry import Backoff
from bargein.processors.tools import Tools

from ...servers.openai_server import OpenAIServer, Token, Trouble, refuse, tool_calls

KEY = f"sk-{'secret' * 5}"
ASK = [{"role": "user", "content": "hi"}]
# Longer than any test: what is waited for here is an interruption.
PATIENT = Timeouts(1e6, 1e6, 1e6)
ONCE = Backoff(attempts=1)
ENDLESS = Backoff(attempts=100, first_s=1e6, cap_s=1e6, patience_s=1e9)
MODELS: list[Callable[..., ChatModel]] = [ChatCompletions, Responses]

either = pytest.mark.parametrize("model", MODELS)


def weather(city: str, days: int = 1) -> str:
    """Tell the weather.

    Args:
        city: Where.
    """
    return f"rain in {city} for {days} days"


@asynccontextmanager
async def in_process(*troubles: Trouble | None) -> AsyncIterator[tuple[OpenAIServer, AsyncOpenAI]]:
    server = OpenAIServer()
    server.plan(*troubles)
    async with server.client() as client:
        yield server, client


async def pieces(model: ChatModel, messages: list[dict[str, Any]] = ASK, *tools: Any) -> list[Piece]:
    return [piece async for piece in model.stream(messages, Tools(tools).schemas)]


# What is sent and read ---------------------------------------------------------------------------------


@either
async def test_text_and_usage(model: Callable[..., ChatModel]) -> None:
    async with in_process() as (server, client):
        server.answer = lambda messages: ["Good ", "day."]
        text, usage = (got := await pieces(model(client, "m")))[:2], got[2]
        assert text == ["Good ", "day."]
        assert isinstance(usage, Usage)
        assert (usage.prompt_tokens, usage.completion_tokens) == (7, 2)


@either
async def test_calls_come_complete_and_after_the_text(model: Callable[..., ChatModel]) -> None:
    async with in_process() as (server, client):
        calls = tool_calls(("weather", '{"city": "Rome"}', "a"), ("weather", '{"city": "Oslo"}', "b"))
        server.script(["Let me see.", *calls])
        got = await pieces(model(client, "m"), ASK, weather)
        assert got[0] == "Let me see."
        written = ['{"city": "Rome"}', '{"city": "Oslo"}']
        assert got[-3:-1] == [Call("a", "weather", written[0]), Call("b", "weather", written[1])]
        begun = [piece for piece in got if isinstance(piece, CallBegun)]
        assert begun == [CallBegun(0, "a", "weather"), CallBegun(1, "b", "weather")]
        inputs = [piece for piece in got if isinstance(piece, CallInput)]
        assert len(inputs) > 4  # as they are written, the calls in turns
        assert ["".join(p.text for p in inputs if p.index == index) for index in (0, 1)] == written


@either
async def test_a_call_is_told_as_it_is_written(model: Callable[..., ChatModel]) -> None:
    async with in_process(Trouble("cut", after=4)) as (server, client):
        server.script(*[tool_calls(("weather", '{"city": "Rome"}', "a"))] * 2, ["It rains."])
        context = Context("Be brief.")
        context.llm_context.add_message({"role": "user", "content": "The weather in Rome?"})
        chat = model(client, "m", backoff=Backoff(first_s=0.1))
        async with PipelineTest(LLM(chat, tools=[weather]), context.assistant) as test:
            test.send(LLMContextFrame(context.llm_context))
            started = await test.expect(FunctionCallsStartedFrame)
            await test.expect(LLMTextFrame, text="It rains.")
            inputs = test.received(ToolInputFrame)
        (call,) = started.function_calls
        written = [frame for frame in inputs if frame.tool_call_id == call.tool_call_id]
        assert {frame.function_name for frame in inputs} == {"weather"}
        assert written[0].text == ""
        assert "".join(frame.text for frame in written) == '{"city": "Rome"}'
        broken_off = [frame for frame in inputs if frame.tool_call_id != call.tool_call_id]
        assert '{"city": "Rome"}'.startswith("".join(frame.text for frame in broken_off))


@either
async def test_thoughts_and_sources_are_told_and_not_spoken(model: Callable[..., ChatModel]) -> None:
    citation = {"type": "url_citation", "url": "https://example.com/a", "title": "A"}
    place = {"item_id": "x", "output_index": 0, "content_index": 0}
    chat: list[Token] = [
        {"reasoning_content": "Hm. "},
        {"reasoning": "Well."},
        "Yes.",
        {"annotations": [{"type": "url_citation", "url_citation": citation}, {"type": "other"}]},
    ]
    thought = {"type": "response.reasoning_summary_text.delta", "summary_index": 0, **place}
    source = {"type": "response.output_text.annotation.added", "annotation_index": 0, **place}
    responses: list[Token] = [
        {**thought, "delta": "Hm. "},
        {**thought, "delta": "Well."},
        "Yes.",
        {**source, "annotation": citation},
        {**source, "annotation": {"type": "file_citation", "file_id": "f"}},
    ]
    async with in_process() as (server, client):
        server.script(chat if model is ChatCompletions else responses)
        context = Context("Be brief.")
        context.llm_context.add_message({"role": "user", "content": "Is it so?"})
        async with PipelineTest(LLM(model(client, "m")), context.assistant) as test:
            test.send(LLMContextFrame(context.llm_context))
            await test.expect(LLMFullResponseEndFrame)
            told = test.received(LLMThoughtTextFrame)
            kinds = (LLMThoughtStartFrame, LLMThoughtTextFrame, LLMThoughtEndFrame, LLMTextFrame, SourceFrame)
            order = [type(frame) for frame in test.received() if isinstance(frame, kinds)]
            sources = [(frame.url, frame.title) for frame in test.received(SourceFrame)]
        assert "".join(frame.text for frame in told) == "Hm. Well."
        assert order == [kinds[0], kinds[1], kinds[1], kinds[2], kinds[3], kinds[4]]
        assert sources == [("https://example.com/a", "A")]
        assert context.messages[-1] == {"role": "assistant", "content": "Yes."}


@either
async def test_a_conversation_with_tools_is_sent_whole(model: Callable[..., ChatModel]) -> None:
    async with in_process() as (server, client):
        server.script(tool_calls(("weather", '{"city": "Rome"}', "a")), ["It rains."])
        context = Context("Be brief.")
        context.llm_context.add_message({"role": "user", "content": "The weather in Rome?"})
        async with PipelineTest(LLM(model(client, "m"), tools=[weather]), context.assistant) as test:
            test.send(LLMContextFrame(context.llm_context))
            await test.expect(LLMTextFrame, text="It rains.")
            await test.expect(LLMFullResponseEndFrame)
        messages = server.requests[1].messages
        assert messages[0]["content"].startswith("Be brief.")
        assert [m["role"] for m in messages] == ["system", "user", "assistant", "tool"]
        assert messages[2]["tool_calls"][0]["function"]["name"] == "weather"
        assert messages[3] == {"role": "tool", "tool_call_id": "a", "content": "rain in Rome for 1 days"}


async def test_what_a_responses_request_looks_like() -> None:
    async with in_process() as (server, client):
        model = Responses(client, "m", temperature=0.2)
        image = {"url": "data:image/png;base64,AA=="}
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "And?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
            {"role": "system", "content": "He is in a hurry."},
            {"role": "user", "content": [{"type": "image_url", "image_url": image}]},
        ]
        await anext(stream := model.stream(messages, Tools([weather]).schemas, "none"))
        await stream.aclose()
        request = server.requests[0]
        assert request.path == "/v1/responses"
        parameters = request.body["tools"][0].pop("parameters")
        assert list(parameters["properties"]) == ["city", "days"]
        assert request.body == {
            "model": "m",
            "stream": True,
            "store": False,
            "temperature": 0.2,
            "instructions": "Be brief.",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "And?"}]},
                {"role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]},
                {"role": "system", "content": "He is in a hurry."},
                {
                    "role": "user",
                    "content": [{"type": "input_image", "image_url": image["url"], "detail": "auto"}],
                },
            ],
            "tools": [
                {
                    "type": "function",
                    "name": "weather",
                    "description": "Tell the weather.",
                    "strict": False,
                }
            ],
            "tool_choice": "none",
        }


async def test_a_chat_request_asks_for_the_usage_unless_the_server_cannot_tell() -> None:
    async with in_process() as (server, client):
        await pieces(ChatCompletions(client, "m"))
        await pieces(ChatCompletions(client, "m", stream_options=openai.omit))
        assert server.requests[0].body["stream_options"] == {"include_usage": True}
        assert "stream_options" not in server.requests[1].body


ODD_CHUNKS: list[tuple[list[Token], list[Piece]]] = [
    # thoughts have more than one name
    (
        [{"reasoning_content": "Hm."}, {"reasoning": "Well."}, {"content": None}, "Yes."],
        [Thought("Hm."), Thought("Well."), "Yes."],
    ),
    ([{"role": "assistant", "content": ""}, "Yes."], ["Yes."]),
    ([{"choices": []}, {"choices": None}, {"choices": [{"index": 0, "delta": None}]}, "Yes."], ["Yes."]),
    ([{"refusal": "I cannot."}], ["I cannot."]),
    # a usage that comes early, and in part
    ([{"choices": [], "usage": {"prompt_tokens": 2}}, "Yes."], ["Yes."]),
    # calls without ids, all with the index 0, or with no index at all
    (
        [{"tool_calls": [{"index": 0, "id": i, "function": {"name": i, "arguments": "{}"}}]} for i in "ab"],
        [Call("a", "a", "{}"), Call("b", "b", "{}")],
    ),
    (
        [{"tool_calls": [{"index": 0, "function": {"name": n, "arguments": "{}"}}]} for n in "ab"],
        [Call("", "a", "{}"), Call("", "b", "{}")],
    ),
    (
        [
            {"tool_calls": [{"id": "x", "function": {"name": "a", "arguments": ""}}]},
            {"tool_calls": [{"function": {"arguments": '{"n":'}}]},
            {"tool_calls": [{"function": {"arguments": " 1}"}}]},
        ],
        [Call("x", "a", '{"n": 1}')],
    ),
    ([{"tool_calls": [{"index": 0, "id": "x", "function": None}]}, "Yes."], ["Yes.", Call("x", "", "")]),
]


@pytest.mark.parametrize(("tokens", "expected"), ODD_CHUNKS)
async def test_what_other_servers_leave_out_or_add(tokens: list[Token], expected: list[Piece]) -> None:
    async with in_process() as (server, client):
        server.script(tokens)
        got = await pieces(ChatCompletions(client, "m", stream_options=openai.omit))
        assert [p for p in got if not isinstance(p, Usage | CallBegun | CallInput)] == expected


@pytest.mark.parametrize(
    ("event", "failure"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "slowly"}, RateLimited),
        ({"type": "error", "code": None, "message": "oh"}, ServiceUnavailable),
        (
            {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "oh"}}},
            ServiceUnavailable,
        ),
        (
            {"type": "response.failed", "response": {"error": {"code": "invalid_prompt", "message": "no"}}},
            RequestRejected,
        ),
    ],
)
async def test_a_response_that_fails_says_why(event: dict[str, Any], failure: type[Exception]) -> None:
    async with in_process() as (server, client):
        server.script(["Well", event])
        stream = Responses(client, "m", backoff=ONCE).stream(ASK)
        assert await anext(stream) == "Well"
        with pytest.raises(failure):
            await anext(stream)


async def test_an_error_inside_a_chat_stream_says_why() -> None:
    async with in_process() as (server, client):
        error = {"code": "insufficient_quota", "message": "pay"}
        server.script(["Well", {"choices": [], "error": error}])
        stream = ChatCompletions(client, "m").stream(ASK)
        assert await anext(stream) == "Well"
        with pytest.raises(RateLimited, match="quota") as caught:
            await anext(stream)
        assert not caught.value.retryable


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ({"code": "invalid_api_key", "type": "invalid_request_error", "message": "no"}, KeyRejected),
        ({"type": "authentication_error", "message": "no"}, KeyRejected),
        ({"code": 401, "message": "no"}, KeyRejected),
        ({"code": 429, "message": "slowly"}, RateLimited),
        ({"code": 502, "message": "upstream"}, ServiceUnavailable),
        ({"code": "400", "message": "too long"}, RequestRejected),
    ],
)
async def test_a_status_inside_a_stream_means_what_it_means_before_it(
    error: dict[str, Any], failure: type[Exception]
) -> None:
    """A key that is withdrawn while an answer streams is told as such, and not tried again."""
    async with in_process() as (server, client):
        server.script(["Well", {"choices": [], "error": error}])
        stream = ChatCompletions(client, "m", backoff=ONCE).stream(ASK)
        assert await anext(stream) == "Well"
        with pytest.raises(failure):
            await anext(stream)


@either
async def test_a_character_that_comes_in_halves_is_put_together(model: Callable[..., ChatModel]) -> None:
    async with in_process() as (server, client):
        server.script(["Hi \ud83d", "\ude00", " you \ude00 there\ud83d"])
        got = [p for p in await pieces(model(client, "m")) if isinstance(p, str)]
        assert got == ["Hi ", "\U0001f600", " you \ufffd there"]


class OneByteAtATime(httpx2.AsyncByteStream, httpx2.AsyncBaseTransport):
    """A server whose answer comes in the smallest pieces there are."""

    def __init__(self, body: str) -> None:
        self._body = body.encode()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for byte in self._body:
            yield bytes([byte])

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=self)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("done", ["", "data: [DONE]"])
async def test_a_stream_is_read_wherever_it_is_cut(end: str, done: str) -> None:
    """In a line's end, in a character of four bytes, between comments; with and without a last line."""
    deltas = [{"role": "assistant", "content": ""}, {"content": "Grüß "}, {"content": "😀 天気"}, {}]
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks[-1]["choices"][0]["finish_reason"] = "stop"
    for chunk in chunks[:-1]:
        chunk["choices"][0]["finish_reason"] = None
    chunks.append({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}})
    lines = [": keep-alive", "", *(f"data: {json.dumps(c, ensure_ascii=False)}{end}" for c in chunks), done]
    http = httpx2.AsyncClient(transport=OneByteAtATime(end.join([*lines, ""])))
    async with AsyncOpenAI(api_key="k", base_url="http://m/v1", http_client=http) as client:
        got = await pieces(ChatCompletions(client, "m", backoff=ONCE))
    assert got == ["Grüß ", "😀 天気", Usage(3, 2)]


@either
@pytest.mark.parametrize("kind", ["cut", "garbage", "hang"])
async def test_what_comes_behind_the_end_of_an_answer_cannot_spoil_it(
    model: Callable[..., ChatModel], kind: Any
) -> None:
    """A connection that is lost when only the usage was to come: nothing is asked for again."""
    calls = tool_calls(("weather", '{"city": "Rome"}', "a"))
    answers: list[list[Token]] = [["Good ", "day."], ["Let me see.", *calls]]
    for tokens in answers:
        whole = len(tokens) + (1 if model is ChatCompletions else 2 + (tokens[1:] == calls))  # events
        async with in_process(Trouble(kind, whole)) as (server, client):
            server.script(tokens, ["Never asked for."])
            began = asyncio.get_running_loop().time()
            got = await pieces(model(client, "m"), ASK, weather)
            assert asyncio.get_running_loop().time() - began < 2 * LAST_S
            text = "".join(p for p in got if isinstance(p, str))
            assert text == "".join(t for t in tokens if isinstance(t, str))
            assert len([p for p in got if isinstance(p, Call)]) == (tokens[1:] == calls)
            assert len(server.requests) == 1


@either
async def test_metrics_go_downstream(model: Callable[..., ChatModel]) -> None:
    async with in_process() as (server, client), PipelineTest(LLM(model(client, "m"))) as test:
        server.token_s = 0.25
        test.send(LLMContextFrame(Context("").llm_context))
        await test.expect(LLMFullResponseEndFrame)
        (ttfb,), (usage,) = (frame.data for frame in test.received(MetricsFrame))
        assert isinstance(ttfb, TTFBMetricsData)
        assert (ttfb.processor, ttfb.model) == ("LLM", "m")
        assert ttfb.value in (0.25, 0.5)  # the responses API announces itself first
        assert isinstance(usage, LLMUsageMetricsData)
        assert usage.value.total_tokens == 8


def test_options_belong_to_the_model() -> None:
    with pytest.raises(TypeError, match="temperature"):
        LLM(FallbackChat(ChatCompletions(AsyncOpenAI(api_key="k"), "m")), temperature=1)  # type: ignore[call-overload]


def test_services_are_named_by_provider() -> None:
    for url, name in {
        "https://api.openai.com/v1": "OpenAI m",
        "https://api.groq.com/openai/v1": "api.groq.com m",
        "http://localhost:11434/v1": "localhost m",
    }.items():
        client = AsyncOpenAI(base_url=url, api_key=KEY)
        for model in MODELS:
            assert model(client, "m").service == name
            assert KEY not in repr(model(client, "m"))


# Waiting: timeouts and repeated requests, in virtual time ----------------------------------------------


@either
@pytest.mark.parametrize("trouble", [Trouble("hang"), Trouble("hang", 0), Trouble("ping", 0)])
async def test_a_server_that_says_nothing_is_given_up(
    model: Callable[..., ChatModel], trouble: Trouble
) -> None:
    async with in_process(trouble, trouble) as (server, client):
        quick = model(client, "m", timeouts=Timeouts(first_token_s=2), backoff=Backoff(attempts=2))
        with pytest.raises(ServiceUnavailable, match="no token within 2 s"):
            await pieces(quick)
        assert [r.outcome.result() for r in server.requests] == ["closed", "closed"]
        assert (await pieces(quick))[0] == "Hello."


@either
async def test_a_server_that_falls_silent_is_given_up(model: Callable[..., ChatModel]) -> None:
    async with in_process(Trouble("hang", 2)) as (server, client):
        server.answer = lambda messages: ["one ", "two ", "three "]
        got: list[Piece] = []
        with pytest.raises(ServiceUnavailable, match="no further token within 10 s"):
            await drain(model(client, "m").stream(ASK), got)
        assert got in (["one "], ["one ", "two "])
        assert len(server.requests) == 1
        assert server.requests[0].outcome.result() == "closed"


async def drain(stream: AsyncGenerator[Piece, None], into: list[Piece]) -> None:
    async for piece in stream:
        into.append(piece)  # noqa: PERF401 - what came before a failure counts


@either
async def test_a_slow_server_is_waited_for(model: Callable[..., ChatModel]) -> None:
    async with in_process() as (server, client):
        server.answer = lambda messages: ["one ", "two ", "three "]
        server.token_s = 9
        assert (await pieces(model(client, "m")))[:3] == ["one ", "two ", "three "]


@either
@pytest.mark.parametrize(
    "trouble",
    [
        refuse(429, retry_after="3"),
        refuse(500),
        refuse(503),
        Trouble("cut"),
        Trouble("cut", 0),
        Trouble("garbage", 0),
        Trouble("end", 0),
    ],
)
async def test_what_fails_before_a_word_came_is_repeated(
    model: Callable[..., ChatModel], trouble: Trouble
) -> None:
    async with in_process(trouble, trouble) as (server, client):
        assert (await pieces(model(client, "m")))[0] == "Hello."
        assert len(server.requests) == 3


@either
async def test_a_call_that_broke_off_is_asked_for_again(model: Callable[..., ChatModel]) -> None:
    async with in_process(Trouble("cut", 3)) as (server, client):
        server.answer = lambda messages: tool_calls(("weather", '{"city": "Rome"}', "a"))
        got = await pieces(model(client, "m"))
        assert [p for p in got if isinstance(p, Call)] == [Call("a", "weather", '{"city": "Rome"}')]
        assert got.count(CallBegun(0, "a", "weather")) == 2  # it is written anew
        assert len(server.requests) == 2


@either
@pytest.mark.parametrize("kind", ["cut", "garbage", "end"])
async def test_what_breaks_off_after_a_word_and_may_not_go_on_is_not_repeated(
    model: Callable[..., ChatModel], kind: Any
) -> None:
    async with (
        in_process(Trouble(kind, 2)) as (server, client),
        PipelineTest(LLM(model(client, "m", backoff=ONCE))) as test,
    ):
        server.answer = lambda messages: ["one ", "two ", "three "]
        test.send(LLMContextFrame(Context("").llm_context))
        await test.expect(ErrorFrame, UPSTREAM, error=regex("^LLM: ServiceUnavailable"))
        await test.expect(LLMFullResponseEndFrame)
        assert "".join(f.text for f in test.received(LLMTextFrame)) in ("one ", "one two ")
        test.send(LLMContextFrame(Context("").llm_context))
        await test.expect(LLMTextFrame, text="one ")
        await test.expect(LLMFullResponseEndFrame)
        assert len(server.requests) == 2


SPEECH_ONLY = [
    None,
    refuse(429, retry_after="1"),
    refuse(503),
    Trouble("cut"),
    Trouble("cut", 0),
    Trouble("garbage", 0),
    Trouble("hang"),
    Trouble("hang", 0),
]


@either
@pytest.mark.parametrize("trouble", SPEECH_ONLY)
async def test_a_speech_only_interruption_leaves_the_model_at_work(
    model: Callable[..., ChatModel], trouble: Trouble | None
) -> None:
    async with in_process(trouble) as (server, client):
        server.answer = lambda messages: ["one ", "two ", "three "]
        server.token_s = 0.1
        llm = LLM(model(client, "m", timeouts=Timeouts(first_token_s=2)))
        async with PipelineTest(llm) as test:
            test.send(LLMContextFrame(Context("").llm_context))
            await server.came(1)
            test.interrupt_speech()
            await test.expect(SpeechInterruptedFrame, level=Level.SPEECH, response_id="r1")
            await test.expect(LLMFullResponseEndFrame, within=60)
            assert "".join(f.text for f in test.received(LLMTextFrame)) == "one two three "
            assert server.requests[-1].outcome.result() == "finished"


# Interruptions over sockets: what the server sees ------------------------------------------------------


@asynccontextmanager
async def serving(count: int) -> AsyncIterator[list[tuple[OpenAIServer, AsyncOpenAI]]]:
    async with AsyncExitStack() as stack:
        both: list[tuple[OpenAIServer, AsyncOpenAI]] = []
        for _ in range(count):
            server = await stack.enter_async_context(OpenAIServer().serving())
            client = AsyncOpenAI(base_url=server.base_url, api_key=KEY)
            both.append((server, await stack.enter_async_context(client)))
        yield both


async def next_turn_works(test: PipelineTest, server: OpenAIServer, requests: int) -> None:
    """Of what was interrupted nothing comes any more, and no further request is made for it."""
    server.answer = lambda messages: ["Next."]
    server.token_s = 0
    before = len(test.received(LLMTextFrame))
    test.send(LLMContextFrame(Context("").llm_context))
    await test.expect(LLMTextFrame, text="Next.")
    await test.expect(LLMFullResponseEndFrame)
    assert [f.text for f in test.received(LLMTextFrame)[before:]] == ["Next."]
    assert len(server.requests) == requests + 1
    assert test.stats.undead == 0


@pytest.mark.real_time
@either
@pytest.mark.parametrize("trouble", [Trouble("hang"), Trouble("hang", 0), Trouble("hang", 3), None])
async def test_an_interruption_closes_the_connection(
    model: Callable[..., ChatModel], trouble: Trouble | None
) -> None:
    """While the server hangs before the headers, before the first word, in the middle; while it streams."""
    async with serving(1) as [(server, client)]:
        server.plan(trouble)
        server.answer = lambda messages: ["word "] * 1000
        server.token_s = 0.01
        async with PipelineTest(LLM(model(client, "m", timeouts=PATIENT))) as test:
            test.send(LLMContextFrame(Context("").llm_context))
            await server.came(1)
            if trouble is None or trouble.after == 3:
                await test.expect(LLMTextFrame)
            test.interrupt()
            await test.expect(SpeechInterruptedFrame, level=Level.FULL, response_id="r1")
            assert await asyncio.wait_for(server.requests[0].outcome, 60) == "closed"
            assert server.requests[0].sent < 1000
            await next_turn_works(test, server, 1)


@pytest.mark.real_time
@either
@pytest.mark.parametrize(
    "trouble",
    [
        refuse(429, retry_after="100"),
        refuse(500),
        refuse(503),
        Trouble("cut"),
        Trouble("cut", 0),
        Trouble("garbage", 0),
    ],
)
async def test_an_interruption_ends_the_wait_before_another_attempt(
    model: Callable[..., ChatModel], trouble: Trouble
) -> None:
    async with serving(1) as [(server, client)]:
        server.plan(trouble)
        async with PipelineTest(LLM(model(client, "m", backoff=ENDLESS))) as test:
            test.send(LLMContextFrame(Context("").llm_context))
            await server.came(1)
            await asyncio.wait_for(server.requests[0].outcome, 60)
            test.interrupt()
            await test.expect(SpeechInterruptedFrame, level=Level.FULL, response_id="r1")
            await next_turn_works(test, server, 1)


@pytest.mark.real_time
@either
@pytest.mark.parametrize("trouble", [refuse(401), refuse(429, "insufficient_quota"), Trouble("cut", 2)])
async def test_after_a_failure_that_stands_the_next_turn_works(
    model: Callable[..., ChatModel], trouble: Trouble
) -> None:
    async with serving(1) as [(server, client)]:
        server.plan(trouble)
        server.answer = lambda messages: ["word "] * 10
        async with PipelineTest(LLM(model(client, "m", backoff=ONCE))) as test:
            test.send(LLMContextFrame(Context("").llm_context))
            await test.expect(ErrorFrame, UPSTREAM)
            await test.expect(LLMFullResponseEndFrame)
            await next_turn_works(test, server, 1)


@pytest.mark.real_time
@either
@pytest.mark.parametrize("trouble", [refuse(401), refuse(503), Trouble("cut"), Trouble("garbage", 0)])
async def test_the_stand_in_takes_the_same_turn_and_can_be_interrupted(
    model: Callable[..., ChatModel], trouble: Trouble
) -> None:
    async with serving(2) as [(first, client), (second, other)]:
        first.plan(*[trouble] * 2)
        second.answer = lambda messages: ["word "] * 1000
        second.token_s = 0.01
        quick = Backoff(attempts=2, first_s=0.01)
        both = FallbackChat(model(client, "one", backoff=quick), ChatCompletions(other, "two"))
        async with PipelineTest(LLM(both)) as test:
            test.send(LLMContextFrame(Context("").llm_context))
            await test.expect(ErrorFrame, UPSTREAM, error=regex("127.0.0.1 two takes over$"))
            await test.expect(LLMTextFrame, text="word ")
            test.interrupt()
            assert await asyncio.wait_for(second.requests[0].outcome, 60) == "closed"
            await next_turn_works(test, second, 1)


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append, diagnose=True, level=0)
    yield lines
    logger.remove(sink)


@pytest.mark.real_time
@either
async def test_no_key_gets_into_the_log(model: Callable[..., ChatModel], log: list[str]) -> None:
    """Not even with the values of variables in tracebacks, and a server that quotes the key."""
    async with serving(1) as [(server, client)]:
        server.plan(refuse(401), refuse(400, f"a request with {KEY}"), Trouble("cut", 2))
        async with PipelineTest(LLM(model(client, "m", backoff=ONCE))) as test:
            server.answer = lambda messages: ["word "] * 10
            for _ in range(3):
                test.send(LLMContextFrame(Context("").llm_context))
                error = await test.expect(ErrorFrame, UPSTREAM)
                await test.expect(LLMFullResponseEndFrame)
                assert "secret" not in error.error
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    said = "".join(log)
    assert "the key was rejected" in said
    assert "a request with [REDACTED]" in said
    assert "secret" not in said
