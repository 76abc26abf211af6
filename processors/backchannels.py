"""What listeners say without wanting the floor, by language.

Another language is another entry. Phrases are written as a recogniser writes them, in lower case and
without punctuation; a hyphen counts as a space.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backchannels:
    """The words of one language.

    Attributes:
        phrases: Acknowledgements, in any number and order.
        mumbles: What a hum or a hesitation is taken for by a recogniser; means nothing if it is all that
            was said, and was short.
        objections: Words that are no backchannel if one reading of several has them: "that's wrong" is also
            read as "that's right". No words that hums are taken for, as "no" is.
    """

    phrases: frozenset[str]
    mumbles: frozenset[str]
    objections: frozenset[str]


def _phrases(lines: str) -> frozenset[str]:
    return frozenset(phrase.strip() for phrase in lines.replace("\n", ",").split(",") if phrase.strip())


BACKCHANNELS = {
    "en": Backchannels(
        phrases=_phrases(
            """
            m, mm, mhm, mm h, mm hmm, mm mm, mmhmm, hm, hmm, mh, uh huh, uhuh, aha, a ha, ah, oh, ooh, uh, huh
            ok, okay, kay, right, all right, alright, yeah, yah, yep, yup, ya, yes, sure, true, exactly, i c
            absolutely, definitely, of course, indeed, totally, i see, i know, got it, gotcha, i got it
            i understand, understood, makes sense, that makes sense, good, great, nice, cool, fine, perfect
            awesome, amazing, interesting, wow, lovely, wonderful, fair enough, oh okay, so okay, oh really
            um, make sense, y, ye, yea, u, aye, m'hm, oh my, got you
            really, sounds good, very good, that's right, that's true, no way, no kidding, good to know
            mkay, mm kay, okie dokie, alrighty, yeh, oh yeah, oh yes, for sure, you bet, i hear you, i agree
            agreed, certainly, naturally, obviously, precisely, correct, fair, excellent, brilliant, neat
            fantastic, super, sweet, whoa, gosh, oh boy, oh dear, my goodness, is that so, i got you
            that's good, that's great, that's nice, that's cool, that's fine, that's interesting
            """
        ),
        # As Moonshine and Whisper write hums.
        mumbles=_phrases("you, but, and, the, a, it, it is, it's a, i, well, then, so, er, erm, oh no, eh"),
        objections=_phrases("wrong, stop, wait, not, never, cancel, quiet, shut"),
    ),
}


def normalized(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation; a letter drawn out counts once."""
    shortened = re.sub(r"(.)\1{2,}", r"\1", text.casefold().replace("’", "'"))  # noqa: RUF001
    return re.findall(r"[\w']+", shortened)


def consists_of(text: str, phrases: frozenset[str]) -> bool:
    """Whether a text is nothing but these phrases."""
    words = normalized(text)
    longest = max(len(phrase.split()) for phrase in phrases)
    at = 0
    while at < len(words):
        for count in range(longest, 0, -1):
            if " ".join(words[at : at + count]) in phrases:
                at += count
                break
        else:
            return False
    return bool(words)
