"""What the local engines hand out."""

from dataclasses import dataclass

from ...pipeline.pace import WordTime


@dataclass(frozen=True, slots=True)
class SpeechChunk:
    """A piece of synthesised speech: mono signed 16-bit little-endian PCM and the words spoken in it.

    The chunks of one request follow each other without a gap.
    """

    pcm: bytes
    sample_rate: int
    words: tuple[WordTime, ...]


__all__ = ["SpeechChunk", "WordTime"]
