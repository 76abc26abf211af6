"""Smart Turn: whether the words of a user sound finished."""

import asyncio
from functools import cache
from threading import Lock
from typing import Any

import numpy as np

from .onnx import load_session
from .packages import package_file

_SAMPLES = 8 * 16_000
_loading = Lock()


class SmartTurn:
    """Tells from the sound of a user's turn whether it is complete.

    Never let it decide alone: some complete sentences score under 0.5 and some cut ones over 0.9. Instances
    share the model and hold no state; the model (v3.2, inside `pipecat-ai`) is loaded by `start()` or by the
    first verdict, in a thread.
    """

    async def start(self) -> None:
        """Loads the model, about 0.1 s.

        Raises:
            LocalModelMissing: onnxruntime or the weights are not installed.
        """
        await asyncio.to_thread(_load)

    async def probability(self, pcm: bytes) -> float:
        """The probability, 0 to 1, that the turn is complete; some 40 ms in a thread.

        Args:
            pcm: 16 kHz mono signed 16-bit little-endian PCM of the turn up to now; its last 8 s count.

        Raises:
            LocalModelMissing: onnxruntime or the weights are not installed.
        """
        return await asyncio.to_thread(_judge, pcm)


def _judge(pcm: bytes) -> float:
    session, features_of = _load()
    samples = np.frombuffer(pcm, "<i2")[-_SAMPLES:].astype(np.float32) / 32_768
    turn = np.pad(samples, (_SAMPLES - len(samples), 0))  # the model wants the end of the turn at the end
    features = features_of(turn)
    return float(session.run(None, {"input_features": features[None]})[0][0, 0])


def _load() -> Any:
    with _loading:  # or two first calls would both load it
        return _model()


@cache
def _model() -> Any:
    weights = package_file("pipecat", "audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx")
    session = load_session(weights)
    from pipecat.audio.turn.smart_turn._whisper_features import compute_whisper_log_mel_features

    return session, compute_whisper_log_mel_features
