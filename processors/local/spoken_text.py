"""The text side of speech synthesis: which piece to speak first, and when each word of it is spoken."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise

from ...pipeline.pace import WordTime, words

Span = tuple[int, int]
# Phoneme letters, first sample, end sample of a run of phonemes.
Group = Sequence[int]

_CLOSING = r"[\"'\u201d\u2019)\]]*"
_SENTENCE_END = re.compile(rf"[.!?\u2026]+{_CLOSING}(?=\s+[^\sa-z])|\n+")  # not the dots of "a.m. on"
_CLAUSE_END = re.compile(rf"[,;:]{_CLOSING}(?=\s)|\s[\u2014\u2013-](?=\s)")  # dashes
# espeak-ng takes the dot after these for the end of a sentence and makes a pause.
_ABBREVIATION = re.compile(r"\b(?:Dr|Mr|Mrs|Ms|Prof|St|Jr|Sr|vs)\.(?=\s+\w)")
# The first piece is short, so that the voice sets in early; later ones are longer, as each cut costs melody.
_FIRST_PIECE_WORDS = 3
_LATER_PIECE_WORDS = 8
_LAST_PIECE_WORDS = 3
_SNAP_LETTERS = 1.5


def speakable(text: str) -> str:
    """The text as the engine is to see it; of the same length, so spans in it hold for the text given."""
    text = _ABBREVIATION.sub(lambda found: found[0][:-1] + " ", text)
    return text.replace("[[", "  ").replace("]]", "  ")  # Piper would take these for phonemes


def pieces(text: str) -> list[Span]:
    """Cuts the text into spans to synthesise one after another: sentences, long ones at their clauses.

    Spans without a word are left out.
    """
    marks = sorted(
        [(found.end(), True) for found in _SENTENCE_END.finditer(text)]
        + [(found.end(), False) for found in _CLAUSE_END.finditer(text)]
    )
    cuts = [0]
    for at, ends_sentence in marks:
        enough = _FIRST_PIECE_WORDS if len(cuts) == 1 else _LATER_PIECE_WORDS
        left = next((end for end, sentence in marks if sentence and end > at), len(text))
        if ends_sentence or (
            len(words(text, cuts[-1], at)) >= enough and len(words(text, at, left)) >= _LAST_PIECE_WORDS
        ):
            cuts.append(at)
    cuts.append(len(text))
    return [span for span in pairwise(cuts) if words(text, *span)]


def word_times(
    spans: Sequence[Span],
    groups: Sequence[Group],
    letters: Sequence[int],
    samples: int,
    rate: int,
    start_s: float,
) -> tuple[WordTime, ...]:
    """When each word of a piece is spoken.

    Args:
        spans: of the words.
        groups: of the phonemes, as Piper's worker sends them; empty when they are not known.
        letters: of the words' phonemes, each word spoken alone; used where groups and words differ in number
            ("1,234" is five groups, "of the" may be one).
        samples: length of the piece's audio.
        rate: in Hz.
        start_s: start of the piece within the request.
    """
    if len(groups) == len(spans):
        times = [(float(first), float(end)) for _, first, end in groups]
    else:
        # Without phonemes, or for a word without any, its characters stand for them.
        shares = [count or end - start for count, (start, end) in zip(letters, spans, strict=True)]
        times = _distribute(shares, groups or [(sum(shares), 0, samples)])
    return tuple(
        WordTime(start, end, start_s + first / rate, start_s + until / rate)
        for (start, end), (first, until) in zip(spans, times, strict=True)
    )


def _distribute(shares: Sequence[int], groups: Sequence[Group]) -> list[tuple[float, float]]:
    """Sample times for words with these shares of the phonemes in `groups`, at the nearest group edge."""
    edges = list(accumulate((group[0] for group in groups), initial=0))
    whole = sum(shares)
    bounds = [0.0]
    for share in accumulate(shares):
        at = share / whole * edges[-1]
        nearest = min(edges, key=lambda edge: abs(edge - at))
        bounds.append(max(bounds[-1], nearest if abs(nearest - at) <= _SNAP_LETTERS else at))
    bounds[-1] = edges[-1]

    def sample(at: float, *, as_end: bool) -> float:
        after = bisect_left(edges, at)  # the first edge at or after
        if edges[after] == at and not as_end and after < len(groups):
            return groups[after][1]
        count, first, end = groups[max(0, after - 1)]
        return first + (end - first) * (at - edges[max(0, after - 1)]) / count

    times = []
    for start, end in pairwise(bounds):
        first = sample(start, as_end=False)
        times.append((first, max(first, sample(end, as_end=True))))
    return times
