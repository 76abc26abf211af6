"""Recordings in, a recording out: a conversation without a microphone."""

from __future__ import annotations

import asyncio
import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import soxr

from ..pipeline import BargeinError, Processor, Session, handles
from ..pipeline.frames import (
    BotStartedSpeakingFrame,
    Frame,
    FrameDirection,
    InputAudioRawFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from .output import AudioOutput

RATE = 16_000  # of input and output, Hz
BLOCK_MS = 20
BLOCK = RATE * BLOCK_MS // 1000  # samples

Samples = npt.NDArray[np.int16]


class BadRecording(BargeinError, ValueError):
    """Raised when a file cannot be read as audio or holds none."""


def load_recording(path: Path) -> Samples:
    """Read any audio file that FFmpeg reads as mono at 16 kHz.

    Raises:
        BadRecording: The file is missing, no audio, damaged, or empty.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise BadRecording(f"{path}: has no audio track")
            rate = container.streams.audio[0].rate
            mono = av.AudioResampler(format="s16", layout="mono")
            frames = [f for frame in container.decode(audio=0) for f in mono.resample(frame)]
            frames += mono.resample(None)
    except FileNotFoundError as error:
        raise BadRecording(f"{path}: no such file") from error
    except (av.FFmpegError, OSError) as error:
        raise BadRecording(f"{path}: not a readable audio file ({error.strerror or error})") from error
    if not any(frame.samples for frame in frames):
        raise BadRecording(f"{path}: holds no audio")
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    resampled: Samples = soxr.resample(samples, rate, RATE)
    return resampled


class FileInput(Processor):
    """The user's side: recordings, and silence where none plays. Driven by `FileTransport`."""

    def __init__(self, recording: Samples) -> None:
        self._playing = recording
        self._scheduled: list[tuple[int, Samples]] = []  # (block, recording), ascending
        self._after_bot_starts: tuple[float, Samples] | None = None
        self._block = 0  # blocks pushed so far
        self._in_turn = False  # the bot holds that the user is speaking

    @property
    def quiet(self) -> bool:
        """Whether all recordings have been played and the last turn has been noticed to be over."""
        return not (len(self._playing) or self._scheduled or self._after_bot_starts or self._in_turn)

    def after_bot_starts(self, seconds: float, recording: Samples) -> None:
        """Play another recording so long after the bot first begins to speak."""
        self._after_bot_starts = (seconds, recording)

    @handles(BotStartedSpeakingFrame)
    def bot_started(self, frame: BotStartedSpeakingFrame, direction: FrameDirection) -> None:
        if self._after_bot_starts is not None:
            seconds, recording = self._after_bot_starts
            self._after_bot_starts = None
            self._scheduled.append((self._block + int(seconds * 1000 / BLOCK_MS), recording))
        self.push(frame, direction)

    @handles(UserStartedSpeakingFrame, UserStoppedSpeakingFrame)
    def turn(self, frame: Frame, direction: FrameDirection) -> None:
        self._in_turn = isinstance(frame, UserStartedSpeakingFrame)
        self.push(frame, direction)

    def push_block(self) -> Samples:
        """Push the next 20 ms and return them."""
        if self._scheduled and self._scheduled[0][0] <= self._block:
            self._playing = self._scheduled.pop(0)[1]
        block = np.zeros(BLOCK, np.int16)
        piece = self._playing[:BLOCK]
        block[: len(piece)] = piece
        self._playing = self._playing[len(piece) :]
        self._block += 1
        self.push(InputAudioRawFrame(audio=block.tobytes(), sample_rate=RATE, num_channels=1))
        return block


class FileTransport:
    """Plays recordings to a bot and records both sides on one clock.

    Args:
        recording: What the user says first, mono at 16 kHz.
        paced: Keep real time. Without it the blocks come as fast as they are worked off, which suits
            pipelines that only listen: a bot's thinking would take no time in the recording.

    Attributes:
        input: The first processor of the pipeline.
        output: Its output.
    """

    def __init__(self, recording: Samples, *, paced: bool = True) -> None:
        self.input = FileInput(recording)
        self.output = AudioOutput(RATE)
        self._paced = paced
        self._user: list[Samples] = []
        self._bot: list[Samples] = []

    @property
    def seconds(self) -> float:
        """Length of the conversation so far."""
        return len(self._user) * BLOCK_MS / 1000

    async def run(
        self, session: Session, *, quiet_s: float = 3.0, on_block: Callable[[], None] | None = None
    ) -> None:
        """Play until the recordings are over and neither side has had anything to say for `quiet_s`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        quiet_ms = 0.0
        while quiet_ms < quiet_s * 1000:
            self._user.append(self.input.push_block())
            self._bot.append(np.frombuffer(self.output.playout.read(BLOCK), np.int16))
            busy = not self.input.quiet or session.responding or self.output.playout.busy
            quiet_ms = 0.0 if busy else quiet_ms + BLOCK_MS
            if on_block is not None:
                on_block()
            await asyncio.sleep(max(0.0, began + self.seconds - loop.time()) if self._paced else 0)

    @property
    def channels(self) -> tuple[Samples, Samples]:
        """What the user said and what the bot said, of equal length, at 16 kHz."""
        return np.concatenate(self._user), np.concatenate(self._bot)

    def save(self, path: Path) -> None:
        """Write a stereo WAV at 16 kHz: the user left, the bot right."""
        stereo = np.stack(self.channels, axis=1)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(stereo.tobytes())
