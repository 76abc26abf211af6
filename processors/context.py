"""The conversation as the model sees it: what the user said, what of the answers was heard, and the tools."""

from __future__ import annotations

import asyncio
import json
from bisect import insort_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any, cast

from loguru import logger
from pipecat.frames.frames import (
    FunctionCallResultFrame,
    FunctionCallsStartedFrame,
    LLMMessagesAppendFrame,
    LLMThoughtEndFrame,
    LLMThoughtStartFrame,
    LLMThoughtTextFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext, LLMSpecificMessage

from ..pipeline import Level, Processor, Response, handles
from ..pipeline.frames import (
    EagerEndOfTurnCancelFrame,
    EagerTranscriptionFrame,
    FrameDirection,
    LikelyEndOfTurnFrame,
    LLMContextFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    SpeculationFrame,
    SpeechInterruptedFrame,
    TranscriptionFrame,
    TTSSpeakFrame,
    UserResumedFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
)
from ..pipeline.session import INPUT
from .contents import Content, joined
from .history import Limits, Message, estimate_tokens
from .pipecat_context import PipecatContext
from .say import as_answer
from .tools import RUNNING, as_text
from .wellformed import wellformed

# How an answer that was cut off ends in the context. A mark in words ("[interrupted]") is worse: a small
# model takes to saying it.
INTERRUPTED_MARK = "—"
SPEECH_STOPPED_MARK = "— (voice stopped by the user; the rest was shown as text:)"
INTERRUPTED_NOTE = 'Where an earlier answer of yours ends in "—", the user interrupted you and heard no more.'


class Context:
    """The messages of one conversation, and the two processors that keep them.

    Put `user` right before the LLM and `assistant` right behind it. When a limit is passed the oldest
    messages go; see `Limits.trim` for what never does.

    Args:
        instructions: The system prompt; what a cut-off answer looks like is added to it.
        max_messages: Messages to keep, besides the system prompt; None for all.
        max_tokens: Tokens to keep, the system prompt included; None for all.
        count_tokens: Counts a message's tokens; by default an estimate, a quarter of its characters.
        speculate: Ask for an answer as soon as the user's turn is likely to end; `benchmarks.speculation`
            tells what that gains and what it costs.
        on_trimmed: Called with the number of messages each time some go.

    Attributes:
        llm_context: Pipecat's context object, as carried by LLMContextFrames.
    """

    def __init__(
        self,
        instructions: str = "You are a helpful voice assistant.",
        *,
        max_messages: int | None = None,
        max_tokens: int | None = None,
        count_tokens: Callable[[Message], int] = estimate_tokens,
        speculate: bool = True,
        on_trimmed: Callable[[int], None] | None = None,
    ) -> None:
        self.llm_context = PipecatContext(
            [{"role": "system", "content": f"{instructions} {INTERRUPTED_NOTE}"}]
        )
        log = _Log(self.llm_context, Limits(max_messages, max_tokens, count_tokens), on_trimmed)
        self.user = UserContext(log, speculate)
        self.assistant = AssistantContext(log)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages in OpenAI's format; the list is live."""
        return cast("list[dict[str, Any]]", self.llm_context.messages)


class _Log:
    """The messages of a context, which its two processors write.

    Attributes:
        inputs: Who waits for the answers to texts among the messages that no answer has been begun to.
    """

    def __init__(
        self, llm_context: PipecatContext, limits: Limits, on_trimmed: Callable[[int], None] | None
    ) -> None:
        self.llm_context = llm_context
        self.inputs: list[asyncio.Future[Response]] = []
        self._limits = limits
        self._on_trimmed = on_trimmed

    @property
    def messages(self) -> list[Message]:
        return cast("list[Message]", self.llm_context.messages)

    def trim(self) -> None:
        kept = self.trimmed(self.messages)
        count = len(self.messages) - len(kept)
        self.messages[:] = kept
        if count and self._on_trimmed is not None:
            self._on_trimmed(count)

    def trimmed(self, messages: list[Message]) -> list[Message]:
        return self._limits.trim(messages)


class UserContext(Processor):
    """Adds each turn of the user to the context and asks for an answer.

    When the turn is likely to end and its words are known, it asks for one with a SpeculationFrame.
    """

    def __init__(self, log: _Log, speculate: bool) -> None:
        self._log = log
        self._may_speculate = speculate
        # Of a pause in the turn: what the transcript would be, and whether the turn is likely to end.
        self._eager: EagerTranscriptionFrame | None = None
        self._likely = False
        self._asked: Message = {}  # the last question given to the model
        self._speculates = False  # a SpeculationFrame left and nothing has followed it
        self._said: list[tuple[str, str]] = []  # when and what, in the turn that is not over
        # The last question and what it was put together from; it grows until something else follows it.
        self._question: Message = {}
        self._inputs: list[tuple[str, Content]] = []

    async def stop(self) -> None:
        waits = self._log.messages and self._log.messages[-1] is self._asked
        if self._said or waits:
            logger.warning("{}: the session ended before the user's last input was answered", self.name)

    @handles(TranscriptionFrame)
    def hear(self, frame: TranscriptionFrame) -> None:
        if frame.text.strip():
            self._said.append((frame.timestamp, frame.text))
        self.push(frame)

    @handles(EagerTranscriptionFrame)
    def guess(self, frame: EagerTranscriptionFrame) -> None:
        self._eager = frame
        self._speculate()

    @handles(LikelyEndOfTurnFrame)
    def likely(self, frame: LikelyEndOfTurnFrame) -> None:
        self._likely = self._may_speculate
        self._speculate()

    @handles(UserResumedFrame, VADUserStartedSpeakingFrame)
    def speaks_on(self, frame: UserResumedFrame | VADUserStartedSpeakingFrame, way: FrameDirection) -> None:
        self._eager, self._likely = None, False
        if self._speculates:
            self._speculates = False
            self.push(EagerEndOfTurnCancelFrame())
        self.push(frame, way)

    @handles(UserStoppedSpeakingFrame)
    def answer(self, frame: UserStoppedSpeakingFrame) -> None:
        self._eager, self._likely, self._speculates = None, False, False
        self.push(frame)
        if self._said:
            for timestamp, text in self._said:
                self._ask(timestamp, text)
            self._said.clear()
            self._request()

    @handles(LLMMessagesAppendFrame)
    def append(self, frame: LLMMessagesAppendFrame) -> None:
        """Typed input, or whatever an application adds."""
        messages = [m for m in cast("list[Message]", frame.messages) if not _is_blank(m)]
        for message in messages:
            if message["role"] == "user":
                self._ask(None, message["content"])
            else:
                self._log.messages.append(message)
        if INPUT in frame.metadata:
            self._log.inputs.append(frame.metadata[INPUT])
        if frame.run_llm and (messages or not frame.messages):
            self._request()

    def _ask(self, timestamp: str | None, content: Content) -> None:
        """Add to the question, in the order of speaking; what was typed or shown counts as the latest.

        What the user says before an answer was heard is one question: models answer the last message
        alone, and the templates of some demand that user and assistant take turns.
        """
        inputs = self._open_inputs()
        if inputs is None:
            inputs = []
            self._log.messages.append({"role": "user", "content": ""})
        self._question, self._inputs = self._log.messages[-1], inputs
        self._question["content"] = _put_in(inputs, timestamp, content)

    def _open_inputs(self) -> list[tuple[str, Content]] | None:
        """What the last message was put together from, if it is a question that may grow."""
        last = self._log.messages[-1] if self._log.messages else {}
        if last and last is self._question:
            return self._inputs
        if last and last["role"] == "user":
            return [("", last["content"])]
        return None

    def _speculate(self) -> None:
        if self._eager is None or not self._likely or self._speculates or self.session.responding:
            return
        inputs = self._open_inputs()
        messages = self._log.messages[: None if inputs is None else -1]
        inputs = list(inputs or ())
        content: Content = ""
        for timestamp, text in [*self._said, (self._eager.timestamp, self._eager.text)]:
            content = _put_in(inputs, timestamp, text)
        messages = self._log.trimmed([*messages, {"role": "user", "content": content}])
        self._speculates = True
        self.push(SpeculationFrame(LLMContext(cast("list[Any]", messages))))

    def _request(self) -> None:
        self._asked = self._log.messages[-1]
        self._log.trim()
        self.push(LLMContextFrame(self._log.llm_context))


def _is_blank(message: Message) -> bool:
    """Whether it is a question without words, which providers refuse, then and in every later request."""
    content = message.get("content")
    return message["role"] == "user" and isinstance(content, str) and not content.strip()


def _put_in(inputs: list[tuple[str, Content]], timestamp: str | None, content: Content) -> Content:
    """Add to the inputs of a question where it was spoken; returns the question."""
    if timestamp is None:
        timestamp = inputs[-1][0] if inputs else ""
    if isinstance(content, str):
        content = wellformed(content)
    insort_right(inputs, (timestamp, content), key=itemgetter(0))
    return joined(content for _, content in inputs)


@dataclass
class _Part:
    """The text of an answer up to its next tool calls, and the message that holds both."""

    message: Message
    text: str = ""  # as given to be spoken
    voice_stopped_at: int | None = None  # where in `text`

    def write(self) -> None:
        """Bring the message up to date."""
        text, at = self.text, self.voice_stopped_at
        if at is not None:
            text = text[:at].rstrip() + SPEECH_STOPPED_MARK + text[at:]
        text = wellformed(text)
        if "tool_calls" not in self.message:
            self.message["content"] = text
        elif text.strip():
            self.message["content"] = text.rstrip()
        else:
            self.message.pop("content", None)


@dataclass
class _Answer:
    """An answer that an interruption may still shorten."""

    response: Response
    replies: bool  # to what is in the context; else it was given
    parts: list[_Part] = field(default_factory=list)
    lead: str = ""  # blank text that came last and is in no part: it belongs to the next
    voice_stopped: bool = False  # the rest of it is text only

    @property
    def ended(self) -> bool:
        """Whether all of it was generated and then heard or shown: nothing can shorten it any more."""
        text = "".join(part.text for part in self.parts)
        heard = self.response.heard.strip() == text.strip()
        return self.response.complete and (heard or self.voice_stopped)

    @property
    def only_shown(self) -> bool:
        """Whether it has words none of which were given to a voice, as for a client that wants text."""
        return not self.response.text and any(part.text for part in self.parts)

    def heard(self) -> list[str]:
        """What was heard of each part."""
        left = self.response.heard
        heard: list[str] = []
        for part in self.parts:
            last = part is self.parts[-1]  # a processor on the way may have made the text longer
            heard.append(left if last else left[: len(part.text)])
            left = left[len(part.text) :]
        return heard

    def add_part(self, message: Message) -> _Part:
        """Begin a part; the first text behind the end of the voice says so."""
        part, self.lead = _Part(message, self.lead), ""
        if self.voice_stopped and all(p.voice_stopped_at is None for p in self.parts):
            part.voice_stopped_at = 0
        self.parts.append(part)
        return part

    def stop_voice(self) -> None:
        """Mark where the voice stopped: in the first part that was not heard to its end."""
        self.voice_stopped = True
        spoken = [(p, len(heard)) for p, heard in zip(self.parts, self.heard(), strict=True) if p.text]
        if spoken:
            part, at = next(((p, at) for p, at in spoken if at < len(p.text)), spoken[-1])
            part.voice_stopped_at = at
            part.write()


class AssistantContext(Processor):
    """Adds answers and tool calls to the context; of an interrupted answer it leaves what was heard.

    Calls enter the context together with a result for each, which says that the call is still running
    until there is a better one. So at every moment each call has exactly one result.
    """

    def __init__(self, log: _Log) -> None:
        self._log = log
        self._answers: dict[str, _Answer] = {}  # by response id, oldest first
        self._pending: dict[str, Message] = {}  # results of calls that still run, by call id
        self._thought = ""  # the thought that is coming
        self._thinks: str | None = None  # the provider that wants it back, if one does

    @handles(LLMFullResponseStartFrame)
    def begin(self, frame: LLMFullResponseStartFrame) -> None:
        if self.response is not None:
            self._log.llm_context.begin_answer()
            self._claim_inputs(self._add_answer(self.response, replies=True))
        self.push(frame)

    @handles(LLMTextFrame)
    def add(self, frame: LLMTextFrame) -> None:
        answer = self._answers.get(self.response.id) if self.response is not None else None
        if answer is not None and frame.append_to_context:
            self._write(answer, frame.text)
        self.push(frame)

    @handles(LLMThoughtStartFrame, LLMThoughtTextFrame, LLMThoughtEndFrame)
    def think(self, frame: LLMThoughtStartFrame | LLMThoughtTextFrame | LLMThoughtEndFrame) -> None:
        if isinstance(frame, LLMThoughtStartFrame):
            self._thought, self._thinks = "", frame.llm if frame.append_to_context else None
        elif isinstance(frame, LLMThoughtTextFrame):
            self._thought += frame.text
        elif self._thinks is not None:
            thought = {"type": "thought", "text": self._thought, "signature": frame.signature}
            self._log.llm_context.note(LLMSpecificMessage(self._thinks, thought), leads=True)
        self.push(frame)

    @handles(LLMMessagesAppendFrame)
    def note(self, frame: LLMMessagesAppendFrame, direction: FrameDirection) -> None:
        """What a provider wants back with the conversation, such as Gemini's signatures."""
        notes = [m for m in frame.messages if isinstance(m, LLMSpecificMessage)]
        if len(notes) < len(frame.messages):
            self.push(frame, direction)
            return
        for note in notes:
            self._log.llm_context.note(note)

    @handles(TTSSpeakFrame)
    def say(self, frame: TTSSpeakFrame) -> None:
        """A given text is an answer like any other."""
        start, text, end = as_answer(frame)
        with self.session.respond(interruptible=frame.interruptible) as response:
            self._add_answer(response, replies=False)
            self.push(start)
            self.add(text)
            self.push(end)

    @handles(FunctionCallsStartedFrame)
    def call(self, frame: FunctionCallsStartedFrame) -> None:
        answer = self._answers.get(self.response.id) if self.response is not None else None
        messages = self._log.messages
        part = answer.parts[-1] if answer is not None and answer.parts else None
        if part is None or part.message is not messages[-1]:
            messages.append({"role": "assistant"})
            part = answer.add_part(messages[-1]) if answer is not None else _Part(messages[-1])
        part.message["tool_calls"] = [
            {
                "id": c.tool_call_id,
                "type": "function",
                "function": {"name": c.function_name, "arguments": json.dumps(c.arguments)},
            }
            for c in frame.function_calls
        ]
        part.write()
        for c in frame.function_calls:
            result = {"role": "tool", "tool_call_id": c.tool_call_id, "content": RUNNING}
            self._pending[c.tool_call_id] = result
            messages.append(result)
        self.push(frame)

    @handles(FunctionCallResultFrame)
    def returned(self, frame: FunctionCallResultFrame) -> None:
        result = self._pending.pop(frame.tool_call_id, None)
        if result is not None:
            result["content"] = _result_text(frame.result)
            self._log.trim()
        self.push(frame)

    @handles(SpeechInterruptedFrame)
    def cut(self, frame: SpeechInterruptedFrame) -> None:
        ids = list(self._answers)
        if frame.response_id not in ids:
            return
        # Answers are spoken in order: those before the first that was cut had been heard to their end.
        for response_id in ids[ids.index(frame.response_id) :]:
            answer = self._answers[response_id]
            if answer.ended or not answer.response.interruptible:
                continue
            if frame.level is Level.SPEECH:
                if not answer.only_shown:
                    answer.stop_voice()
            else:
                self._cut(answer)
                del self._answers[response_id]

    def _add_answer(self, response: Response, *, replies: bool) -> _Answer:
        # An answer that was heard to its end can no longer change.
        self._answers = {i: a for i, a in self._answers.items() if not a.response.finished}
        answer = self._answers[response.id] = _Answer(response, replies)
        return answer

    def _claim_inputs(self, answer: _Answer) -> None:
        """The answer is to all that is in the context when it, or a part of it, begins."""
        if answer.replies and not answer.response.finished:
            answer.response.on_finished += [partial(_resolve, waiting) for waiting in self._log.inputs]
            self._log.inputs.clear()

    def _write(self, answer: _Answer, text: str) -> None:
        if not self._goes_on(answer):
            if not text.strip():  # an answer without words leaves no message
                answer.lead += text
                return
            self._claim_inputs(answer)
            self._log.messages.append({"role": "assistant"})
            answer.add_part(self._log.messages[-1])
        answer.parts[-1].text += text
        answer.parts[-1].write()

    def _goes_on(self, answer: _Answer) -> bool:
        """Whether text belongs to the last part: what is said while tools run goes to what called them."""
        if not answer.parts:
            return False
        calls = answer.parts[-1].message.get("tool_calls", [])
        return not calls or any(call["id"] in self._pending for call in calls)

    def _cut(self, answer: _Answer) -> None:
        if answer.voice_stopped:  # all of it was heard or shown
            for part in answer.parts[::-1]:
                if part.text.strip():
                    part.message["content"] = part.message["content"].rstrip() + INTERRUPTED_MARK
                    return
            return
        mark = INTERRUPTED_MARK
        # Without a voice, what was shown counts as heard.
        spoken = self.session.voices and not answer.only_shown
        known = answer.heard() if spoken else [part.text for part in answer.parts]
        for part, heard in list(zip(answer.parts, known, strict=True))[::-1]:
            words = heard.rstrip()
            if words:
                part.message["content"] = words + mark
                mark = ""
            elif "tool_calls" in part.message:
                part.message.pop("content", None)
            else:
                messages = self._log.messages
                messages[:] = [m for m in messages if m is not part.message]


def _result_text(result: object) -> str:
    """What stock services' functions return may be anything."""
    try:
        return as_text(result)
    except ValueError as error:
        return f"Error: the result cannot be written as JSON: {error}"


def _resolve(waiting: asyncio.Future[Response], response: Response) -> None:
    """Give who waits for the answer to a text what became of it."""
    if waiting.done():
        return
    if response.error is not None:
        waiting.set_exception(response.error)
    else:
        waiting.set_result(response)
