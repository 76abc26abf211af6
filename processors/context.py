"""The conversation as the model sees it: what the user said and what of the answers was heard."""

from __future__ import annotations

from typing import Any, cast

from pipecat.frames.frames import LLMMessagesAppendFrame
from pipecat.processors.aggregators.llm_context import LLMContext

from ..pipeline import Level, Processor, handles
from ..pipeline.frames import (
    LLMContextFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    SpeechInterruptedFrame,
    TranscriptionFrame,
    TTSSpeakFrame,
    UserStoppedSpeakingFrame,
)
from .say import as_answer

# How an answer that was cut off ends in the context. A mark in words ("[interrupted]") is worse: a small
# model takes to saying it.
INTERRUPTED_MARK = "—"
SPEECH_STOPPED_MARK = "— (voice stopped by the user; the rest was shown as text:)"
INTERRUPTED_NOTE = 'Where an earlier answer of yours ends in "—", the user interrupted you and heard no more.'


class Context:
    """The messages of one conversation, and the two processors that keep them.

    Put `user` right before the LLM and `assistant` right behind it.

    Args:
        instructions: The system prompt; what a cut-off answer looks like is added to it.

    Attributes:
        llm_context: Pipecat's context object, as carried by LLMContextFrames.
    """

    def __init__(self, instructions: str = "You are a helpful voice assistant.") -> None:
        self.llm_context = LLMContext([{"role": "system", "content": f"{instructions} {INTERRUPTED_NOTE}"}])
        self.user = UserContext(self.llm_context)
        self.assistant = AssistantContext(self.llm_context)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages in OpenAI's format; the list is live."""
        return cast("list[dict[str, Any]]", self.llm_context.messages)


class UserContext(Processor):
    """Adds each turn of the user to the context and asks for an answer."""

    def __init__(self, context: LLMContext) -> None:
        self._context = context
        self._said: list[str] = []  # transcripts of the turn that is not over

    @handles(TranscriptionFrame)
    def hear(self, frame: TranscriptionFrame) -> None:
        self._said.append(frame.text)
        self.push(frame)

    @handles(UserStoppedSpeakingFrame)
    def answer(self, frame: UserStoppedSpeakingFrame) -> None:
        self.push(frame)
        if self._said:
            self._context.add_message({"role": "user", "content": " ".join(self._said)})
            self._said.clear()
            self.push(LLMContextFrame(self._context))

    @handles(LLMMessagesAppendFrame)
    def append(self, frame: LLMMessagesAppendFrame) -> None:
        """Typed input, or whatever an application adds."""
        self._context.add_messages(frame.messages)
        if frame.run_llm:
            self.push(LLMContextFrame(self._context))


class AssistantContext(Processor):
    """Adds each answer to the context and, when it is interrupted, leaves in it what was heard."""

    def __init__(self, context: LLMContext) -> None:
        self._context = context
        # Answers that an interruption may still shorten, by response id; written here alone.
        self._open: dict[str, dict[str, Any]] = {}

    @handles(LLMFullResponseStartFrame)
    def begin(self, frame: LLMFullResponseStartFrame) -> None:
        response = self.response
        if response is not None:
            # An answer that was heard to its end, or replaced, can no longer change.
            self._open = {response.id: {"role": "assistant", "content": ""}}
        self.push(frame)

    @handles(LLMTextFrame)
    def add(self, frame: LLMTextFrame) -> None:
        message = self._open.get(self.response.id) if self.response is not None else None
        if message is not None and frame.append_to_context:
            if not message["content"]:
                self._context.add_message(cast("Any", message))
            message["content"] += frame.text
        self.push(frame)

    @handles(TTSSpeakFrame)
    def say(self, frame: TTSSpeakFrame) -> None:
        """A given text is an answer like any other."""
        start, text, end = as_answer(frame)
        with self.session.respond(interruptible=frame.interruptible):
            self.begin(start)
            self.add(text)
            self.push(end)

    @handles(SpeechInterruptedFrame)
    def cut(self, frame: SpeechInterruptedFrame) -> None:
        message = self._open.get(frame.response_id or "")
        if message is None or not message["content"]:
            return
        heard = frame.heard.rstrip()
        if frame.level is Level.SPEECH:
            rest = message["content"][len(frame.heard) :]
            message["content"] = f"{heard}{SPEECH_STOPPED_MARK}{rest}"
        elif heard:
            message["content"] = heard + INTERRUPTED_MARK
        else:
            messages = [m for m in self._context.messages if m is not message]
            self._context.set_messages(messages)
        if frame.level is Level.FULL:
            self._open.clear()
