"""Recordings as browsers and people make them."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest

from bargein.transports.voice_agent import encoding
from bargein.transports.voice_agent.encoding import BadRecording, Format, decode, encode

DATA = Path(__file__).parents[2] / "data"


def tone(seconds: float, rate: int) -> bytes:
    samples = 8_000 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)
    return samples.astype(np.int16).tobytes()


def recorded(container: str, codec: str, seconds: float = 1.0, layout: str = "mono") -> bytes:
    """A recording as FFmpeg makes it."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=48_000)
        assert isinstance(stream, av.AudioStream)
        stream.layout = layout
        pcm = np.frombuffer(tone(seconds, 48_000), np.int16)
        for at in range(0, len(pcm), 960):
            frame = av.AudioFrame.from_ndarray(pcm[at : at + 960].reshape(1, -1), "s16", "mono")
            frame.sample_rate, frame.pts = 48_000, at
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def pitch(pcm: bytes, rate: int = 16_000) -> float:
    samples = np.frombuffer(pcm, np.int16).astype(float)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * rate / len(samples)


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("webm", "libopus"),
        ("matroska", "libopus"),
        ("ogg", "libopus"),
        ("ogg", "flac"),
        ("wav", "pcm_s16le"),
        ("mp3", "libmp3lame"),
        ("flac", "flac"),
        ("mp4", "aac"),
        ("adts", "aac"),
    ],
)
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_recordings_become_16_khz_mono(container: str, codec: str, layout: str) -> None:
    pcm = decode(recorded(container, codec, layout=layout))
    assert len(pcm) == pytest.approx(32_000, abs=4_000)
    assert pitch(pcm) == pytest.approx(440, abs=5)
    assert 5_000 < np.abs(np.frombuffer(pcm, np.int16)).max() < 11_000


@pytest.mark.parametrize("audio_format", ["wav", "mp3", "opus"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_speech_in_each_format_and_rate(audio_format: Format, rate: int) -> None:
    pcm = decode(encode(tone(1.0, rate), rate, audio_format))
    assert len(pcm) == pytest.approx(32_000, abs=4_000)
    assert pitch(pcm) == pytest.approx(440, abs=5)


def test_a_flac_of_a_person() -> None:
    assert len(decode((DATA / "jfk.flac").read_bytes())) == pytest.approx(11 * 32_000, abs=100)


def test_what_was_cut_off_is_speech_all_the_same() -> None:
    whole = recorded("webm", "libopus", 3.0)
    assert 16_000 < len(decode(whole[: len(whole) * 2 // 3])) < 3 * 32_000


@pytest.mark.parametrize("recording", [b"", b"x", b"no audio at all" * 100, recorded("webm", "libopus")[:40]])
def test_what_is_no_recording_is_refused(recording: bytes) -> None:
    with pytest.raises(BadRecording):
        decode(recording)


def test_a_playlist_does_not_open_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(encode(tone(1.0, 16_000), 16_000, "wav"))
    lists = [
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile {secret}\n",
    ]
    for text in lists:
        with pytest.raises(BadRecording):
            decode(text.encode())


def test_a_video_without_sound_is_refused() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="webm") as output:
        stream = output.add_stream("libvpx", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 64
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with pytest.raises(BadRecording, match="no audio track"):
        decode(file.getvalue())


def test_hours_of_silence_are_refused_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "MAX_RECORDING_S", 2.0)
    with pytest.raises(BadRecording, match="may last 2 s"):
        decode(encode(bytes(16_000 * 2 * 10), 16_000, "opus"))
