"""The user's voice as it comes, into the blocks that speech models take. No I/O, no clock."""

from __future__ import annotations

import av
import numpy as np

INPUT_RATE = 16_000  # Hz, what speech models take
BLOCK_S = 0.020  # one pipeline frame
BLOCK_BYTES = round(INPUT_RATE * BLOCK_S) * 2


class Uplink:
    """Cuts mono s16le of any rate and length into 20 ms blocks of mono s16le at 16 kHz."""

    def __init__(self) -> None:
        self._rate = INPUT_RATE  # of the last audio fed
        self._odd = b""  # half a sample that waits for its other half
        self._pcm = bytearray()  # at 16 kHz, less than a block
        self._resampler: av.AudioResampler | None = None

    def feed(self, pcm: bytes, sample_rate: int) -> list[bytes]:
        """The blocks that are complete with this audio."""
        if sample_rate != self._rate:
            self._rate, self._odd, self._resampler = sample_rate, b"", None
        pcm = self._odd + pcm
        whole = len(pcm) & ~1
        self._odd = pcm[whole:]
        self._pcm += pcm[:whole] if sample_rate == INPUT_RATE else self._resample(pcm[:whole])
        ready = len(self._pcm) // BLOCK_BYTES * BLOCK_BYTES
        blocks = [bytes(self._pcm[at : at + BLOCK_BYTES]) for at in range(0, ready, BLOCK_BYTES)]
        del self._pcm[:ready]
        return blocks

    def _resample(self, pcm: bytes) -> bytes:
        """libswresample keeps back 2 ms at most; soxr, at the quality of its default, 20 to 66."""
        if not pcm:
            return b""
        if self._resampler is None:
            self._resampler = av.AudioResampler(format="s16", layout="mono", rate=INPUT_RATE)
        samples = np.frombuffer(pcm, np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = self._rate
        return b"".join(out.to_ndarray().tobytes() for out in self._resampler.resample(frame))
