"""Whether the user's speech interrupts the bot: a state machine without I/O and without a clock.

Whoever drives it tells it what happens and when, keeps `bot` and `level_db` up to date, calls `tick` at
`deadline`, and does what the decisions say. Policies, each a function of what is known at one moment, say
what they want; the machine sees to it that no voice stays held and that no word is lost on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

# While something is undecided, policies are asked again this often, s.
TICK_S = 0.02

# A sign of speech that nothing has confirmed after so long was none, s. A VAD that takes longer to be sure
# than this after its first sign makes holds flicker.
CONFIRM_S = 0.2

# When the user has fallen silent and the recogniser tells no words, there are none after so long, s.
PATIENCE_S = 0.4

# Further readings are waited for longer, s: the first one's words are known, and without them they interrupt.
READINGS_PATIENCE_S = 0.7

# No hold lasts longer, s, whatever the policies say.
LONGEST_HOLD_S = 5.0


class Phase(StrEnum):
    """What the bot is doing."""

    IDLE = "idle"
    THINKING = "thinking"  # an answer is being made and none of it has sounded
    SPEAKING = "speaking"


class Verdict(StrEnum):
    """What is to be done.

    A policy wants one of all but RELEASE and RESUME, which follow from what went before.
    """

    HOLD = "hold"  # the voice waits until more is known
    RELEASE = "release"  # the voice goes on
    LISTEN = "listen"  # what is said counts, and the bot goes on
    IGNORE = "ignore"  # what was said does not count
    SPEECH = "speech-only"  # what is said counts, the voice stops
    FULL = "full"  # what is said counts, everything stops
    RESUME = "resume"  # the interruption came to nothing: say the rest of the answer


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict and why."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Bot:
    """The bot at one moment.

    Attributes:
        phase: What it is doing.
        spoken_s: How long it has been speaking, s.
        rest_s: How much is left to say, s, if the answer's text is complete.
        critical: What it says must not be interrupted.
        tool_running: A tool is running.
        replies: How many it has finished saying.
    """

    phase: Phase = Phase.IDLE
    spoken_s: float = 0.0
    rest_s: float | None = None
    critical: bool = False
    tool_running: bool = False
    replies: int = 0


@dataclass(frozen=True, slots=True)
class Speech:
    """One stretch of the user's speech, as far as it is known.

    Attributes:
        seconds: From its onset to now, or to the silence that has set in.
        silent_s: How long the user has been silent since, s; 0 while speaking.
        confirmed: The VAD is sure that it is speech.
        ended: It is over, and its words are known or there are none.
        words: What was said so far in this turn.
        words_s: How much speech there was when they were told, s: they cover no more than that.
        change: How much its sound changes, bels, as `Steadiness` has it; None while that is unknown.
        again: What further readings make of this stretch, as far as they are there.
        level_db: How loud it is beside the user's usual speech; None while that is unknown.
    """

    seconds: float = 0.0
    silent_s: float = 0.0
    confirmed: bool = False
    ended: bool = False
    words: str = ""
    words_s: float = 0.0
    again: tuple[str, ...] = ()
    level_db: float | None = None
    change: float | None = None


# What one policy wants at this moment, or None if it has no opinion.
Policy = Callable[[Speech, Bot], Decision | None]


@dataclass(slots=True)
class _Overlap:
    """One stretch of speech, from its first sign to its last word."""

    onset: float
    sign_at: float  # when the last sign of speech came
    confirmed: bool = False
    silent_since: float | None = None
    stopped: bool = False  # the VAD has heard its end
    words: str = ""
    words_s: float = 0.0  # as in Speech
    complete: bool = False  # the words were told since the user fell silent
    again: tuple[str, ...] = ()  # as in Speech
    unread: int = 0  # further readings on their way
    ended: bool = False
    decided: bool = False  # the rest of it needs no decision
    interrupted: bool = False  # it has interrupted the bot

    def seconds(self, now: float) -> float:
        """How long it is."""
        until = now if self.silent_since is None else self.silent_since
        return max(0.0, until - self.onset)

    def go_on(self) -> None:
        """The user speaks on: no reading of what was said until now covers all of it."""
        self.silent_since = None
        self.complete = False
        self.unread, self.again = 0, ()


class Decider:
    """Decides on one stretch of speech after the other.

    All times are seconds on one clock and must not go back. Each method that tells of an event returns the
    decisions it leads to, in order. A hold is followed by exactly one release or interruption. A stretch
    counts from LISTEN, SPEECH or FULL on; IGNORE comes at the end of one that does not. Words that come
    later still are judged too.

    Args:
        speaking: Policies for speech while the bot speaks; the first opinion is taken, without one the
            voice is held.
        thinking: The same while it makes an answer.
        resume_s: Silence after an interruption without a word until the bot goes on, s; None for never.

    Attributes:
        bot: The bot as it is now; written by the driver.
        level_db: Loudness of this stretch, as in `Speech`; written by the driver.
        change: The same of its change.
        onset: When the last stretch of speech began.
        counts: Whether it counts; stays until the next stretch begins.
    """

    def __init__(
        self, speaking: Sequence[Policy], thinking: Sequence[Policy], resume_s: float | None = None
    ) -> None:
        self.use(speaking, thinking, resume_s)
        self.bot = Bot()
        self.level_db: float | None = None
        self.change: float | None = None
        self.onset = 0.0
        self.counts = False
        self._now = 0.0
        self._overlap: _Overlap | None = None  # under way
        self._last: _Overlap | None = None  # the one before it, in case words of it come late
        self._held_since: float | None = None  # the voice is held
        self._resume_at: float | None = None

    def use(
        self, speaking: Sequence[Policy], thinking: Sequence[Policy], resume_s: float | None = None
    ) -> None:
        """Ask other policies from now on."""
        self._policies = {Phase.SPEAKING: speaking, Phase.THINKING: thinking}
        self._resume_s = resume_s

    @property
    def held(self) -> bool:
        """Whether the bot's voice is held."""
        return self._held_since is not None

    @property
    def listening(self) -> bool:
        """Whether a stretch of speech is under way."""
        return self._overlap is not None

    @property
    def between(self) -> bool:
        """Whether speech that is heard now begins a stretch of its own."""
        return self._overlap is None or self._overlap.stopped

    @property
    def undecided(self) -> bool:
        """Whether a stretch of speech may still interrupt the bot."""
        return self._overlap is not None and not self._overlap.decided and self.bot.phase is not Phase.IDLE

    @property
    def deadline(self) -> float | None:
        """When `tick` must be called next; None while nothing can happen by itself."""
        overlap = self._overlap
        if overlap is None:
            return self._resume_at
        idle = self.bot.phase is Phase.IDLE and not self.held
        if overlap.confirmed and not overlap.stopped and (overlap.decided or idle):
            return None
        return self._now + TICK_S

    def __repr__(self) -> str:
        doing = "nothing heard" if self._overlap is None else f"hearing {self._speech(self._overlap)}"
        return f"<Decider {self.bot.phase}{', held' if self.held else ''}, {doing}>"

    # What the user does ----------------------------------------------------------------------------

    def speech_possible(self, now: float, onset: float) -> list[Decision]:
        """The first sign of speech, which began at `onset`."""
        overlap = self._current(now, onset)
        overlap.sign_at = now
        return self._judge(now)

    def speech_began(self, now: float, onset: float) -> list[Decision]:
        """The VAD is sure of it."""
        overlap = self._current(now, onset)
        overlap.confirmed = True
        overlap.go_on()
        self._resume_at = None
        return self._judge(now)

    def paused(self, now: float, since: float, *, readings: int = 0) -> list[Decision]:
        """The user fell silent at `since`, perhaps for a moment; so many further readings will be told."""
        if self._overlap is not None:
            self._overlap.silent_since = since
            self._overlap.unread = readings
        return self._judge(now)

    def resumed(self, now: float) -> list[Decision]:
        """It was for a moment."""
        if self._overlap is not None:
            self._overlap.go_on()
        return self._judge(now)

    def speech_stopped(self, now: float) -> list[Decision]:
        """The VAD is sure of the silence."""
        if self._overlap is not None:
            self._overlap.stopped = True
            if self._overlap.silent_since is None:
                self._overlap.silent_since = now
        return self._judge(now)

    def heard(self, now: float, words: str) -> list[Decision]:
        """What the user has said so far in this turn, to the last word if the user is silent."""
        self._resume_at = None
        overlap = self._overlap or self._last
        if overlap is not None:
            late = self._overlap is None and not self.counts and words != overlap.words
            overlap.words, overlap.words_s = words, overlap.seconds(now)
            overlap.complete = overlap.silent_since is not None
            self._overlap = overlap if late else self._overlap
        return self._judge(now)

    def read_again(self, now: float, words: str) -> list[Decision]:
        """What one of the further readings made of the stretch that has just ended."""
        if self._overlap is not None and self._overlap.unread:
            self._overlap.again += (words,)
            self._overlap.unread -= 1
        return self._judge(now)

    # What else happens -----------------------------------------------------------------------------

    def bot_changed(self, now: float) -> list[Decision]:
        """`bot` has changed."""
        return self._judge(now)

    def interrupted(self) -> None:
        """The bot was interrupted, by whomever: nothing is held any more, and nothing goes on by itself."""
        self._held_since = self._resume_at = None

    def tick(self, now: float) -> list[Decision]:
        """Time has passed."""
        decisions = self._judge(now)
        if self._resume_at is not None and now >= self._resume_at and self._overlap is None:
            self._resume_at = None
            if self.bot.phase is Phase.IDLE:
                decisions.append(Decision(Verdict.RESUME, "no word followed"))
        return decisions

    # Judgement -------------------------------------------------------------------------------------

    def _current(self, now: float, onset: float) -> _Overlap:
        """The stretch to which speech that is heard now belongs."""
        if self.between:
            self._overlap = self._last = _Overlap(onset, now)
            self.onset = onset
            self.counts = False
        assert self._overlap is not None
        return self._overlap

    def _judge(self, now: float) -> list[Decision]:
        if now < self._now:
            raise ValueError(f"time goes back from {self._now} to {now}; use one monotonic clock")
        self._now = now
        overlap = self._overlap
        if overlap is None:
            return []
        overlap.ended = overlap.ended or self._is_over(overlap)
        decisions: list[Decision] = []
        if not overlap.decided:
            wanted = self._wanted(overlap)
            decisions = self._carry_out(wanted, overlap)
            if overlap.ended and not self.counts:
                decisions.append(Decision(Verdict.IGNORE, wanted.reason))
        if overlap.ended:
            self._overlap = None
            if overlap.interrupted and not overlap.words and self._resume_s is not None:
                self._resume_at = now + self._resume_s
        return decisions

    def _is_over(self, overlap: _Overlap) -> bool:
        if not overlap.confirmed:
            return self._now - overlap.sign_at >= CONFIRM_S
        if overlap.silent_since is None or not overlap.stopped:
            return False
        if overlap.complete and not overlap.unread:
            return True
        patience_s = READINGS_PATIENCE_S if overlap.complete else PATIENCE_S
        return self._now - overlap.silent_since >= patience_s

    def _wanted(self, overlap: _Overlap) -> Decision:
        """What the policies want now."""
        if self.bot.phase is Phase.IDLE:
            return Decision(Verdict.LISTEN, "idle")
        speech = self._speech(overlap)
        opinions = (policy(speech, self.bot) for policy in self._policies[self.bot.phase])
        wanted = next((opinion for opinion in opinions if opinion is not None), None)
        if wanted is None:
            wanted = Decision(Verdict.HOLD, "speech" if overlap.confirmed else "possible speech")
        if wanted.verdict is Verdict.HOLD:
            if overlap.ended:
                return Decision(Verdict.IGNORE, "words" if speech.words else "noise")
            if speech.silent_s >= PATIENCE_S and not overlap.complete:
                return Decision(Verdict.IGNORE, "no words in time")
            if self._held_since is not None and self._now - self._held_since >= LONGEST_HOLD_S:
                overlap.decided = True
                return Decision(Verdict.LISTEN, "held too long")
        return wanted

    def _carry_out(self, wanted: Decision, overlap: _Overlap) -> list[Decision]:
        decisions: list[Decision] = []
        if wanted.verdict is Verdict.HOLD:
            if not self.held:
                self._held_since = self._now
                decisions.append(wanted)
        elif wanted.verdict in (Verdict.SPEECH, Verdict.FULL):
            overlap.decided = overlap.interrupted = self.counts = True
            self._held_since = None
            decisions.append(wanted)
        else:
            if self.held:
                self._held_since = None
                decisions.append(Decision(Verdict.RELEASE, wanted.reason))
            if wanted.verdict is Verdict.LISTEN and not self.counts:
                self.counts = True
                decisions.append(wanted)
        return decisions

    def _speech(self, overlap: _Overlap) -> Speech:
        silent_since = overlap.silent_since
        return Speech(
            seconds=overlap.seconds(self._now),
            silent_s=0.0 if silent_since is None else self._now - silent_since,
            confirmed=overlap.confirmed,
            ended=overlap.ended,
            words=overlap.words,
            words_s=overlap.words_s,
            again=overlap.again,
            level_db=self.level_db,
            change=self.change,
        )
