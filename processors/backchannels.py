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
        claims: Words that want the floor however short they are. A recogniser hears almost anything in a
            short hum; without one of these it is taken for a hum.
    """

    phrases: frozenset[str]
    mumbles: frozenset[str]
    claims: frozenset[str]


def _phrases(lines: str) -> frozenset[str]:
    return frozenset(phrase.strip() for phrase in lines.replace("\n", ",").split(",") if phrase.strip())


BACKCHANNELS = {
    "en": Backchannels(
        phrases=_phrases(
            """
            m, mm, mhm, mm hmm, mm mm, mmhmm, hm, hmm, mh, uh huh, uhuh, aha, ah, oh, ooh, uh, huh, um, a ha
            ok, okay, kay, right, all right, alright, yeah, yah, yep, yup, ya, yes, sure, true, exactly, i c
            absolutely, definitely, of course, indeed, totally, i see, i know, got it, gotcha, i got it
            i understand, understood, makes sense, that makes sense, good, great, nice, cool, fine, perfect
            awesome, amazing, interesting, wow, lovely, wonderful, fair enough, oh okay, so okay, oh really
            make sense, ye, yea, aye, m'hm, oh my, got you
            really, sounds good, very good, that's right, that's true, no way, no kidding, good to know
            """
        ),
        # As Moonshine and Whisper write hums.
        mumbles=_phrases("you, but, and, the, a, it, it is, it's a, i, well, then, so, er, erm, oh no, eh"),
        claims=_phrases(
            """
            stop, no, nope, nah, naw, not, never, don't, wait, pause, quiet, enough, hold, hang, listen, hey
            hello, hi
            what, what's, why, who, when, where, which, how, again, repeat, back, next, skip, cancel, more
            less, help, sorry, pardon, excuse, please
            """
        ),
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
