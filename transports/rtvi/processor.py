"""The processor that tells a client what happens in the session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

from pipecat.frames.frames import (
    FunctionCallCancelFrame,
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    FunctionCallsStartedFrame,
    LLMConfigureOutputFrame,
    MetricsFrame,
    UserBackchannelFrame,
    UserMuteStartedFrame,
    UserMuteStoppedFrame,
)
from pipecat.processors.frameworks.rtvi.frames import (
    RTVIServerMessageFrame,
    RTVIUICommandFrame,
    RTVIUIJobGroupFrame,
)

from ...pipeline import Level, Processor, Response, SpeechInterruptedFrame, handles
from ...pipeline.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ErrorFrame,
    Frame,
    FrameDirection,
    InterimTranscriptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    SentenceFrame,
    SpeechHoldFrame,
    SpeechReleaseFrame,
    SpeechResumedFrame,
    TranscriptionFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from ...pipeline.observing import InterruptionReport, Listener, Once, PauseReport, TurnReport
from ..playout import Playout
from .bot_output import BotOutput
from .messages import Channel, Message, about, as_json
from .metrics import grouped
from .requests import Requests


@dataclass(slots=True, eq=False)
class Answer:
    """What the client was told of one answer.

    Attributes:
        text: What the language model has made of it.
        given: How much of the text has left for the voice, in characters.
        text_only: What is left of it will not be spoken.
        generating: `bot-llm-started` was sent, its end was not.
        voicing: `bot-tts-started` was sent, its end was not.
    """

    response: Response
    text: str = ""
    given: int = 0
    text_only: bool = False
    generating: bool = True
    voicing: bool = False


class RTVI(Requests, Listener):
    """Tells a client what happens in the session, and does what the client asks.

    It belongs behind the LLM and before the TTS, where an answer's text passes as it is generated.
    What does not come by here (tool calls, metrics, errors, holds, speech) it observes being pushed.

    Args:
        channel: The client.
        playout: The output's, if the client is to report how late it plays.
        report_calls: What the client is told of tool calls, by the tool's name: "disabled" (nothing),
            "none" (a call's id), "name", "arguments" or "full" (the result too). "*" is for all others;
            without it that is "none".

    Raises:
        ValueError: There is no such level.
    """

    def __init__(
        self,
        channel: Channel,
        playout: Playout | None = None,
        *,
        report_calls: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(channel, playout, report_calls=report_calls)
        self._output = BotOutput(self.send)
        self._once = Once()
        self._state = "listening"
        self._state_id: str | None = None  # the answer that the state is about
        self._speaking = False
        self._spoken_id: str | None = None  # the answer that sounds, or sounded last
        self._answers: dict[str, Answer] = {}  # begun; finished ones leave when the next one begins
        self._answer: Response | None = None  # the last one begun, while it may still be said
        self._has_words = False  # of `_answer`, to be spoken
        self._text_only = False  # of answers that begin now, as the client asked
        self._heard = ""  # of the response whose words were heard last
        self._heard_id: str | None = None

    async def start(self) -> None:
        await super().start()
        self.session.observe(self._observe)

    # What the user does ----------------------------------------------------------------------------

    # Not observed: what the user says reaches this place only if it counts, as `BargeIn` decides.
    @handles(TranscriptionFrame, InterimTranscriptionFrame)
    def transcription(
        self, frame: TranscriptionFrame | InterimTranscriptionFrame, direction: FrameDirection
    ) -> None:
        final = isinstance(frame, TranscriptionFrame)
        said = {"text": frame.text, "user_id": frame.user_id, "timestamp": frame.timestamp, "final": final}
        self.send("user-input", {**said, "input_type": "transcription"})
        self.send("user-transcription", said)
        self.push(frame, direction)

    @handles(UserBackchannelFrame)
    def backchannel(self, frame: UserBackchannelFrame) -> None:
        said = {"text": frame.text, "user_id": frame.user_id, "timestamp": frame.timestamp, "final": True}
        self.send("user-input", {**said, "input_type": "backchannel"})
        self.send("server-message", {"type": "backchannel", "text": frame.text})
        self.push(frame)

    @handles(UserStartedSpeakingFrame)
    def user_started(self, frame: UserStartedSpeakingFrame, direction: FrameDirection) -> None:
        self.send("user-started-speaking")
        self.push(frame, direction)

    @handles(UserStoppedSpeakingFrame)
    def user_stopped(self, frame: UserStoppedSpeakingFrame, direction: FrameDirection) -> None:
        self.send("user-stopped-speaking")
        self.push(frame, direction)

    # Observed: this is all speech, whether it counts or not.
    def _tell_sound_began(self, frame: VADUserStartedSpeakingFrame) -> None:
        self.send("vad-user-started-speaking", {"ago_ms": round(frame.start_secs * 1000)})

    def _tell_sound_ended(self, frame: VADUserStoppedSpeakingFrame) -> None:
        self.send("vad-user-stopped-speaking", {"ago_ms": round(frame.stop_secs * 1000)})

    def _tell_muted(self, frame: UserMuteStartedFrame) -> None:
        self.send("user-mute-started")

    def _tell_unmuted(self, frame: UserMuteStoppedFrame) -> None:
        self.send("user-mute-stopped")

    def _tell_question(self, frame: LLMContextFrame) -> None:
        """The last message, if it is the user's."""
        last: Any = frame.context.messages[-1] if frame.context.messages else None
        if not isinstance(last, dict) or last.get("role") != "user":
            return
        content = last.get("content")
        if isinstance(content, list):
            content = " ".join(part["text"] for part in content if "text" in part)
        if content:
            self.send("user-llm-text", {"text": content})

    # The answer's text -----------------------------------------------------------------------------

    @handles(LLMConfigureOutputFrame)
    def configure_output(self, frame: LLMConfigureOutputFrame) -> None:
        self._text_only = frame.skip_tts

    @handles(LLMFullResponseStartFrame)
    def response_started(self, frame: LLMFullResponseStartFrame) -> None:
        response = self.response
        self._answer, self._has_words = response, False
        self._answers = {i: a for i, a in self._answers.items() if not a.response.finished}
        if response is not None:
            self._answers[response.id] = Answer(response, text_only=self._text_only)
            response.on_finished.append(self._answer_over)
        interruptible = response is None or response.interruptible
        self.send("bot-llm-started", {"interruptible": interruptible, **self._about_response()})
        self._update_state()
        self.push(frame)

    @handles(LLMTextFrame)
    def response_text(self, frame: LLMTextFrame) -> None:
        answer = self._answer_of(self.response)
        if answer is not None:
            answer.text += frame.text
        frame.skip_tts = frame.skip_tts or self._text_only
        self._has_words = self._has_words or not (frame.skip_tts or frame.text.isspace())
        self.send("bot-llm-text", {"text": frame.text, **self._about_response()})
        self.push(frame)

    @handles(LLMFullResponseEndFrame)
    def response_ended(self, frame: LLMFullResponseEndFrame) -> None:
        self.push(frame)
        answer = self._answer_of(self.response)
        if answer is not None:
            self._end_text(answer)
        else:
            self.send("bot-llm-stopped", self._about_response())
        if not (self._has_words and self.session.voices):
            self._answer = None  # nothing of it will be said
        self._update_state()

    def _answer_over(self, response: Response) -> None:
        """Also of an answer that was never heard; of one that was cut, the report tells."""
        if response is self._answer and not response.silenced:
            self._update_state()

    def _end_text(self, answer: Answer) -> None:
        """No more text will come of an answer: tell it, and before that what nobody will speak."""
        if not answer.generating:
            return
        answer.generating = False
        if answer.text_only or not self.session.voices:
            self._show(answer.response.id, answer.text[answer.given :])
        self.send("bot-llm-stopped", about(answer.response.id))

    def _show(self, response_id: str, text: str) -> None:
        self._output.show(response_id, text)
        if text.strip():
            self.send("bot-transcription", {"text": text.strip(), **about(response_id)})

    # The answer's voice ----------------------------------------------------------------------------

    def _tell_sentence(self, frame: SentenceFrame) -> None:
        answer = self._answer_of(self.response)
        if answer is not None and not (answer.text_only or answer.response.silenced):
            answer.given = frame.start + len(frame.text)
            self._output.add(answer.response.id, frame.text, frame.start)
            self.send("bot-transcription", {"text": frame.text.strip(), **about(answer.response.id)})

    def _tell_voice_started(self, frame: TTSStartedFrame) -> None:
        answer = self._answer_of(self.response)
        if answer is not None:
            if answer.text_only or answer.response.silenced:
                return
            answer.voicing = True
        self.send("bot-tts-started", self._about_response())

    def _tell_voice_stopped(self, frame: TTSStoppedFrame) -> None:
        answer = self._answer_of(self.response)
        if answer is None:
            self.send("bot-tts-stopped", self._about_response())
        else:
            self._end_voice(answer)

    def _end_voice(self, answer: Answer) -> None:
        if answer.voicing:
            answer.voicing = False
            self.send("bot-tts-stopped", about(answer.response.id))

    @handles(BotStartedSpeakingFrame)
    def speech_started(self, frame: BotStartedSpeakingFrame, direction: FrameDirection) -> None:
        self._speaking = True
        spoken = (a.response for a in self._answers.values())
        left = (r.id for r in spoken if r.text and not r.finished and not r.silenced)
        self._spoken_id = next(left, None)
        self.send("bot-started-speaking", about(self._spoken_id))
        self._output.speaking(True)
        self._update_state()
        self.push(frame, direction)

    @handles(BotStoppedSpeakingFrame)
    def speech_stopped(self, frame: BotStoppedSpeakingFrame, direction: FrameDirection) -> None:
        self._speaking = False
        self.send("bot-stopped-speaking", about(self._spoken_id))
        self._output.speaking(False)
        self._update_state()
        self.push(frame, direction)

    def _tell_heard(self, frame: TTSTextFrame) -> None:
        if frame.context_id != self._heard_id:
            self._heard_id, self._heard = frame.context_id, ""
        self._heard += frame.text
        data = {"text": frame.text, "response_id": frame.context_id, "heard": self._heard}
        self._spoken_id = frame.context_id
        self._update_state()
        self.send("bot-tts-text", data)
        self._output.heard(frame.context_id, len(self._heard))

    def _tell_held(self, frame: SpeechHoldFrame) -> None:
        self.send("server-message", {"type": "hold", **about(self._spoken_id)})

    def _tell_released(self, frame: SpeechReleaseFrame) -> None:
        self.send("server-message", {"type": "release", "reason": frame.reason, **about(self._spoken_id)})

    def _tell_resumed(self, frame: SpeechResumedFrame) -> None:
        self.send("server-message", {"type": "resume", "reason": frame.reason, **about(self._spoken_id)})

    # Interruption ----------------------------------------------------------------------------------

    @handles(SpeechInterruptedFrame)
    def interrupted(self, frame: SpeechInterruptedFrame, direction: FrameDirection) -> None:
        cut = self._cut_by(frame)
        self.send("bot-interrupted", {"level": frame.level, **about(frame.response_id)})
        self.send(
            "server-message",
            {
                "type": "interruption",
                "level": frame.level,
                "reason": frame.reason,
                "response_id": frame.response_id,
                "cut": cut,
                "heard": frame.heard,
                "unheard": frame.unheard,
                "ms": round(frame.ms, 3),
            },
        )
        self._close(cut, frame.level)
        self._update_state()
        self.push(frame, direction)

    def _cut_by(self, report: SpeechInterruptedFrame) -> list[str]:
        """The answers that an interruption hit, oldest first; its report names that one alone."""
        if report.response_id is None:
            return []
        since = list(dropwhile(lambda id_: id_ != report.response_id, self._answers))
        return [report.response_id, *(i for i in since[1:] if self._answers[i].response.silenced)]

    def _close(self, cut: list[str], level: Level) -> None:
        """Tell the ends that the answers themselves do not reach any more."""
        self._output.cut(cut, speech_only=level is Level.SPEECH)
        for answer in (self._answers[i] for i in cut if i in self._answers):
            self._end_voice(answer)
            if level is Level.FULL:
                self._end_text(answer)
            elif not answer.generating:
                # Its text is complete, and so are the pieces, unless the voice had not got to cutting them.
                self._show(answer.response.id, answer.text[answer.given :])
            answer.text_only = True

    # Whatever else happens -------------------------------------------------------------------------

    def _observe(self, frame: Frame, direction: FrameDirection, processor: Processor) -> None:
        tell = _OBSERVED.get(type(frame))
        if tell is not None and self._once.first(frame):
            tell(self, frame)

    @handles(RTVIServerMessageFrame, RTVIUICommandFrame, RTVIUIJobGroupFrame)
    def tell_client(self, frame: Frame, direction: FrameDirection) -> None:
        """What the application pushes into the session is not observed before it gets here."""
        self._observe(frame, direction, self)
        self.push(frame, direction)

    def _tell_server_message(self, frame: RTVIServerMessageFrame) -> None:
        self.send("server-message", as_json(frame.data))

    def _tell_ui_command(self, frame: RTVIUICommandFrame) -> None:
        self.send("ui-command", {"command": frame.command, "payload": as_json(frame.payload)})

    def _tell_ui_job_group(self, frame: RTVIUIJobGroupFrame) -> None:
        if frame.data is not None:
            self.send("ui-job-group", as_json(frame.data))

    def _tell_error(self, frame: ErrorFrame) -> None:
        self.send("error", {"error": frame.error, "fatal": frame.fatal})
        if self._answer is not None and self._answer.complete:  # else it goes on, as when another model does
            self._answer = None
        self._update_state()

    def _tell_metrics(self, frame: MetricsFrame) -> None:
        if groups := grouped(frame):
            self.send("metrics", groups)

    def turn(self, report: TurnReport) -> None:
        """A listener's of `Turns`: how long the user waited for the answer's first sound."""
        total = report.latency.total
        if total is not None:
            parts = {name: _seconds(ms) for name, ms in report.latency.parts.items()}
            measured = {"processor": self.name, "value": _seconds(total), "parts": parts}
            self.send("metrics", {"stop_to_first_audio": [{**measured, **about(report.response_id)}]})

    def interruption(self, report: InterruptionReport) -> None:
        """A listener's of `Turns`: how long an interruption took."""
        if report.response_id is not None:
            parts = {"silence": _seconds(report.silence_ms), "decision": _seconds(report.decision_ms)}
            measured = {"processor": self.name, "value": parts["silence"], "parts": parts}
            saved = {"saved_tokens": report.saved_tokens, **about(report.response_id)}
            self.send("metrics", {"barge_in": [{**measured, **saved}]})

    def pause(self, report: PauseReport) -> None:
        """A listener's of `Turns`: how long the voice paused for a sound that did not stop it."""
        measured = {"processor": self.name, "value": _seconds(report.ms)}
        told = {"reason": report.reason, "resumed": report.resumed, **about(self._spoken_id)}
        self.send("metrics", {"pause": [{**measured, **told}]})

    def _tell_calls_started(self, frame: FunctionCallsStartedFrame) -> None:
        self.calls.started(frame, self._response_id)

    def _tell_call_in_progress(self, frame: FunctionCallInProgressFrame) -> None:
        self.calls.in_progress(frame, self._response_id)

    def _tell_call_cancelled(self, frame: FunctionCallCancelFrame) -> None:
        self.calls.cancelled(frame, self._response_id)

    def _tell_call_returned(self, frame: FunctionCallResultFrame) -> None:
        self.calls.returned(frame, self._response_id)

    @property
    def _response_id(self) -> str | None:
        return self.response.id if self.response is not None else None

    def _about_response(self) -> Message:
        return about(self._response_id)

    def _answer_of(self, response: Response | None) -> Answer | None:
        return self._answers.get(response.id) if response is not None else None

    def _update_state(self) -> None:
        answer = self._answer
        thinking = answer is not None and not answer.finished and not answer.silenced
        state = "speaking" if self._speaking else "thinking" if thinking else "listening"
        # It is about the answer that ended, when none goes on.
        told_about = self._state_id
        if self._speaking:
            told_about = self._spoken_id
        elif thinking and answer is not None:
            told_about = answer.id
        if (state, told_about) != (self._state, self._state_id):
            self._state, self._state_id = state, told_about
            self.send("server-message", {"type": "state", "state": state, **about(told_about)})


def _seconds(ms: float) -> float:
    return round(ms / 1000, 6)


_OBSERVED: dict[type[Frame], Callable[[RTVI, Any], None]] = {
    ErrorFrame: RTVI._tell_error,
    FunctionCallCancelFrame: RTVI._tell_call_cancelled,
    FunctionCallInProgressFrame: RTVI._tell_call_in_progress,
    FunctionCallResultFrame: RTVI._tell_call_returned,
    FunctionCallsStartedFrame: RTVI._tell_calls_started,
    LLMContextFrame: RTVI._tell_question,
    MetricsFrame: RTVI._tell_metrics,
    RTVIServerMessageFrame: RTVI._tell_server_message,
    RTVIUICommandFrame: RTVI._tell_ui_command,
    RTVIUIJobGroupFrame: RTVI._tell_ui_job_group,
    SentenceFrame: RTVI._tell_sentence,
    SpeechHoldFrame: RTVI._tell_held,
    SpeechReleaseFrame: RTVI._tell_released,
    SpeechResumedFrame: RTVI._tell_resumed,
    TTSStartedFrame: RTVI._tell_voice_started,
    TTSStoppedFrame: RTVI._tell_voice_stopped,
    TTSTextFrame: RTVI._tell_heard,
    UserMuteStartedFrame: RTVI._tell_muted,
    UserMuteStoppedFrame: RTVI._tell_unmuted,
    VADUserStartedSpeakingFrame: RTVI._tell_sound_began,
    VADUserStoppedSpeakingFrame: RTVI._tell_sound_ended,
}
