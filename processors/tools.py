"""Tools: Python functions that the model may call, and one call of one."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import docstring_parser
from loguru import logger
from pipecat.frames.frames import (
    FunctionCallCancelFrame,
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
)
from pydantic import Field, PydanticUserError, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import to_json

from ..pipeline import DOWNSTREAM, BargeinError, Processor, Session
from ..pipeline.frames import Frame, FrameDirection, LLMTextFrame
from ..pipeline.processor import FAILURES
from .threads import OwnThreads
from .wellformed import wellformed

F = TypeVar("F", bound=Callable[..., Any])

OnInterruption = Literal["finish", "cancel", "keep"]

# A tool that takes longer is given up, s, unless it says otherwise: a caller hears silence meanwhile.
TIMEOUT_S = 30.0

# What a function may be called: OpenAI's rule, which other servers share.
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

# For functions that are no coroutines. They may hang for ever, and nothing can end them.
THREADS = OwnThreads("tool")

# Results that no tool returned. They are written for the model.
RUNNING = "The call is still running. Its result will stand here when it is done."
NOT_STARTED = "The user interrupted before this call was started; it was not made."
CANCELLED = "The user interrupted; the call was cancelled."
DISCARDED = "The user interrupted; the call runs to its end, but its result is discarded."
SESSION_ENDED = "The session ended before the call did."


class BadTool(BargeinError, TypeError):
    """Raised when a function cannot be a tool: no type hint, no usable name, or a name taken twice."""


class BadArguments(BargeinError, ValueError):
    """Raised when the model calls a tool with arguments that its parameters do not take."""


def tool(*, on_interruption: OnInterruption = "finish", timeout_s: float = TIMEOUT_S) -> Callable[[F], F]:
    """Say how a function behaves as a tool; one without this decorator has the defaults.

    Args:
        on_interruption: What a full interruption does to a running call: "finish" lets it complete and
            discards its result, "cancel" cancels it, "keep" puts its result into the context when it is
            there, for the turns that follow.
        timeout_s: Seconds after which a call is given up.
    """

    def mark(function: F) -> F:
        function.__tool__ = (on_interruption, timeout_s)  # type: ignore[attr-defined]
        return function

    return mark


class Tools:
    """Functions by the names under which the model knows them.

    A function becomes a tool by its type hints and docstring: its parameters' schema is pydantic's, the
    docstring describes it and them. `async def` functions run in the event loop, others in a thread. A
    parameter of type `ToolCall` is given the call itself and is not shown to the model.

    Raises:
        BadTool: A function cannot be a tool.
    """

    def __init__(self, functions: Iterable[Callable[..., Any]] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        for function in functions:
            self.add(function)

    def add(self, function: Callable[..., Any]) -> None:
        """Make a function one of the tools; the model knows of it from its next request on.

        Raises:
            BadTool: It cannot be a tool.
        """
        made = _make_tool(function)
        if made.name in self._tools:
            raise BadTool(f"two tools are called {made.name}; rename one of the functions")
        self._tools[made.name] = made

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    def find(self, name: str) -> Tool | None:
        """The tool of this name, if there is one."""
        return self._tools.get(name)

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """The tools as the `tools` of a chat completions request."""
        return [{"type": "function", "function": t.schema} for t in self._tools.values()]


@dataclass(frozen=True)
class Tool:
    """One function as a tool.

    Attributes:
        schema: Name, description and parameters, as OpenAI's API takes them.
        arguments: Validates the model's JSON into keyword arguments.
        call_parameter: The parameter that takes the `ToolCall`, if any.
    """

    name: str
    function: Callable[..., Any]
    schema: dict[str, Any]
    arguments: TypeAdapter[dict[str, Any]]
    call_parameter: str | None
    on_interruption: OnInterruption
    timeout_s: float

    def bind(self, raw: str) -> dict[str, Any]:
        """Keyword arguments from the model's JSON.

        Raises:
            BadArguments: They do not fit; names each parameter and what it takes.
        """
        try:
            return self.arguments.validate_json(raw or "{}")
        except ValidationError as error:
            problems = "; ".join(map(_problem, error.errors(include_url=False, include_context=False)))
            raise BadArguments(f"the arguments of {self.name} do not fit: {problems}") from None


class ToolCall:
    """One call by the model, from the answer that asked for it to its one result.

    A tool that has a parameter of this type can act on the conversation through it. What it does there
    after an interruption, or after its time is up, does nothing: a discarded answer must not speak, and
    must not end the call.

    Attributes:
        id: As in the context.
        name: The name the model gave.
        arguments: The JSON object the model gave, not validated; empty if it gave none.
        session: The running session.
        interrupted: A full interruption has hit the answer that made this call.
        ends_session: The session is to end once the answer has been said.
        settled: Done once the call has its result. After that nothing changes it.
    """

    def __init__(self, processor: Processor, tools: Tools, id: str, name: str, raw: str) -> None:  # noqa: A002
        self.id = id
        self.name = name
        self.arguments = _json_object(raw)
        self.session: Session = processor.session
        self.interrupted = False
        self.ends_session = False
        self._processor = processor
        self._tools = tools
        self._tool = tools.find(name)
        self._raw = raw
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._begun = False  # the function has been entered; guarded by `_lock`, as threads enter it too
        self._lock = threading.Lock()
        self.settled: asyncio.Future[None] = self._loop.create_future()

    # For tools -------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Say something while the tool works, as a part of the answer; from any thread."""
        self.push(LLMTextFrame(f"{text}\n"))

    def push(self, frame: Frame, direction: FrameDirection = DOWNSTREAM) -> None:
        """Push a frame from the language model's place in the pipeline; from any thread."""
        self._act(lambda: self._processor.push(frame, direction))

    def end(self) -> None:
        """End the session once this answer has been said; an interruption revokes it. From any thread."""
        self._act(lambda: setattr(self, "ends_session", True))

    def _act(self, action: Callable[[], None]) -> None:
        def act() -> None:
            if self.interrupted or self.settled.done():
                logger.debug("{}: a call that is over wanted to act", self.name)
            else:
                action()

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._loop.call_soon_threadsafe(act, context=copy_context())
        else:
            act()

    # For the language model ------------------------------------------------------------------------

    def start(self) -> None:
        """Announce the call and run it in a task that outlives the work that started it."""
        cancels = self._tool is not None and self._tool.on_interruption == "cancel"
        self._processor.broadcast(
            FunctionCallInProgressFrame,
            function_name=self.name,
            tool_call_id=self.id,
            arguments=self.arguments,
            cancel_on_interruption=cancels,
        )
        if self._tool is None:
            known = ", ".join(self._tools) or "none"
            self._fail(f"there is no tool called {self.name}; the tools are: {known}")
            return
        try:
            values = self._tool.bind(self._raw)
        except BadArguments as error:
            self._fail(str(error))
            return
        self._task = self.session.tasks.create(self._run(self._tool, values), f"tool.{self.name}")
        timer = self._loop.call_later(self._tool.timeout_s, self._expire)
        self._task.add_done_callback(lambda _: self._ended(timer))

    def interrupt(self) -> None:
        """A full interruption: everything that must be done at once. The tool is not waited for."""
        with self._lock:
            self.interrupted = True
            begun = self._begun
        if self.settled.done():
            return
        if not begun:
            self._abandon()
            self.settle(NOT_STARTED)
        elif self._tool is not None and self._tool.on_interruption == "cancel":
            self._abandon()
            self._processor.broadcast(FunctionCallCancelFrame, function_name=self.name, tool_call_id=self.id)
            self.settle(CANCELLED)
        elif self._tool is not None and self._tool.on_interruption == "finish":
            self.settle(DISCARDED)

    def settle(self, result: str, error: str | None = None) -> None:
        """Give the call its result, the first time; any later one is discarded."""
        if self.settled.done():
            return
        self.settled.set_result(None)
        self._processor.broadcast(
            FunctionCallResultFrame,
            function_name=self.name,
            tool_call_id=self.id,
            arguments=self.arguments,
            result=result,
            error=error,
        )

    def _fail(self, problem: str) -> None:
        problem = as_text(problem)
        self.settle(f"Error: {problem}", problem)

    def _expire(self) -> None:
        assert self._tool is not None
        self._abandon()
        self._fail(f"{self.name} was given up after {self._tool.timeout_s:g} s")

    def _ended(self, timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        if not self.settled.done() and self.session.running:  # else `LLM.stop` says so
            self._fail(f"{self.name} ended without a result")

    def _abandon(self) -> None:
        if self._task is not None and not self._task.done():
            self.session.tasks.abandon(self._task)

    async def _run(self, tool: Tool, values: dict[str, Any]) -> None:
        if tool.call_parameter is not None:
            values[tool.call_parameter] = self
        try:
            if inspect.iscoroutinefunction(tool.function):
                result = as_text(await tool.function(**values)) if self._begin() else ""
            else:
                work = partial(copy_context().run, self._run_in_thread, tool.function, values)
                outcome = await self._loop.run_in_executor(THREADS, work)
                result = outcome if isinstance(outcome, str) else as_text(await outcome)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._fail_with(error)  # the tool's own doing
        except FAILURES as error:  # a tool that calls sys.exit() must not end the process
            self._fail_with(error)
        else:
            self.settle(result)

    def _run_in_thread(self, function: Callable[..., Any], values: dict[str, Any]) -> str | Awaitable[Any]:
        if not self._begin():
            return ""
        try:
            result = function(**values)
        except StopIteration as error:  # which no future can carry
            raise RuntimeError("the tool raised StopIteration") from error
        return result if inspect.isawaitable(result) else as_text(result)

    def _begin(self) -> bool:
        """Whether the function may be entered. A thread may get here long after the call was made."""
        with self._lock:
            self._begun = not self.interrupted and not self.settled.done()
            return self._begun

    def _fail_with(self, error: BaseException) -> None:
        logger.opt(exception=error).warning("tool {} failed", self.name)
        self._fail(f"{self.name} failed: {type(error).__name__}: {error}")


def as_text(result: object) -> str:
    """A tool's result as the model reads it: text as it is, anything else as JSON.

    Raises:
        ValueError: It cannot be written as JSON (pydantic's PydanticSerializationError is one).
    """
    if result is None:
        return "Done."
    text = result if isinstance(result, str) else to_json(result).decode()
    return wellformed(text)


def _make_tool(function: Callable[..., Any]) -> Tool:
    name = getattr(function, "__name__", "")
    if not NAME.fullmatch(name):
        raise BadTool(f"{function!r} has no name a tool can have; define it with def")
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise BadTool(
            f"{name}: its type hints cannot be read: {error}; define them at module level"
        ) from error
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise BadTool(f"{name}: a tool returns its result, it yields none")
    doc = docstring_parser.parse(inspect.getdoc(function) or "")
    described = {p.arg_name: p.description for p in doc.params}
    call_parameter = None
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise BadTool(f"{name}: {parameter} cannot be passed by name; make it an ordinary parameter")
        if parameter.name not in hints:
            raise BadTool(f"{name}: give the parameter {parameter.name} a type hint")
        hint = hints[parameter.name]
        if hint is ToolCall:
            call_parameter = parameter.name
            continue
        if described.get(parameter.name):
            hint = Annotated[hint, Field(description=described[parameter.name])]
        parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hint))
    try:
        arguments = _arguments_adapter(parameters)
        schema = arguments.json_schema(schema_generator=_UntitledSchema)
    except PydanticUserError as error:
        raise BadTool(f"{name}: {error.message}") from error
    text = "\n\n".join(part for part in (doc.short_description, doc.long_description) if part)
    described_as = {"description": text} if text else {}
    marked: tuple[OnInterruption, float] = getattr(function, "__tool__", ("finish", TIMEOUT_S))
    on_interruption, timeout_s = marked
    return Tool(
        name,
        function,
        {"name": name, **described_as, "parameters": schema},
        arguments,
        call_parameter,
        on_interruption,
        timeout_s,
    )


def _arguments_adapter(parameters: list[inspect.Parameter]) -> TypeAdapter[dict[str, Any]]:
    """What pydantic makes of a function with these parameters that returns its arguments."""

    def bind(**values: Any) -> dict[str, Any]:
        return values

    bind.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    bind.__annotations__ = {p.name: p.annotation for p in parameters}
    return TypeAdapter(bind)  # type: ignore[arg-type]


class _UntitledSchema(GenerateJsonSchema):
    """Without the titles, which repeat the names and cost tokens."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _problem(error: Mapping[str, Any]) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "missing_keyword_only_argument":
        return f"{where} is required"
    if error["type"] == "unexpected_keyword_argument":
        return f"there is no parameter {where}"
    given = repr(error["input"])
    return f"{where or 'they'}: {error['msg']}, not {given if len(given) <= 80 else given[:77] + '...'}"


def _json_object(raw: str) -> dict[str, Any]:
    try:
        value = json.loads(raw or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


__all__ = [
    "TIMEOUT_S",
    "BadArguments",
    "BadTool",
    "OnInterruption",
    "Tool",
    "ToolCall",
    "Tools",
    "as_text",
    "tool",
]
