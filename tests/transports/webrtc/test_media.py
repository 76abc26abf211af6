"""Opus both ways, without a network."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import av
import numpy as np
import pytest
from aiortc.rtp import RtpPacket

from bargein.transports.webrtc import media
from bargein.transports.webrtc.media import BLOCK_BYTES, Downlink, Uplink

pytestmark = pytest.mark.real_time


def opus(count: int, first: int = 0) -> list[RtpPacket]:
    """20 ms packets of a 400 Hz tone."""
    encoder = media._opus_encoder(48_000)
    packets = []
    for index in range(count):
        time = np.arange(index * 960, (index + 1) * 960) / 48_000
        wave = (12_000 * np.sin(2 * np.pi * 400 * time)).astype("<i2")
        frame = av.AudioFrame.from_ndarray(wave.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = 48_000
        (encoded,) = encoder.encode(frame)
        packets.append(RtpPacket(sequence_number=(first + index) % 65_536, payload=bytes(encoded)))
    return packets


class Heard:
    """An uplink and the blocks that came out of it."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.uplink = Uplink(self.blocks.append)

    def take(self, packets: list[RtpPacket]) -> None:
        for packet in packets:
            assert self.uplink.add(packet) == (False, None)

    def loud(self) -> list[bool]:
        return [bool(np.abs(np.frombuffer(block, "<i2")).max() > 5_000) for block in self.blocks]


def test_each_packet_becomes_one_block_at_once() -> None:
    heard = Heard()
    for index, packet in enumerate(opus(50)):
        heard.take([packet])
        assert len(heard.blocks) == index + 1
    assert {len(block) for block in heard.blocks} == {BLOCK_BYTES}
    assert all(heard.loud()[2:])


def test_the_tone_arrives_as_it_was() -> None:
    heard = Heard()
    heard.take(opus(60))
    wave = np.frombuffer(b"".join(heard.blocks[10:]), "<i2").astype(float)
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    assert round(float(spectrum.argmax()) * 16_000 / len(wave)) == 400
    assert wave.max() == pytest.approx(12_000, rel=0.1)


def test_packets_out_of_order_are_put_in_order() -> None:
    in_order, shuffled = Heard(), Heard()
    packets = opus(12, first=65_530)  # across the wrap of the sequence number
    in_order.take(packets)
    shuffled.take([packets[i] for i in (0, 2, 1, 5, 4, 3, 6, 7, 7, 9, 8, 0, 10, 11)])
    assert shuffled.blocks == in_order.blocks
    assert shuffled.uplink.lost == 0


def test_a_lost_packet_becomes_silence_and_delays_no_more_than_three() -> None:
    heard = Heard()
    packets = opus(20)
    heard.take(packets[:9])
    heard.take(packets[10:13])
    assert len(heard.blocks) == 9, "waits for the missing packet"
    heard.take(packets[13:14])
    assert len(heard.blocks) == 14, "all that waited comes out with the fourth"
    heard.take(packets[14:])
    assert len(heard.blocks) == 20
    assert heard.uplink.lost == 1
    assert heard.uplink.waiting == {}
    assert not np.frombuffer(heard.blocks[9], "<i2")[100:].any()


def test_a_jump_in_the_sequence_is_a_new_stream() -> None:
    heard = Heard()
    heard.take(opus(10))
    heard.take(opus(10, first=40_000))
    heard.take(opus(10, first=300))
    assert len(heard.blocks) == 30
    assert heard.uplink.lost == 0


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\xff" * 5, b"garbage" * 40, bytes(1_200)])
def test_what_is_no_opus_does_no_harm(payload: bytes) -> None:
    heard = Heard()
    packets = opus(20)
    packets[5].payload = payload
    heard.take(packets)
    assert len(heard.blocks) >= 19
    assert all(heard.loud()[-10:])


async def test_ticks_do_not_drift_and_late_ones_are_not_made_up_for() -> None:
    now = 100.0
    track = Downlink(clock=lambda: now)
    asked: list[int] = []

    def read(samples: int) -> bytes:
        asked.append(samples)
        return bytes(samples * 2)

    track.read = read
    first = await track.recv()
    assert first.pts == 0
    assert first.time_base == Fraction(1, 48_000)

    now = 100.027  # 7 ms late: taken at once, and the next is due at 100.040 all the same
    assert (await track.recv()).pts == 960
    assert track._due == pytest.approx(100.040)

    now = 100.139  # 99 ms late: four ticks are left out, and the timestamp jumps over them
    assert (await track.recv()).pts == 6 * 960
    assert track.skipped == 4
    assert track._due == pytest.approx(100.140)

    assert asked == [480, 480, 480], "one read for each packet sent"
    track.stop()


async def test_an_early_tick_waits() -> None:
    loop = asyncio.get_running_loop()
    track = Downlink()
    await track.recv()
    before = loop.time()
    for _ in range(5):
        await track.recv()
    assert loop.time() - before > 0.079, "five ticks take a tenth of a second less one tick"
    track.stop()


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
async def test_what_is_read_can_be_decoded(rate: int) -> None:
    track = Downlink(clock=lambda: 0.0)
    track.set_rate(rate)
    wave = (12_000 * np.sin(2 * np.pi * 400 * np.arange(rate // 50) / rate)).astype("<i2").tobytes()
    track.read = lambda samples: wave[: samples * 2]
    decoder = media._opus_decoder()
    track._due = -10.0
    packets = [track._encode(track.read(rate // 50)) for _ in range(10)]
    frames = [frame for packet in packets for frame in decoder.decode(av.Packet(bytes(packet)))]
    assert [frame.samples for frame in frames] == [960] * 10
    assert np.abs(frames[-1].to_ndarray()).max() == pytest.approx(12_000, rel=0.2)
    track.stop()


async def test_a_rate_that_opus_has_not_is_refused() -> None:
    track = Downlink()
    with pytest.raises(ValueError, match="22050 Hz; use one of"):
        track.set_rate(22_050)
    track.stop()
