"""The default bot spoken over, with real models: backchannels and noises released, words yielded to."""

from __future__ import annotations

from difflib import SequenceMatcher

import numpy as np
import pytest
import soxr
from pipecat.frames.frames import UserBackchannelFrame

from bargein.pipeline.frames import (
    SpeechHoldFrame,
    SpeechInterruptedFrame,
    SpeechReleaseFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
)
from bargein.processors.tts import Synthesizer
from bargein.transports.file import RATE, Samples, load_recording

from .test_conversation import DATA, LONG_ANSWER, QUESTION, Conversation, conversation, onset, sounds, words

pytestmark = [pytest.mark.virtual_time, pytest.mark.local_models]

# The bot's voice, spoken faster and higher: another speaker.
PITCH = 1.15


async def say(talk: Conversation, text: str) -> Samples:
    voice: Synthesizer = talk.running.shared.of(talk.running.bot.declaration.tts)
    pcm = b""
    async for chunk in voice.synthesize(text):
        pcm += chunk.pcm
    samples: Samples = soxr.resample(np.frombuffer(pcm, np.int16), chunk.sample_rate * PITCH, RATE)
    return samples


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * RATE), np.int16)


def received(talk: Conversation, frame_type: type) -> list[float]:
    """When frames of a type were pushed, each once, s."""
    seen = {frame.id: (time, frame) for time, frame in reversed(talk.frames) if isinstance(frame, frame_type)}
    return sorted(time for time, _ in seen.values())


async def test_backchannels_and_noises_do_not_cost_a_word() -> None:
    async with conversation(QUESTION) as talk:
        names = ("okay", "right", "yeah", "dog_bark", "car_horn")
        sounding = [load_recording(DATA / f"{name}.wav") for name in names]
        overlap = np.concatenate([part for sound in sounding for part in (sound, silence(1.5))])
        talk.transport.input.after_bot_starts(1.5, overlap)
        await talk.transport.run(talk.session)
        holds, releases = received(talk, SpeechHoldFrame), received(talk, SpeechReleaseFrame)
        assert len(holds) >= 3
        assert len(holds) == len(releases)
        assert received(talk, SpeechInterruptedFrame) == []
        assert len(received(talk, UserBackchannelFrame)) == 3
        assert talk.session.stats.interruptions == 0
        # The answer was said to its end; not a word was lost or doubled, in the context or in the air.
        assert talk.said == [LONG_ANSWER]
        heard = {frame.id: frame.text for _, frame in talk.frames if isinstance(frame, TTSTextFrame)}
        assert "".join(heard.values()) == LONG_ANSWER
        _, bot = talk.transport.channels
        # A word that was held in its middle may be recognised as two.
        recorded = words(await talk.transcribe(bot[int(holds[0] * RATE) - RATE * 2 :]))
        assert SequenceMatcher(None, recorded, words(LONG_ANSWER)).ratio() >= 0.8
        # While it was held the bot was silent: 20 ms block, 15 ms fade.
        for held, released in zip(holds, releases, strict=True):
            assert not sounds(bot)[int(held * 100) + 5 : int(released * 100) - 1].any()
        assert len([m for m in talk.context.messages if m["role"] == "user"]) == 1


@pytest.mark.parametrize("command", ["Stop.", "Wait.", "Hold on a second."])
async def test_a_command_interrupts_however_short(command: str) -> None:
    async with conversation(QUESTION) as talk:
        recording = await say(talk, command)
        talk.transport.input.after_bot_starts(1.5, recording)
        await talk.transport.run(talk.session)
        _, bot = talk.transport.channels
        (hold,) = received(talk, SpeechHoldFrame)
        began = next(i for i, loud in enumerate(sounds(bot)) if loud) / 100
        # From the hold on the bot was silent, until it answered.
        spoken = began + 1.5 + onset(recording) / RATE
        assert hold >= spoken
        end = int((began + 1.5 + len(recording) / RATE) * 100)
        assert not sounds(bot)[int(hold * 100) + 5 : end].any()
        reports = {f.id: f for _, f in talk.frames if isinstance(f, SpeechInterruptedFrame)}
        (report,) = reports.values()
        assert report.reason == "user_speaking"
        assert LONG_ANSWER.startswith(report.heard)
        said = [m["content"] for m in talk.context.messages if m["role"] == "user"]
        assert len(said) == 2
        assert words(said[1])[0] == words(command)[0]
        assert len(received(talk, UserStartedSpeakingFrame)) >= 2
