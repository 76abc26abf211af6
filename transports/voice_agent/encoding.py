"""Recordings and chunks of speech: container files into PCM, and PCM into such files. Both block."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterable
from typing import Literal

import av
import av.error
import numpy as np

from ...pipeline import BargeinError

Format = Literal["wav", "mp3", "opus"]

RATE = 16_000  # Hz, what speech models take
MAX_RECORDING_S = 600.0  # a small file can hold hours

# FFmpeg's demuxers for what browsers and people record. Others are kept from it: playlists, for one,
# make it open files and addresses.
DEMUXERS = "matroska,webm,ogg,wav,mp3,flac,aac,mov,mp4,m4a,3gp,3g2,mj2"

# Container, codec and rate (Hz).
ENCODERS: dict[Format, tuple[str, str, int]] = {
    "mp3": ("mp3", "libmp3lame", 24_000),
    "opus": ("ogg", "libopus", 48_000),
}
BIT_RATES: dict[Format, int] = {"mp3": 64_000, "opus": 32_000}


class BadRecording(BargeinError, ValueError):
    """Raised when a recording holds no audio that can be read, or too much."""


def decode(recording: bytes) -> bytes:
    """A recording (WebM, Ogg, WAV, MP3, FLAC, MP4, AAC) as mono s16le at 16 kHz.

    Raises:
        BadRecording: It cannot be read, or is longer than `MAX_RECORDING_S`.
    """
    try:
        with av.open(io.BytesIO(recording), "r", options={"format_whitelist": DEMUXERS}) as container:
            if not container.streams.audio:
                raise BadRecording("the recording has no audio track")
            pcm = _resampled(container.decode(container.streams.audio[0]))
    except av.error.FFmpegError as error:
        raise BadRecording(f"the recording cannot be read: {error.strerror}") from None
    if not pcm:
        raise BadRecording("the recording has no sound in it")
    return pcm


def _resampled(frames: Iterable[av.AudioFrame]) -> bytes:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    pcm = bytearray()
    try:
        for frame in frames:
            pcm += b"".join(out.to_ndarray().tobytes() for out in resampler.resample(frame))
            if len(pcm) > 2 * RATE * MAX_RECORDING_S:
                raise BadRecording(f"a recording may last {MAX_RECORDING_S:.0f} s")
    except av.error.InvalidDataError:
        if not pcm:
            raise  # else it was cut off: what came before is speech all the same
    pcm += b"".join(out.to_ndarray().tobytes() for out in resampler.resample(None))
    return bytes(pcm)


def encode(pcm: bytes, rate: int, audio_format: Format) -> bytes:
    """Mono s16le at `rate` Hz as a file of its own, which any browser decodes."""
    file = io.BytesIO()
    if audio_format == "wav":
        with wave.open(file, "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(rate)
            wav.writeframes(pcm)
        return file.getvalue()
    container_name, codec, codec_rate = ENCODERS[audio_format]
    with av.open(file, "w", format=container_name) as container:
        stream = container.add_stream(codec, rate=codec_rate, bit_rate=BIT_RATES[audio_format])
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, np.int16).reshape(1, -1), "s16", "mono")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
