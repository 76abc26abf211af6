"""Each turn: from the user's last sound to the bot's first, with its parts; each interruption; each pause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from statistics import mean
from typing import Any, Literal

from ..frames import (
    BotStartedSpeakingFrame,
    Frame,
    FrameDirection,
    Level,
    LLMContextFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    SentenceFrame,
    SpeechHoldFrame,
    SpeechInterruptedFrame,
    SpeechReleaseFrame,
    SpeechResumedFrame,
    SpokenAudioFrame,
    TTSAudioRawFrame,
    UserStoppedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from ..processor import Processor
from ..response import Response
from ..session import Session
from .once import Once

Outcome = Literal["finished", "interrupted", "voice interrupted", "failed", "unfinished"]


@dataclass(slots=True)
class Latency:
    """From the user's last sound to the bot's first, in ms; each part begins where the one before ends.

    Parts that did not come to pass are None. A part is 0 when it was over ahead of the one before it, as
    an answer begun on speculation is.

    Attributes:
        endpointing: From the user's last sound to the decision that the turn is over.
        transcription: To the question being put to the model.
        model: To its first text.
        sentence: To its first sentence.
        voice: To the first audio of it.
        output: To that being played.
    """

    endpointing: float | None = None
    transcription: float | None = None
    model: float | None = None
    sentence: float | None = None
    voice: float | None = None
    output: float | None = None

    @property
    def parts(self) -> dict[str, float]:
        """Those that came to pass, in order."""
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: value for name, value in values if value is not None}

    @property
    def total(self) -> float | None:
        """All of it, ms; None when nothing was played."""
        return sum(self.parts.values()) if self.output is not None else None


@dataclass(slots=True)
class TurnReport:
    """One turn of the user and the bot's answer to it.

    Attributes:
        number: Counts from 1 in a session.
        asked: What the user said or wrote.
        response_id: The answer.
        began: Loop time of the user's last sound, s; of the question where it was written.
        ended: Loop time at which the answer was over, s.
        latency: See `Latency`.
        outcome: What became of the answer; "unfinished" where the session ended before it did.
        answer: The answer's text as far as it was given to be spoken.
        heard: What the user heard of it.
        tokens: Pieces of text the model made.
    """

    number: int
    asked: str
    began: float
    ended: float = 0.0
    response_id: str = ""
    latency: Latency = field(default_factory=Latency)
    outcome: Outcome = "finished"
    answer: str = ""
    heard: str = ""
    tokens: int = 0


@dataclass(slots=True)
class InterruptionReport:
    """One interruption.

    Attributes:
        at: Loop time at which it was over, s.
        level: Full or speech-only.
        reason: As it was given.
        response_id: The answer it cut, if any.
        heard: What the user had heard of it.
        unheard: What was made of it and not heard.
        silence_ms: From the cause (speech onset, click, call) to the voice being silent: held, or stopped.
        decision_ms: From the cause to the decision, at which everything stopped.
        saved_tokens: How many more pieces of text the model would have made, if this answer had become as
            long as the session's others; an estimate.
    """

    at: float
    level: Level
    reason: str
    response_id: str | None
    heard: str
    unheard: str
    silence_ms: float
    decision_ms: float
    saved_tokens: int = 0


@dataclass(slots=True)
class PauseReport:
    """One pause of the voice, for a sound that did not stop it in the end.

    Attributes:
        at: Loop time at which the voice went on, s.
        reason: Why it did, as the policy says: "noise", "backchannel", "background" and so on.
        ms: How long it had been held; for an interruption that came to nothing, how long it had been silent.
        resumed: It was such an interruption: the rest of the answer is said anew.
    """

    at: float
    reason: str
    ms: float
    resumed: bool = False


class Listener:
    """Takes the reports it has a method of its own for; none may raise."""

    def turn(self, report: TurnReport) -> None:
        """A turn is over: the answer has been said or cut off."""

    def interruption(self, report: InterruptionReport) -> None:
        """An interruption is over."""

    def pause(self, report: PauseReport) -> None:
        """The voice paused and goes on."""


class Turns:
    """Watches a session and reports its turns and interruptions.

    Args:
        session: It is observed from now on.
        listeners: Who gets the reports, in this order.
    """

    def __init__(self, session: Session, *listeners: Listener) -> None:
        self._listeners = listeners
        self._clock = asyncio.get_running_loop().time
        self._once = Once()
        self._count = 0
        # Of the user's turn: when the last sound was, and when the turn was taken as over.
        self._silent_since: float | None = None
        self._ended_at: float | None = None
        self._asked: _Turn | None = None  # put to the model, not begun to be answered
        self._turns: dict[str, _Turn] = {}  # being answered, by response id
        self._cut: list[_Turn] = []  # finished by an interruption whose report is about to come
        self._held_since: float | None = None
        self._silenced_since: float | None = None  # by the last interruption
        self._lengths: list[int] = []  # of answers the model finished, in pieces of text
        self._session = session
        session.observe(self._observe)

    def _observe(self, frame: Frame, direction: FrameDirection, processor: Processor) -> None:
        note = _NOTED.get(type(frame))
        if note is not None and self._once.first(frame):
            note(self, frame, processor.response)

    # The user --------------------------------------------------------------------------------------

    def _fell_silent(self, frame: VADUserStoppedSpeakingFrame, response: Response | None) -> None:
        self._silent_since = self._clock() - frame.stop_secs

    def _turn_ended(self, frame: UserStoppedSpeakingFrame, response: Response | None) -> None:
        self._ended_at = self._clock()

    def _put_question(self, frame: LLMContextFrame, response: Response | None) -> None:
        now = self._clock()
        self._count += 1
        began = now if self._silent_since is None else self._silent_since
        ended = now if self._ended_at is None else self._ended_at
        self._silent_since = self._ended_at = None
        report = TurnReport(self._count, _question(frame), began)
        self._asked = _Turn(report, began)
        self._asked.reach("endpointing", ended)
        self._asked.reach("transcription", now)

    # The answer ------------------------------------------------------------------------------------

    def _begin(self, frame: LLMFullResponseStartFrame, response: Response | None) -> None:
        turn, self._asked = self._asked, None
        if turn is None or response is None or response.finished:
            return
        turn.report.response_id, turn.response = response.id, response
        self._turns[response.id] = turn
        response.on_finished.append(self._finish)

    def _text(self, frame: LLMTextFrame, response: Response | None) -> None:
        if turn := self._turn_of(response):
            turn.report.tokens += 1
            turn.reach("model", self._clock())

    def _sentence(self, frame: SentenceFrame, response: Response | None) -> None:
        if turn := self._turn_of(response):
            turn.reach("sentence", self._clock())

    def _audio(self, frame: TTSAudioRawFrame, response: Response | None) -> None:
        if turn := self._turn_of(response):
            turn.reach("voice", self._clock())

    def _sound(self, frame: BotStartedSpeakingFrame, response: Response | None) -> None:
        for turn in self._turns.values():
            if turn.report.latency.voice is not None and turn.report.latency.output is None:
                turn.reach("output", self._clock())
                return

    def _finish(self, response: Response) -> None:
        turn = self._turns.pop(response.id)
        if response.silenced and turn.level is None:
            self._cut.append(turn)
        else:
            self._report(turn, response)

    def _report(self, turn: _Turn, response: Response) -> None:
        report = turn.report
        report.ended = self._clock()
        report.answer, report.heard = response.text, response.heard
        if response.error is not None:
            report.outcome = "failed"
        elif turn.level is not None:
            report.outcome = "interrupted" if turn.level is Level.FULL else "voice interrupted"
        elif not response.complete or (self._session.voices and response.unheard.strip()):
            report.outcome = "unfinished"
        if response.complete and response.error is None:
            self._lengths.append(report.tokens)
        for listener in self._listeners:
            listener.turn(report)

    def _turn_of(self, response: Response | None) -> _Turn | None:
        return self._turns.get(response.id) if response is not None else None

    # Interruptions ---------------------------------------------------------------------------------

    def _hold(self, frame: SpeechHoldFrame, response: Response | None) -> None:
        self._held_since = self._clock()

    def _release(self, frame: SpeechReleaseFrame, response: Response | None) -> None:
        since, self._held_since = self._held_since, None
        self._went_on(since, frame.reason)

    def _resumed(self, frame: SpeechResumedFrame, response: Response | None) -> None:
        self._went_on(self._silenced_since, frame.reason, resumed=True)

    def _went_on(self, since: float | None, reason: str, *, resumed: bool = False) -> None:
        if since is None:
            return
        now = self._clock()
        report = PauseReport(now, reason, 1000 * (now - since), resumed)
        for listener in self._listeners:
            listener.pause(report)

    def _interrupted(self, frame: SpeechInterruptedFrame, response: Response | None) -> None:
        now = self._clock()
        held_ms = 0.0 if self._held_since is None else 1000 * (now - self._held_since)
        self._silenced_since = now - held_ms / 1000
        self._held_since = None
        cut, self._cut = self._cut, []
        for turn in (*cut, *self._turns.values()):
            if turn.response is not None and turn.response.silenced:
                turn.level = turn.level or frame.level
        report = InterruptionReport(
            at=now,
            level=frame.level,
            reason=frame.reason,
            response_id=frame.response_id,
            heard=frame.heard,
            unheard=frame.unheard,
            silence_ms=max(0.0, frame.ms - held_ms),
            decision_ms=frame.ms,
            saved_tokens=sum(map(self._saved, cut)),
        )
        for listener in self._listeners:
            listener.interruption(report)
        for turn in cut:
            if turn.response is not None:
                self._report(turn, turn.response)

    def _saved(self, turn: _Turn) -> int:
        if not self._lengths or turn.response is None or turn.response.complete:
            return 0
        return max(0, round(mean(self._lengths)) - turn.report.tokens)


@dataclass(slots=True, eq=False)
class _Turn:
    """A turn that is not over."""

    report: TurnReport
    reached: float  # loop time at which the last part ended, s
    response: Response | None = None
    level: Level | None = None  # of the interruption that cut its answer

    def reach(self, part: str, at: float) -> None:
        """A part is over, if it was not before."""
        if getattr(self.report.latency, part) is None:
            setattr(self.report.latency, part, max(0.0, 1000 * (at - self.reached)))
            self.reached = max(self.reached, at)


def _question(frame: LLMContextFrame) -> str:
    messages = frame.context.messages
    last: Any = messages[-1] if messages else {}
    content = last.get("content") if isinstance(last, dict) else None
    return content if isinstance(content, str) else ""


_NOTED: dict[type[Frame], Callable[[Turns, Any, Response | None], None]] = {
    VADUserStoppedSpeakingFrame: Turns._fell_silent,
    UserStoppedSpeakingFrame: Turns._turn_ended,
    LLMContextFrame: Turns._put_question,
    LLMFullResponseStartFrame: Turns._begin,
    LLMTextFrame: Turns._text,
    SentenceFrame: Turns._sentence,
    TTSAudioRawFrame: Turns._audio,
    SpokenAudioFrame: Turns._audio,
    BotStartedSpeakingFrame: Turns._sound,
    SpeechHoldFrame: Turns._hold,
    SpeechReleaseFrame: Turns._release,
    SpeechResumedFrame: Turns._resumed,
    SpeechInterruptedFrame: Turns._interrupted,
}
