"""Silero voice activity detection: how likely a moment of sound is speech."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .onnx import load_session
from .packages import package_file

# Of the model: each window starts with the last samples of the one before.
_CONTEXT_SAMPLES = 64
_STATE_SHAPE = (2, 1, 128)


class SileroVAD:
    """Speech probability for each 32 ms of one sound.

    The first instance loads the model (about 50 ms, on the calling thread: make one at start-up), later ones
    share it; the state that goes from chunk to chunk is each instance's own. A call takes about 0.1 ms.

    Raises:
        LocalModelMissing: onnxruntime or the weights (inside `pipecat-ai`) are not installed.
    """

    SAMPLE_RATE = 16_000
    CHUNK_SAMPLES = 512

    def __init__(self) -> None:
        self._session = _session()
        self.reset()

    def reset(self) -> None:
        """Forgets the sound so far.

        Worth a call after each 2 s or so without speech: long silence or music make the model slow to see the
        speech that follows.
        """
        self._state: NDArray[np.float32] = np.zeros(_STATE_SHAPE, np.float32)
        self._context: NDArray[np.float32] = np.zeros(_CONTEXT_SAMPLES, np.float32)

    def probability(self, chunk: bytes) -> float:
        """The probability, 0 to 1, that the next 512 samples are speech.

        Args:
            chunk: exactly 512 samples of 16 kHz mono signed 16-bit little-endian PCM.

        Raises:
            ValueError: the chunk has another length.
        """
        samples = np.frombuffer(chunk, "<i2").astype(np.float32) / np.float32(32_768)
        if len(samples) != self.CHUNK_SAMPLES:
            raise ValueError(f"A chunk has {self.CHUNK_SAMPLES} samples, not {len(samples)}: cut it first.")
        window = np.concatenate((self._context, samples))
        self._context = samples[-_CONTEXT_SAMPLES:]
        rate = np.array(self.SAMPLE_RATE, np.int64)
        speech, self._state = self._session.run(
            None, {"input": window[None], "state": self._state, "sr": rate}
        )
        return float(speech[0, 0])


@cache
def _session() -> Any:
    return load_session(package_file("pipecat", "audio/vad/data/silero_vad.onnx"))
