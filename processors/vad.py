"""Voice activity: where speech of the user begins and ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..pipeline import Processor, handles
from ..pipeline.frames import (
    FrameDirection,
    InputAudioRawFrame,
    SystemFrame,
    UserPausedFrame,
    UserResumedFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)

# Silence in a row that is a pause, ms: two chunks, since one may dip inside a word.
PAUSE_MS = 64


# The model's memory wears out in long silence: it is cleared each so often without speech, ms (as Pipecat).
FORGET_MS = 5000


# Speech in a row that is a first sign of it, ms: two chunks, since one may be a click.
SIGN_MS = 64


@dataclass
class PossibleSpeechFrame(SystemFrame):
    """The first sign of speech: a VADUserStartedSpeakingFrame follows soon, or it was none.

    Parameters:
        start_secs: How long ago it began.
    """

    start_secs: float = 0.0


class SpeechProbability(Protocol):
    """A voice activity model that looks at one chunk after the other."""

    CHUNK_SAMPLES: int
    SAMPLE_RATE: int

    def probability(self, chunk: bytes) -> float:
        """How likely this chunk (`CHUNK_SAMPLES` mono s16le samples) is speech, 0 to 1."""
        ...

    def reset(self) -> None:
        """Forget what was heard."""


class VAD(Processor):
    """Pushes VADUserStartedSpeakingFrame and VADUserStoppedSpeakingFrame both ways.

    Before a start, at the first sign of speech, a PossibleSpeechFrame goes downstream.

    Before a stop, as soon as silence sets in, a UserPausedFrame goes downstream, and a UserResumedFrame
    if it was none.

    Takes mono InputAudioRawFrames at the model's rate and passes them on.

    Args:
        model: The speech detector of this conversation; its state is this processor's.
        start_ms: Speech that must be heard in a row before it counts. Shorter is faster and catches
            more clicks; the caller's pre-roll gives back what was spoken meanwhile.
        stop_ms: Silence in a row that ends it.
        threshold: Probability from which a chunk is speech (Silero's own default is 0.5). Once speaking,
            a chunk counts as silence only 0.15 below it, as in Silero's reference iterator.
    """

    def __init__(
        self, model: SpeechProbability, *, start_ms: float = 96, stop_ms: float = 160, threshold: float = 0.5
    ) -> None:
        self._model = model
        self._start_ms = start_ms
        self._stop_ms = stop_ms
        self._threshold = threshold
        self._buffer = bytearray()
        self._speaking = False
        self._paused = False  # a UserPausedFrame was pushed and nothing has followed it
        self._run_ms = 0.0  # how long the state has been contradicted in a row
        self._quiet_ms = 0.0  # since speech, or since the model's memory was cleared

    @handles(InputAudioRawFrame)
    def listen(self, frame: InputAudioRawFrame, direction: FrameDirection) -> None:
        if frame.sample_rate != self._model.SAMPLE_RATE or frame.num_channels != 1:
            raise ValueError(
                f"the VAD takes mono audio at {self._model.SAMPLE_RATE} Hz, not {frame.num_channels} "
                f"channels at {frame.sample_rate} Hz; set the transport's input rate"
            )
        self.push(frame, direction)
        self._buffer += frame.audio
        size = 2 * self._model.CHUNK_SAMPLES
        while len(self._buffer) >= size:
            chunk = bytes(self._buffer[:size])
            del self._buffer[:size]
            self._judge(self._model.probability(chunk))

    def _judge(self, probability: float) -> None:
        chunk_ms = 1000 * self._model.CHUNK_SAMPLES / self._model.SAMPLE_RATE
        contradicted = (
            probability < self._threshold - 0.15 if self._speaking else probability >= self._threshold
        )
        self._run_ms = self._run_ms + chunk_ms if contradicted else 0.0
        if self._speaking:
            self._look_for_stop()
            return
        self._quiet_ms = 0.0 if contradicted else self._quiet_ms + chunk_ms
        if self._quiet_ms >= FORGET_MS:
            self._quiet_ms = 0.0
            self._model.reset()
        elif self._run_ms >= self._start_ms:
            self._speaking, self._run_ms = True, 0.0
            self.broadcast(VADUserStartedSpeakingFrame, start_secs=self._start_ms / 1000)
        elif self._run_ms - chunk_ms < SIGN_MS <= self._run_ms:
            self.push(PossibleSpeechFrame(start_secs=self._run_ms / 1000))

    def _look_for_stop(self) -> None:
        if self._run_ms >= self._stop_ms:
            self._speaking = self._paused = False
            self._run_ms = 0.0
            self.broadcast(VADUserStoppedSpeakingFrame, stop_secs=self._stop_ms / 1000)
        elif not self._paused and self._run_ms >= PAUSE_MS:
            self._paused = True
            self.push(UserPausedFrame())
        elif self._paused and not self._run_ms:
            self._paused = False
            self.push(UserResumedFrame())
