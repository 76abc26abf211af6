"""Pipecat's serializers, unmodified, with our frames: telephony (JSON) and Pipecat's own (protobuf)."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
from pipecat.processors.frame_processor import FrameProcessorSetup
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.serializers.exotel import ExotelFrameSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer

from bargein.pipeline.frames import (
    InputAudioRawFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    PipecatInterruptionFrame,
    SpeechOnlyInterruptionFrame,
    SpokenAudioFrame,
)

RATE = 24_000


@dataclass(frozen=True)
class Telephony:
    """One provider's media stream.

    Attributes:
        audio: The message that carries audio out, without its payload.
        clear: The message that drops audio not yet played.
        bytes_a_second: Of the payload.
    """

    serializer: Callable[[], FrameSerializer]
    audio: dict[str, Any]
    clear: dict[str, Any]
    bytes_a_second: int = 8_000  # G.711


def _twilio() -> FrameSerializer:
    return TwilioFrameSerializer("s1", params=TwilioFrameSerializer.InputParams(auto_hang_up=False))


def _telnyx() -> FrameSerializer:
    params = TelnyxFrameSerializer.InputParams(auto_hang_up=False)
    return TelnyxFrameSerializer("s1", "PCMU", "PCMU", params=params)


def _plivo() -> FrameSerializer:
    return PlivoFrameSerializer("s1", params=PlivoFrameSerializer.InputParams(auto_hang_up=False))


PROVIDERS = {
    "twilio": Telephony(
        _twilio, {"event": "media", "streamSid": "s1", "media": {}}, {"event": "clear", "streamSid": "s1"}
    ),
    "telnyx": Telephony(_telnyx, {"event": "media", "media": {}}, {"event": "clear"}),
    "plivo": Telephony(
        _plivo,
        {
            "event": "playAudio",
            "streamId": "s1",
            "media": {"contentType": "audio/x-mulaw", "sampleRate": 8000},
        },
        {"event": "clearAudio", "streamId": "s1"},
    ),
    "exotel": Telephony(
        lambda: ExotelFrameSerializer("s1"),
        {"event": "media", "stream_sid": "s1", "media": {}},
        {"event": "clear", "stream_sid": "s1"},
        bytes_a_second=16_000,  # 16-bit PCM
    ),
}

telephony = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)


async def _ready(serializer: FrameSerializer) -> FrameSerializer:
    nothing = cast("Any", None)  # serializers read the rates alone
    await serializer.setup(FrameProcessorSetup(nothing, nothing, nothing))
    return serializer


@telephony
async def test_an_interruption_clears_what_the_provider_has_not_played(provider: Telephony) -> None:
    serializer = await _ready(provider.serializer())
    message = await serializer.serialize(InterruptionFrame(reason="user_speaking"))
    assert message is not None
    assert json.loads(message) == provider.clear


@telephony
async def test_a_speech_only_interruption_is_unknown_to_it(provider: Telephony) -> None:
    """So whoever serializes must give it Pipecat's own frame for both levels."""
    serializer = await _ready(provider.serializer())
    assert await serializer.serialize(SpeechOnlyInterruptionFrame()) is None
    message = await serializer.serialize(PipecatInterruptionFrame())
    assert message is not None
    assert json.loads(message) == provider.clear


@telephony
async def test_speech_goes_out_and_sound_comes_in(provider: Telephony) -> None:
    serializer = await _ready(provider.serializer())
    loud = (np.sin(np.arange(RATE) * 2 * np.pi * 440 / RATE) * 8000).astype(np.int16)
    sent, received = b"", b""
    for at in range(0, RATE, RATE // 50):
        frame = SpokenAudioFrame(loud[at : at + RATE // 50].tobytes(), RATE, 1, "r1", ((0, 3),))
        message = await serializer.serialize(frame)
        if message is None:
            continue  # the resampler keeps the first samples back
        told = json.loads(message)
        payload = told["media"].pop("payload")
        assert told == provider.audio
        sent += b64decode(payload)
        echo = await serializer.deserialize(json.dumps({"event": "media", "media": {"payload": payload}}))
        if echo is not None:
            assert isinstance(echo, InputAudioRawFrame)
            assert (echo.sample_rate, echo.num_channels) == (16_000, 1)
            received += echo.audio
    assert provider.bytes_a_second * 0.9 < len(sent) <= provider.bytes_a_second
    back = np.frombuffer(received, np.int16)[1600:-1600].astype(float)
    assert np.sqrt(np.mean(back**2)) == pytest.approx(8000 / np.sqrt(2), rel=0.05)


@telephony
@pytest.mark.parametrize("garbage", ["", "{", '{"event": "?"}', '{"event": "media"}', "\x00"])
async def test_garbage_is_no_frame(provider: Telephony, garbage: str) -> None:
    serializer = await _ready(provider.serializer())
    assert await serializer.deserialize(garbage) is None


async def test_the_protobuf_serializer_takes_pipecats_own_classes_only() -> None:
    """It looks the exact class up, so whoever serializes must give it no subclass."""
    serializer = await _ready(ProtobufFrameSerializer())
    assert await serializer.serialize(InterruptionFrame()) is None
    assert await serializer.serialize(SpokenAudioFrame(b"\0\0", RATE, 1)) is None
    for frame in (PipecatInterruptionFrame(), OutputAudioRawFrame(b"\0\0", RATE, 1)):
        assert await serializer.serialize(frame) is not None
