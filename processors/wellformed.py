"""Text that can be sent."""

from __future__ import annotations


def wellformed(text: str) -> str:
    """The text without lone surrogates, which JSON can bring in and UTF-8 cannot carry; pairs are joined.

    One left in a conversation would spoil every request from then on.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
