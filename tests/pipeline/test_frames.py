"""The frames bargein adds keep to the rules of Pipecat's."""

import pytest
from pipecat.frames.frames import InterruptionFrame as PipecatInterruptionFrame

from bargein.pipeline import (
    InterruptionFrame,
    Level,
    Reason,
    SpeechHoldFrame,
    SpeechInterruptedFrame,
    SpeechOnlyInterruptionFrame,
    SpeechReleaseFrame,
    SpokenAudioFrame,
)
from bargein.pipeline.frames import (
    EndFrame,
    Frame,
    OutputAudioRawFrame,
    SystemFrame,
    TextFrame,
    TTSAudioRawFrame,
)
from bargein.pipeline.testing import PipelineTest


def test_a_full_interruption_is_one_for_pipecat_and_a_speech_only_one_is_not() -> None:
    assert isinstance(InterruptionFrame(), PipecatInterruptionFrame)
    assert not isinstance(SpeechOnlyInterruptionFrame(), PipecatInterruptionFrame)


@pytest.mark.parametrize("kind", [InterruptionFrame, SpeechOnlyInterruptionFrame])
def test_a_reason_may_be_any_string(
    kind: type[InterruptionFrame] | type[SpeechOnlyInterruptionFrame],
) -> None:
    assert kind().reason == Reason.INTERRUPTED
    assert kind(reason="fire alarm").reason == "fire alarm"


@pytest.mark.parametrize(
    "frame",
    [
        InterruptionFrame(),
        SpeechOnlyInterruptionFrame(),
        SpeechHoldFrame(),
        SpeechReleaseFrame(),
        SpeechInterruptedFrame(level=Level.FULL, reason="x"),
    ],
)
async def test_news_of_speech_overtakes_and_survives_interruptions(frame: Frame) -> None:
    assert isinstance(frame, SystemFrame)
    async with PipelineTest() as test:
        test.send(frame)
        await test.expect(type(frame))


def test_spoken_audio_is_speech_that_knows_its_text() -> None:
    frame = SpokenAudioFrame(b"\0" * 8, 16_000, 1, marks=((2, 3), (4, 9)))
    assert isinstance(frame, TTSAudioRawFrame | OutputAudioRawFrame)
    assert (frame.num_frames, frame.interruptible) == (4, True)
    assert SpokenAudioFrame(b"", 16_000, 1).marks == ()


def test_what_an_interruption_may_drop_is_said_by_the_frame() -> None:
    assert TextFrame("a").interruptible
    assert not EndFrame().interruptible
