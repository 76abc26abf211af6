"""What the local engines hand out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WordTime:
    """When one word is spoken.

    `start` and `end` are the word's character span in the text that was given, with the punctuation that
    touches it, so `text[:word.end]` is what had been said when the word ended. `start_s` and `end_s` are
    seconds from the start of the request's audio.
    """

    start: int
    end: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class SpeechChunk:
    """A piece of synthesised speech: mono signed 16-bit little-endian PCM and the words spoken in it.

    The chunks of one request follow each other without a gap.
    """

    pcm: bytes
    sample_rate: int
    words: tuple[WordTime, ...]
