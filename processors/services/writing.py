"""Which characters make words, as classes for patterns, and which scripts have no spaces between words."""

from __future__ import annotations

import re

# Han, kana and bopomofo, with their punctuation and full-width forms: no spaces between sentences either.
_EAST_ASIAN = r"\u2e80-\u312f\u31a0-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"

# Those, Thai, Lao, Burmese and Khmer. Hangul has spaces.
SPACELESS = rf"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff{_EAST_ASIAN}"

# What belongs to the letter before it and is no word character for `re`: accents and vowel signs of Latin,
# Hebrew, Arabic, the Indic scripts (all of these but the dandas), Thai, Lao, Burmese and Khmer; joiners.
MARKS = (
    r"\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0966-\u0dff"
    r"\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u17b4-\u17d3\u200c\u200d"
)

_IS_EAST_ASIAN = re.compile(f"[{_EAST_ASIAN}]")
_IS_SPACELESS = re.compile(f"[{SPACELESS}]")


def is_east_asian(character: str) -> bool:
    """Whether neither words nor sentences are separated by spaces in its script; not for Korean."""
    return bool(_IS_EAST_ASIAN.match(character))


def is_spaceless(character: str) -> bool:
    """Whether words are not separated by spaces in its script."""
    return bool(_IS_SPACELESS.match(character))
