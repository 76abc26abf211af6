"""Policies: each says, of one moment, what the user's speech should do to the bot, or has no opinion.

They are asked in order, and the first opinion is taken. Any function of the same signature is one too.
What each is for, and the defaults, are in docs/turn-taking.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..pipeline import Reason
from .backchannels import BACKCHANNELS, consists_of, normalized
from .deciding import Bot, Decision, Policy, Speech, Verdict

# Reasons for which what was said does not count.
BACKCHANNEL = "backchannel"
BACKGROUND = "background"  # somebody else said it
MUTED = "muted"
NOISE = "noise"

INTERRUPT = Decision(Verdict.FULL, Reason.USER_SPEAKING)


@dataclass(frozen=True)
class MinimumDuration:
    """Speech that goes on for so long interrupts, whatever its words."""

    ms: float = 1000

    def __call__(self, speech: Speech, bot: Bot) -> Decision | None:
        return INTERRUPT if speech.seconds * 1000 >= self.ms and speech.confirmed else None


@dataclass(frozen=True)
class Noise:
    """What is over sooner than the shortest word is noise, whatever a recogniser hears in it."""

    ms: float = 240

    def __call__(self, speech: Speech, bot: Bot) -> Decision | None:
        if not speech.ended or speech.seconds * 1000 >= self.ms:
            return None
        return Decision(Verdict.IGNORE, NOISE)


@dataclass(frozen=True)
class MinimumWords:
    """So many words interrupt.

    Before the end only words that a recogniser found in more than `after_ms` of speech count: what it makes
    of the first syllables is guesswork.
    """

    count: int = 1
    after_ms: float = 500

    def __call__(self, speech: Speech, bot: Bot) -> Decision | None:
        certain = speech.ended or speech.words_s * 1000 >= self.after_ms
        return INTERRUPT if certain and len(normalized(speech.words)) >= self.count else None


class BackchannelWords:
    """Tells backchannels by their words; what is short may be a mumble too.

    One reading of several is enough, if none objects: a recogniser takes a hum for a word, and for another
    one the next time, but hardly ever a word for a hum.

    Args:
        language: A key of `BACKCHANNELS`.
        mumble_ms: Longest speech that can be a mumble.

    Raises:
        KeyError: There are no words for the language.
    """

    def __init__(self, language: str = "en", mumble_ms: float = 700) -> None:
        self._words = BACKCHANNELS[language]
        self._mumble_ms = mumble_ms

    def __call__(self, speech: Speech) -> bool:
        phrases = self._words.phrases
        if speech.seconds * 1000 <= self._mumble_ms:
            phrases |= self._words.mumbles
        readings = (speech.words, *speech.again)
        if any(self._words.objections.intersection(normalized(reading)) for reading in readings):
            return False
        return any(consists_of(reading, phrases) for reading in readings)


@dataclass(frozen=True)
class Hum:
    """Tells hums by their sound: one that is held, as no word is.

    Args:
        below: Change of the sound, bels; see `Steadiness.change`.
        after_ms: While the user goes on, not judged before: a word may begin with a long sound.
    """

    below: float = 0.25
    after_ms: float = 350

    def __call__(self, speech: Speech) -> bool:
        known = speech.silent_s > 0 or speech.seconds * 1000 >= self.after_ms
        return known and speech.change is not None and speech.change < self.below


@dataclass(frozen=True)
class Backchannel:
    """Acknowledgements let the bot go on; at the end of its answer they are an answer to it.

    The bot goes on before the user has ended when it is a hum so far, or when the words of so much speech
    are known and all of them are acknowledgements. What follows is judged when it comes.

    Args:
        is_backchannel: Tells whether words known so far are one; any classifier.
        is_hum: Tells whether the sound is one so far, whatever its words.
        longest_ms: Longer speech is none.
        answer_s: With less than this left to say, what is said counts, and the bot finishes.
        certain_ms: So much speech; of a silent user all of it is enough.
    """

    is_backchannel: Callable[[Speech], bool] = field(default_factory=BackchannelWords)
    is_hum: Callable[[Speech], bool] = field(default_factory=Hum)
    longest_ms: float = 1500
    answer_s: float = 0.7
    certain_ms: float = 500

    def __call__(self, speech: Speech, bot: Bot) -> Decision | None:
        hum = self.is_hum(speech)
        if speech.seconds * 1000 > self.longest_ms or not (hum or self.is_backchannel(speech)):
            return None
        if not speech.ended:
            known_s = speech.seconds if speech.silent_s else self.certain_ms / 1000
            ends_soon = bot.rest_s is not None and bot.rest_s * 1000 < self.longest_ms
            if ends_soon or not (hum or speech.words_s >= known_s):
                return Decision(Verdict.HOLD, "backchannel so far")
            return Decision(Verdict.IGNORE, BACKCHANNEL)
        if bot.rest_s is not None and bot.rest_s < self.answer_s:
            return Decision(Verdict.LISTEN, "an answer at the end")
        return Decision(Verdict.IGNORE, BACKCHANNEL)


@dataclass(frozen=True)
class Background:
    """Speech much quieter than the user's usual is somebody else's.

    Args:
        below_db: How much quieter.
        after_ms: Not judged before: speech begins softly.
    """

    below_db: float = 9
    after_ms: float = 300

    def __call__(self, speech: Speech, bot: Bot) -> Decision | None:
        if speech.level_db is None or speech.seconds * 1000 < self.after_ms:
            return None
        return Decision(Verdict.IGNORE, BACKGROUND) if speech.level_db < -self.below_db else None


@dataclass(frozen=True)
class Debounce:
    """Speech that stops again within this time does nothing."""

    ms: float = 500

    def __call__(self, speech: Speech, bot: Bot) -> Decision | None:
        if speech.seconds * 1000 >= self.ms:
            return None
        return Decision(Verdict.IGNORE if speech.ended else Verdict.HOLD, "debounce")


@dataclass(frozen=True)
class Critical:
    """An answer that is not interruptible goes on; what is said meanwhile is answered afterwards."""

    def __call__(self, speech: Speech, bot: Bot) -> Decision | None:
        return Decision(Verdict.LISTEN, "critical") if bot.critical else None


@dataclass(frozen=True)
class ShortRest:
    """An answer with no more than this left to say is finished; what is said meanwhile counts."""

    ms: float = 300

    def __call__(self, speech: Speech, bot: Bot) -> Decision | None:
        if bot.rest_s is None or bot.rest_s * 1000 > self.ms:
            return None
        return Decision(Verdict.LISTEN, "short rest")


@dataclass(frozen=True)
class Grace:
    """For so long after the bot began to speak nothing stops it; speech that goes on does afterwards."""

    ms: float = 500

    def __call__(self, speech: Speech, bot: Bot) -> Decision | None:
        return Decision(Verdict.LISTEN, "grace") if bot.spoken_s * 1000 < self.ms else None


@dataclass(frozen=True)
class MuteUntilFirstReplyEnds:
    """Until the bot has said something to its end, speech over it does not count."""

    def __call__(self, speech: Speech, bot: Bot) -> Decision | None:
        return Decision(Verdict.IGNORE, MUTED) if bot.replies == 0 else None


@dataclass(frozen=True)
class MuteDuringTools:
    """While a tool runs, speech does not count."""

    def __call__(self, speech: Speech, bot: Bot) -> Decision | None:
        return Decision(Verdict.IGNORE, MUTED) if bot.tool_running else None


@dataclass(frozen=True)
class SpeechOnly:
    """Where the policy inside would stop everything, only the voice stops."""

    policy: Policy

    def __call__(self, speech: Speech, bot: Bot) -> Decision | None:
        wanted = self.policy(speech, bot)
        if wanted is None or wanted.verdict is not Verdict.FULL:
            return wanted
        return Decision(Verdict.SPEECH, wanted.reason)


@dataclass(frozen=True)
class Resume:
    """After an interruption that no word followed, the bot says the rest of its answer.

    Args:
        after_ms: Silence after the interrupting sound.
        prefix: Said first.
    """

    after_ms: float = 1000
    prefix: str = ""


def while_speaking() -> tuple[Policy, ...]:
    """The default policies for speech while the bot speaks."""
    return (
        Critical(),
        ShortRest(),
        Noise(),
        Background(),
        Backchannel(),
        MinimumWords(after_ms=900),
        MinimumDuration(1200),
    )


def while_thinking() -> tuple[Policy, ...]:
    """The default policies for speech while the bot makes an answer: nothing is lost by stopping early."""
    return (
        Critical(),
        Noise(),
        Background(),
        Backchannel(),
        MinimumWords(after_ms=300),
        MinimumDuration(500),
    )


@dataclass(frozen=True)
class Policies:
    """The rules of one bot.

    Args:
        speaking: Asked in order while the bot speaks.
        thinking: Asked in order while it makes an answer.
        resume: After a false alarm; None for never.
    """

    speaking: tuple[Policy, ...] = field(default_factory=while_speaking)
    thinking: tuple[Policy, ...] = field(default_factory=while_thinking)
    resume: Resume | None = field(default_factory=Resume)
