"""What became of an overlap, measured in the recording, and the figures made of many.

The figures are those of tau-bench's voice domain (sierra-research/tau2-bench, docs/interaction-metrics.md),
taken from the recording's samples instead of ticks of 0.2 s:

- Yield rate: of the real interruptions, the share at which the bot fell silent within 2.0 s of the onset
  and an interruption was reported; its voice must not come back before the user has ended.
- Yield time: from the onset to the last sound of the bot. A voice that is held and then interrupted ends
  where it was held.
- Selectivity: of the backchannels, the noises (tau-bench: vocal tics, among them coughs), and the speech
  of others (tau-bench: non-directed speech), the share that was kept: nothing is interrupted, at whatever
  time, and every word of the answer is heard, once.
- Release time: from where the voice was held to where it sounds again.

tau-bench itself cannot tell a pause from an end. By its rule the bot yields where it first falls silent for
a tick or longer: it should within 2.0 s of an interruption, and must not within 1.0 s of anything else.
Those shares stand beside ours; a bot that holds its voice to decide has few of the second kind.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from bargein.transports.file import BLOCK, RATE, Samples
from bargein.transports.playout import FADE_MS
from benchmarks.stimuli import Half, Kind

# tau-bench's windows from the onset in which the bot yields, and the length of its ticks, s.
YIELD_WINDOW_S = 2.0
SELECTIVITY_WINDOW_S = 1.0
TICK_S = 0.2

FADE = RATE * FADE_MS // 1000  # samples


@dataclass(frozen=True)
class Pause:
    """A silence inside an answer.

    Attributes:
        after_s: From the onset of the overlap to the last sound before it.
        seconds: Its length.
    """

    after_s: float
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """One overlap.

    Attributes:
        level_db: How loud it was: dBFS, of background speech beside the user.
        overlap_s: Its length.
        last_sound_s: From its onset to the last sound of the answer, whether interrupted or at its end.
        pauses: Where the answer's voice was silent and went on, from the onset.
        interrupted_s: From its onset to the report of an interruption; None if there was none.
        spoke_again: After the interruption something was said before the user had ended.
        lost: Words of the answer that were not heard although nothing was interrupted.
        doubled: Words that were heard twice.
        intact: The bot's channel holds the answer's samples, each once, up to its end or the interruption.
        words: What the recogniser made of the overlap.
        passed_on: These words went on to the model, to be answered.
    """

    kind: Kind
    half: Half
    stimulus: str
    level_db: float
    overlap_s: float
    last_sound_s: float
    pauses: tuple[Pause, ...] = ()
    interrupted_s: float | None = None
    spoke_again: bool = False
    lost: int = 0
    doubled: int = 0
    intact: bool = True
    words: tuple[str, ...] = ()
    passed_on: bool = False

    @property
    def yielded(self) -> bool:
        """Whether the bot gave way."""
        return self.interrupted_s is not None and self.last_sound_s <= YIELD_WINDOW_S and not self.spoke_again

    @property
    def damaged(self) -> bool:
        """Whether a word was lost or doubled, or the recording holds not exactly the answer's audio."""
        return bool(self.lost or self.doubled or not self.intact)

    @property
    def kept(self) -> bool:
        """Whether the answer went on to its end, every word of it heard once."""
        return self.interrupted_s is None and not self.damaged

    @property
    def silent_s(self) -> float:
        """From the onset to the first silence that tau-bench would see."""
        return min([*(p.after_s for p in self.pauses if p.seconds >= TICK_S), self.last_sound_s])

    @property
    def right(self) -> bool:
        """Whether the bot did what it should."""
        return self.yielded if self.kind is Kind.INTERRUPTION else self.kept

    @property
    def tau_right(self) -> bool:
        """The same by tau-bench's rule."""
        if self.kind is Kind.INTERRUPTION:
            return self.silent_s <= YIELD_WINDOW_S
        return self.silent_s > SELECTIVITY_WINDOW_S


@dataclass(frozen=True)
class Figures:
    """What many overlaps of one kind have in common; times in s, None where there is nothing to measure.

    Attributes:
        count: How many.
        right: Share at which the bot did what it should: yield rate or selectivity.
        tau_right: The same by tau-bench's rule.
        tau_yield_s: Mean yield time by tau-bench's rule.
        yields_s: Median, 90th and 95th percentile of the yield times.
        releases_s: The same of the pauses of those that were kept.
    """

    count: int
    right: float | None
    tau_right: float | None
    tau_yield_s: float | None
    yields_s: tuple[float, float, float] | None
    releases_s: tuple[float, float, float] | None


def figures(outcomes: Iterable[Outcome]) -> Figures:
    """Sum up overlaps of one kind."""
    all_ = list(outcomes)
    interruptions = [o for o in all_ if o.kind is Kind.INTERRUPTION]
    silent = [max(0.0, o.silent_s) for o in interruptions if o.tau_right]
    pauses = [p.seconds for o in all_ if o.kind is not Kind.INTERRUPTION and o.kept for p in o.pauses]
    return Figures(
        len(all_),
        _share([o.right for o in all_]),
        _share([o.tau_right for o in all_]),
        fmean(silent) if silent else None,
        _percentiles([max(0.0, o.last_sound_s) for o in interruptions if o.yielded]),
        _percentiles(pauses),
    )


def _share(values: list[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def _percentiles(values: list[float]) -> tuple[float, float, float] | None:
    if not values:
        return None
    middle, high, higher = np.percentile(values, (50, 90, 95))
    return float(middle), float(high), float(higher)


@dataclass(frozen=True)
class Replay:
    """How an answer was played, read from the bot's channel.

    Attributes:
        start: Its first sample, in samples of the channel.
        end: Behind its last sound.
        gaps: Silences inside it: from behind the last sound to the next one.
        played: Samples of the answer that were played.
        intact: What was played is the answer from its beginning, nothing left out and nothing twice.
    """

    start: int
    end: int
    gaps: tuple[tuple[int, int], ...]
    played: int
    intact: bool


def replay(channel: Samples, answer: Samples) -> Replay | None:
    """Follow an answer through a channel; None if nothing sounds in it.

    The channel is read in blocks, as it was played; a block either continues the answer, or fades it out
    without using it up, or is silent. `answer` must hold no sample that is zero: silence would look like it.
    """
    blocks = channel[: len(channel) // BLOCK * BLOCK].reshape(-1, BLOCK)
    sounding = np.abs(blocks).max(axis=1) > 0
    if not sounding.any():
        return None
    first = int(np.argmax(sounding))
    played = 0  # samples of the answer
    intact = True
    flickered = False  # the last block
    gaps: list[tuple[int, int]] = []
    end = first * BLOCK
    for number in range(first, len(blocks)):
        block, at = blocks[number], number * BLOCK
        expected = answer[played : played + BLOCK]
        if not sounding[number]:
            continue
        if not len(expected) or not (block[FADE:].any() or len(expected) <= FADE):
            end = at + int(np.flatnonzero(block)[-1]) + 1  # it fades out, and its tail is not used up
            flickered = False
            continue
        faded_in = at > end
        if faded_in:
            gaps.append((end, at))
        skip = FADE if faded_in or flickered else 0
        goes_on = np.array_equal(block[skip : len(expected)], expected[skip:])
        if goes_on:
            played += len(expected)
        else:  # held and released between two blocks: a tail, then the answer from there
            intact &= not flickered
            played += BLOCK - FADE
        flickered = not goes_on
        end = at + len(expected)
    return Replay(first * BLOCK, end, tuple(gaps), played, intact and not flickered)
