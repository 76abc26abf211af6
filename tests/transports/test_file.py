"""Recordings: which files are understood, how they are refused, and one clock for both sides."""

from __future__ import annotations

import json
import wave
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from bargein.pipeline import Pipeline, Processor, Session, handles
from bargein.pipeline.frames import (
    InputAudioRawFrame,
    LLMFullResponseEndFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStoppedFrame,
)
from bargein.transports.events import EventLog
from bargein.transports.file import RATE, BadRecording, FileTransport, load_recording

DATA = Path(__file__).parent.parent / "data"


def write_wav(path: Path, rate: int, channels: int, width: int, seconds: float = 1.0) -> Path:
    t = np.arange(int(rate * seconds)) / rate
    tone = np.sin(2 * np.pi * 440 * t)
    samples = (127 * tone + 128).astype(np.uint8) if width == 1 else (20_000 * tone).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.repeat(samples, channels).tobytes())
    return path


@pytest.mark.parametrize(
    ("rate", "channels", "width"), [(16_000, 1, 2), (8_000, 1, 1), (48_000, 2, 2), (44_100, 2, 1)]
)
def test_any_wav_becomes_mono_at_16_khz(tmp_path: Path, rate: int, channels: int, width: int) -> None:
    samples = load_recording(write_wav(tmp_path / "a.wav", rate, channels, width))
    assert samples.dtype == np.int16
    assert len(samples) == pytest.approx(RATE, abs=10)
    assert np.abs(np.fft.rfft(samples)).argmax() == pytest.approx(440, abs=1)


def test_flac_is_read() -> None:
    assert len(load_recording(DATA / "jfk.flac")) == pytest.approx(11 * RATE, rel=0.01)


def test_bad_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadRecording, match=r"none\.wav: no such file"):
        load_recording(tmp_path / "none.wav")
    (tmp_path / "empty.wav").touch()
    with pytest.raises(BadRecording, match=r"empty\.wav: not a readable audio file"):
        load_recording(tmp_path / "empty.wav")
    (tmp_path / "text.wav").write_text("this is no audio, whatever its name says\n" * 100)
    with pytest.raises(BadRecording, match=r"text\.wav: not a readable audio file"):
        load_recording(tmp_path / "text.wav")
    with pytest.raises(BadRecording, match=r"silent\.wav: holds no audio"):
        load_recording(write_wav(tmp_path / "silent.wav", 16_000, 1, 2, seconds=0))
    with pytest.raises(BadRecording, match="not a readable audio file"):
        load_recording(tmp_path)


class Parrot(Processor):
    """Says the first block it gets half a second later, as an answer of one second."""

    def __init__(self) -> None:
        self.blocks = 0

    @handles(InputAudioRawFrame)
    def hear(self, frame: InputAudioRawFrame) -> None:
        self.blocks += 1
        if self.blocks == 25:
            self.push(TTSAudioRawFrame(b"\x10\x10" * RATE, RATE, 1))
            self.push(TTSStoppedFrame())


async def test_both_sides_are_recorded_on_one_clock(tmp_path: Path) -> None:
    transport = FileTransport(np.full(RATE, 5_000, np.int16))
    transport.input.after_bot_starts(0.4, np.full(RATE // 2, -5_000, np.int16))
    session = Session(Pipeline([transport.input, Parrot(), transport.output]))
    log = StringIO()
    async with session:
        session.observe(EventLog(log, lambda: transport.seconds))
        await transport.run(session, quiet_s=1)
    transport.save(tmp_path / "out.wav")
    with wave.open(str(tmp_path / "out.wav")) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, RATE)
        user, bot = np.frombuffer(file.readframes(10**9), np.int16).reshape(-1, 2).T
    starts = int(np.flatnonzero(bot)[0])
    assert starts == pytest.approx(0.5 * RATE, abs=400)
    assert int(np.flatnonzero(user < 0)[0]) - starts == pytest.approx(0.4 * RATE, abs=400)
    assert np.count_nonzero(bot) == RATE
    events = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [e["event"] for e in events] == ["bot_started", "bot_stopped"]
    assert events[1]["t"] - events[0]["t"] == pytest.approx(1, abs=0.05)


async def test_without_pacing_a_listener_gets_everything_at_once() -> None:
    class Count(Processor):
        samples = 0

        @handles(InputAudioRawFrame)
        def count(self, frame: InputAudioRawFrame) -> None:
            self.samples += frame.num_frames

    transport, count = FileTransport(np.ones(60 * RATE, np.int16), paced=False), Count()
    async with Session(Pipeline([transport.input, count, transport.output])) as session:
        await transport.run(session, quiet_s=0.02)
    assert count.samples >= 60 * RATE


async def test_the_log_names_each_event_once_and_its_response() -> None:
    log = StringIO()

    class Says(Processor):
        @handles(TTSSpeakFrame)
        def say(self, frame: TTSSpeakFrame) -> None:
            with self.session.respond():
                self.push(LLMFullResponseEndFrame())

    async with Session(Pipeline([Processor(), Says(), Processor()])) as session:
        session.observe(EventLog(log, lambda: 1.5))
        session.push(TTSSpeakFrame("hi"))
        session.interrupt("timeout")
    events = [json.loads(line) for line in log.getvalue().splitlines()]
    assert events[0] == {"t": 1.5, "event": "response_ended", "response_id": "r1"}
    assert events[1]["event"] == "interrupted"
    assert events[1]["reason"] == "timeout"
    assert len(events) == 2
