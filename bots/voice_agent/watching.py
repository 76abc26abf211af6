"""One session of a `VoiceAgent`, watched: frames into events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipecat.frames.frames import (
    FunctionCallResultFrame,
    FunctionCallsStartedFrame,
    LLMMessagesAppendFrame,
    LLMThoughtTextFrame,
)

from ...pipeline import InputRejected, Level, Processor, Response, Session, handles
from ...pipeline.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ErrorFrame,
    Frame,
    FrameDirection,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    RecordingFrame,
    SentenceFrame,
    SourceFrame,
    SpeechInterruptedFrame,
    SpokenAudioFrame,
    ToolInputFrame,
    TTSAudioRawFrame,
)
from ...pipeline.observing import Once
from ...processors.context import AssistantContext
from ...transports.voice_agent.encoding import Format, encode
from ...transports.voice_agent.output import NoTranscriber
from .events import (
    Abort,
    Audio,
    AudioReceived,
    Event,
    Failed,
    ReasoningDelta,
    Source,
    SpeechChunkQueued,
    SpeechComplete,
    SpeechInterrupted,
    SpeechStart,
    Text,
    TextDelta,
    ToolCall,
    ToolInputDelta,
    ToolInputStart,
    ToolResult,
    Transcription,
)

Emit = Callable[[Event], None]

RECORDING_BYTES_S = 32_000  # mono s16le at 16 kHz
DEAF = "the agent hears nothing: give it a transcription_model"
KEPT = 16  # more answers than can finish before who waits for one is told of it


class InterruptedEarly(InputRejected):
    """Raised to who waits for an answer that was interrupted before it was begun."""


class Inputs(Processor):
    """Tells what the user says and writes, whichever way it came. It belongs behind the source.

    Args:
        emit: Takes the events.
        hears: There is something to transcribe recordings.

    Attributes:
        asked: There is a question that no answer has been begun to. Taken back by `Watch`.
    """

    def __init__(self, emit: Emit, *, hears: bool) -> None:
        self._emit = emit
        self._hears = hears
        self.asked = False

    @handles(LLMMessagesAppendFrame)
    def wrote(self, frame: LLMMessagesAppendFrame) -> None:
        for message in frame.messages:
            if isinstance(message, dict) and message["role"] == "user":
                self._emit(Text("user", str(message["content"])))
        self.asked = self.asked or bool(frame.run_llm)
        self.push(frame)

    @handles(RecordingFrame)
    def said(self, frame: RecordingFrame) -> None:
        if not self._hears:
            frame.transcript.set_exception(
                NoTranscriber("the agent hears nothing: give it a transcription_model")
            )
            return
        size = len(frame.audio)
        self._emit(AudioReceived(size, size / RECORDING_BYTES_S))
        frame.transcript.add_done_callback(self._understood)
        self.push(frame)

    def _understood(self, transcript: asyncio.Future[str]) -> None:
        if not transcript.cancelled() and transcript.exception() is None and transcript.result():
            self._emit(Transcription(transcript.result()))


@dataclass(slots=True, eq=False)
class Answer:
    """What was told of an answer.

    Attributes:
        given: The application gave its text; no model made it.
        sentences: Where each piece that is on its way to the voice ends in the answer's text.
        told: The event `text` was sent.
        speaks: The event `speech_start` was sent.
        level: Of the last interruption that hit it.
        audio: Of a given text, all of it so far.
    """

    response: Response
    given: bool
    text: str = ""
    sentences: list[int] = field(default_factory=list)
    told: bool = False
    speaks: bool = False
    level: Level | None = None
    audio: list[TTSAudioRawFrame] = field(default_factory=list)


class Watch:
    """Observes a session and emits what happens in it.

    Args:
        session: It is observed from now on.
        inputs: In its pipeline.
        emit: Takes the events. It may interrupt the session, but is never called before all is stopped.
        audio_format: Of `audio` events.

    Attributes:
        speaking: The bot's voice is heard.
        unanswered: Who waits for answers that have not been begun.
        ending: The session's tasks are over, or about to be. Written by the agent.
    """

    def __init__(self, session: Session, inputs: Inputs, emit: Emit, audio_format: Format) -> None:
        self.speaking = False
        self.unanswered: set[asyncio.Future[Response]] = set()
        self.ending = False
        self._audio_format = audio_format
        self._session = session
        self._inputs = inputs
        self._emit = emit
        self._answers: dict[str, Answer] = {}  # begun and not finished
        self._cut: list[Answer] = []  # finished by an interruption whose report is about to come
        self._finished: deque[Answer] = deque(maxlen=KEPT)  # the last ones
        self._callers: dict[str, str | None] = {}  # the answers that calls without a result belong to
        self._queued = 0  # sentences so far
        self._once = Once()
        session.observe(self._observe)

    @property
    def thinking(self) -> bool:
        """Whether the model is to answer, or does."""
        return self._inputs.asked or any(not a.response.complete for a in self._answers.values())

    @property
    def pending_chunks(self) -> int:
        """How many pieces of answers are queued for the voice, or are being said."""
        spoken = [a for a in self._answers.values() if not a.response.silenced]
        return sum(end > a.response.heard_to for a in spoken for end in a.sentences)

    def reject(self, reason: InputRejected) -> None:
        """Tell who waits for answers that have not been begun that they will not be."""
        for waiting in self.unanswered:
            if not waiting.done():
                waiting.set_exception(reason)
        self.unanswered.clear()

    def text_of(self, response: Response) -> str:
        """The text of an answer that was finished just now; what was heard of it if it was cut off."""
        answer = next(answer for answer in self._finished if answer.response is response)
        return self._heard(answer) if answer.level is Level.FULL else answer.text

    def _observe(self, frame: Frame, direction: FrameDirection, processor: Processor) -> None:
        note = _NOTED.get(type(frame))
        if note is not None and self._once.first(frame):
            note(self, frame, processor)

    # Answers ---------------------------------------------------------------------------------------

    def _begin(self, frame: LLMFullResponseStartFrame, processor: Processor) -> None:
        response = processor.response
        if response is None or response.finished:
            return
        given = isinstance(processor, AssistantContext)  # which makes an answer of what it is to say
        if not given:
            self._inputs.asked = False
            self.unanswered.clear()
        self._answers[response.id] = Answer(response, given)
        response.on_finished.append(self._finish)

    def _add(self, frame: LLMTextFrame, processor: Processor) -> None:
        if answer := self._of(processor.response):
            answer.text += frame.text
            self._emit(TextDelta(answer.response.id, frame.text))

    def _reason(self, frame: LLMThoughtTextFrame, processor: Processor) -> None:
        if answer := self._of(processor.response):
            self._emit(ReasoningDelta(answer.response.id, frame.text))

    def _end(self, frame: LLMFullResponseEndFrame, processor: Processor) -> None:
        if answer := self._of(processor.response):
            if not answer.given:  # it is also to what was asked before its first word
                self._inputs.asked = False
            # What failed, if anything did, is known once the work that pushes this is done.
            asyncio.get_running_loop().call_soon(self._complete, answer)

    def _complete(self, answer: Answer) -> None:
        if not answer.told and answer.response.error is None and not answer.response.finished:
            self._tell(answer)

    def _tell(self, answer: Answer, *, interrupted: bool = False) -> None:
        answer.told = True
        heard = self._heard(answer) if interrupted else ""
        self._emit(Text("assistant", answer.text, answer.response.id, heard, interrupted))

    def _heard(self, answer: Answer) -> str:
        return answer.response.heard if self._session.voices else answer.text  # which was shown

    def _finish(self, response: Response) -> None:
        answer = self._answers.pop(response.id)
        self._finished.append(answer)
        if response.silenced and answer.level is None:
            self._cut.append(answer)
            return
        if response.complete and response.error is None and not answer.told:
            self._tell(answer)
        if answer.speaks and not response.silenced and response.complete and not response.unheard.strip():
            self._emit(SpeechComplete(not answer.given, answer.text, response.id))
            if answer.given and not self.ending:
                self._session.tasks.create(self._tell_audio(answer), "voice agent audio")

    async def _tell_audio(self, answer: Answer) -> None:
        pcm, rate = b"".join(frame.audio for frame in answer.audio), answer.audio[0].sample_rate
        data = await asyncio.to_thread(encode, pcm, rate, self._audio_format)
        self._emit(Audio(data, self._audio_format, answer.response.id))

    def _of(self, response: Response | None) -> Answer | None:
        return self._answers.get(response.id) if response is not None else None

    def _name_source(self, frame: SourceFrame, processor: Processor) -> None:
        response_id = processor.response.id if processor.response is not None else None
        self._emit(Source(frame.url, frame.title, response_id))

    # Tools -----------------------------------------------------------------------------------------

    def _write_call(self, frame: ToolInputFrame, processor: Processor) -> None:
        if frame.text:
            self._emit(ToolInputDelta(frame.tool_call_id, frame.text))
        else:
            self._emit(ToolInputStart(frame.tool_call_id, frame.function_name))

    def _call(self, frame: FunctionCallsStartedFrame, processor: Processor) -> None:
        response_id = processor.response.id if processor.response is not None else None
        for call in frame.function_calls:
            self._callers[call.tool_call_id] = response_id
            name, given = call.function_name, dict(call.arguments)
            self._emit(ToolCall(name, call.tool_call_id, given, response_id))

    def _return(self, frame: FunctionCallResultFrame, processor: Processor) -> None:
        caller = self._callers.pop(frame.tool_call_id, None)
        name, call_id = frame.function_name, frame.tool_call_id
        self._emit(ToolResult(name, call_id, frame.result, frame.error, caller))

    # Speech ----------------------------------------------------------------------------------------

    def _queue(self, frame: SentenceFrame, processor: Processor) -> None:
        answer = self._of(processor.response)
        if answer is not None and not answer.response.silenced:
            answer.sentences.append(frame.start + len(frame.text.rstrip()))
            self._queued += 1
            self._emit(SpeechChunkQueued(self._queued, frame.text.strip(), answer.response.id))

    def _sound(self, frame: TTSAudioRawFrame, processor: Processor) -> None:
        answer = self._of(processor.response)
        if answer is None or answer.response.silenced:
            return
        if answer.given:
            answer.audio.append(frame)
        if not answer.speaks:
            answer.speaks = True
            text = answer.text if answer.given else ""
            self._emit(SpeechStart(not answer.given, text, answer.response.id))

    def _bot_started(self, frame: BotStartedSpeakingFrame, processor: Processor) -> None:
        self.speaking = True

    def _bot_stopped(self, frame: BotStoppedSpeakingFrame, processor: Processor) -> None:
        self.speaking = False

    def _interrupted(self, report: SpeechInterruptedFrame, processor: Processor) -> None:
        full = report.level is Level.FULL
        cut, self._cut = self._cut, []
        for answer in (*cut, *self._answers.values()):
            if answer.response.silenced:
                answer.level = report.level
        if full:
            self._inputs.asked = False
            self.reject(InterruptedEarly("it was interrupted before an answer was begun"))
        said = report.response_id, report.heard, report.unheard, report.ms
        self._emit(SpeechInterrupted(report.reason, report.level, *said))
        for answer in cut:
            if not answer.told:
                self._emit(Abort(report.reason, answer.response.id))
                self._tell(answer, interrupted=True)

    def _failed(self, frame: ErrorFrame, processor: Processor) -> None:
        self._emit(Failed(frame.error, frame.exception))


_NOTED: dict[type[Frame], Callable[[Watch, Any, Processor], None]] = {
    BotStartedSpeakingFrame: Watch._bot_started,
    BotStoppedSpeakingFrame: Watch._bot_stopped,
    ErrorFrame: Watch._failed,
    FunctionCallResultFrame: Watch._return,
    FunctionCallsStartedFrame: Watch._call,
    LLMFullResponseEndFrame: Watch._end,
    LLMFullResponseStartFrame: Watch._begin,
    LLMTextFrame: Watch._add,
    LLMThoughtTextFrame: Watch._reason,
    SentenceFrame: Watch._queue,
    SourceFrame: Watch._name_source,
    ToolInputFrame: Watch._write_call,
    SpeechInterruptedFrame: Watch._interrupted,
    SpokenAudioFrame: Watch._sound,
    TTSAudioRawFrame: Watch._sound,
}
