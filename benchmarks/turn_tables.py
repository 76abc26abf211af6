"""What the turn-taking benchmark prints: a table a policy, and all policies beside the published figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.overlaps import Figures, Outcome, figures
from benchmarks.stimuli import Half, Kind

# sierra-research/tau2-bench's leaderboard for voice, as of 2026.
BEST_YIELD_S = 0.41
BEST_BACKCHANNELS = 0.68

COLUMNS = (
    *("yield rate", "yield ms", "backch.", "noises", "backgr."),
    *("release ms", "p90", "p95", "answered", "unheard", "damaged"),
)
AIMS = ("0.98", "350", "0.90", "0.95", "0.60", "700", "", "", "0", "0", "0")
PUBLISHED = ("", f"{1000 * BEST_YIELD_S:.0f}", f"{BEST_BACKCHANNELS:.2f}")
NOTES = """\
release: how long the voice is held over what interrupts nothing, the median and two percentiles;
answered: others than interruptions, kept, whose words the model is asked to answer all the same;
unheard: interruptions that stopped the bot and whose words no model was asked to answer;
damaged: answers with a word lost or doubled, or of which the recording holds not exactly the audio
by tau-bench's rule: yielding is to fall silent for 0.2 s, a pause too; within 2 s it is right for an
interruption, within 1 s it is wrong for all else; and its yield time is a mean
published: tau-bench's voice leaderboard: the shortest mean yield time, and the most backchannels
that a system with a yield rate of 0.95 or more talks through. Compare them with the rows by its rule,
and only roughly: those are other stimuli, and calls over a network"""


def table(outcomes: Sequence[Outcome]) -> str:
    """Both halves side by side, by kind and loudness."""
    lines = [
        f"{'':<26}" + "".join(f"{half + ' half':^45}" for half in Half),
        f"{'':<26}" + f"{'n':>5}{'right':>8}{'tau':>7}{'ms':>8}{'p90':>7}{'p95':>7}   " * 2,
    ]
    for kind in Kind:
        of_kind = [o for o in outcomes if o.kind is kind]
        for level in [None, *sorted({o.level_db for o in of_kind}, reverse=True)]:
            unit = "dB" if kind is Kind.BACKGROUND else "dBFS"
            name = f"{kind}" if level is None else f"    {level:.0f} {unit}"
            cells = [
                _cells(figures(o for o in of_kind if o.half is half and level in (None, o.level_db)), kind)
                for half in Half
            ]
            lines.append(f"{name:<26}" + "".join(cells))
    lines += [
        "right: yielded, or kept; tau: right by tau-bench's rule;",
        "ms, p90, p95: median and percentiles of the yield time, or of how long the voice was held",
    ]
    return "\n".join(line.rstrip() for line in lines)


def summary(by_policy: Mapping[str, Sequence[Outcome]]) -> str:
    """All policies, both halves together, and the best published figures."""
    rows: list[tuple[str, tuple[str, ...]]] = [("", COLUMNS)]
    for name, outcomes in by_policy.items():
        rows += [(name, _ours(outcomes)), ("  by tau-bench's rule", _tau(outcomes))]
    rows += [("best published", PUBLISHED), ("aim", AIMS)]
    lines = [f"{name:<23}" + "".join(f"{cell:>11}" for cell in cells) for name, cells in rows]
    return "\n".join([*(line.rstrip() for line in lines), NOTES])


def failure(outcome: Outcome) -> str:
    """One overlap at which the bot did the wrong thing."""
    when = "" if outcome.interrupted_s is None else f", interrupted at {_ms(outcome.interrupted_s)} ms"
    pauses = "".join(f", paused {_ms(p.after_s)}+{_ms(p.seconds)}" for p in outcome.pauses)
    damage = (
        f", {outcome.lost} words lost, {outcome.doubled} doubled" if outcome.lost or outcome.doubled else ""
    )
    damage += "" if outcome.intact else ", audio damaged"
    damage += ", spoke again" if outcome.spoke_again else ""
    damage += ", words passed on" if outcome.passed_on else ""
    what = f"{outcome.kind}, {outcome.half}, {outcome.level_db:.0f} dB: {outcome.stimulus}"
    came = f"last sound {_ms(outcome.last_sound_s)}{when}{pauses}{damage}; words: {' / '.join(outcome.words)}"
    return f"  {what} ({outcome.overlap_s:.2f} s): {came}"


def _cells(found: Figures, kind: Kind) -> str:
    times = found.yields_s if kind is Kind.INTERRUPTION else found.releases_s
    ms = "".join(f"{_ms(time):>{width}}" for time, width in zip(times or (None,) * 3, (8, 7, 7), strict=True))
    return f"{found.count:>5}{_rate(found.right):>8}{_rate(found.tau_right):>7}{ms}   "


def _ours(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    of = {kind: figures(o for o in outcomes if o.kind is kind) for kind in Kind}
    others = [o for o in outcomes if o.kind is not Kind.INTERRUPTION]
    counts = (
        sum(o.kept and o.passed_on for o in others),
        sum(o.yielded and not o.passed_on for o in outcomes if o.kind is Kind.INTERRUPTION),
        sum(o.damaged for o in outcomes),
    )
    yields = of[Kind.INTERRUPTION].yields_s
    return (
        _rate(of[Kind.INTERRUPTION].right),
        _ms(yields[0] if yields else None),
        *(_rate(of[kind].right) for kind in (Kind.BACKCHANNEL, Kind.NOISE, Kind.BACKGROUND)),
        *(_ms(time) for time in figures(others).releases_s or (None,) * 3),
        *map(str, counts),
    )


def _tau(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    of = {kind: figures(o for o in outcomes if o.kind is kind) for kind in Kind}
    return (
        _rate(of[Kind.INTERRUPTION].tau_right),
        _ms(of[Kind.INTERRUPTION].tau_yield_s),
        *(_rate(of[kind].tau_right) for kind in (Kind.BACKCHANNEL, Kind.NOISE, Kind.BACKGROUND)),
    )


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.0f}"
