"""Opus in both directions: RTP packets to PCM blocks, PCM blocks to paced packets.

Both codecs run inline in the event loop: a packet costs 50 to 200 us, less than handing it to a thread
and back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtp import RtpPacket
from av.audio.codeccontext import AudioCodecContext
from loguru import logger

INPUT_RATE = 16_000  # Hz, what speech models take
BLOCK_S = 0.020  # one Opus packet and one pipeline frame
BLOCK_BYTES = round(INPUT_RATE * BLOCK_S) * 2
OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)  # Hz, what libopus encodes
RTP_RATE = 48_000  # Hz, the RTP clock of Opus whatever is inside (RFC 7587 section 4.1)
REORDER_PACKETS = 3  # packets to wait for a missing one, 60 ms: longer than reordering, shorter than a retry
RESYNC_PACKETS = 100  # a jump this large is a new stream, not loss

Read = Callable[[int], bytes]


class Uplink:
    """Puts the peer's Opus packets in order and calls `on_block` with 20 ms of mono s16le at 16 kHz.

    It stands where an aiortc receiver keeps its jitter buffer. That one holds each packet until four
    later ones have arrived and stalls for 16 when one is lost; this one decodes a packet in order at
    once and replaces a lost one by silence after `REORDER_PACKETS`.

    Attributes:
        next: The sequence number to decode next, or None before the first packet.
        waiting: Packets that came before their turn, by sequence number.
        pcm: Decoded bytes that do not fill a block yet.
        lost: Packets replaced by silence so far.
    """

    def __init__(self, on_block: Callable[[bytes], None]) -> None:
        self.on_block = on_block
        self.next: int | None = None
        self.waiting: dict[int, bytes] = {}
        self.pcm: bytearray | None = None
        self.lost = 0
        self._silence = bytes(BLOCK_BYTES)
        self._decoder = _opus_decoder()
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=INPUT_RATE)

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """Take one packet; the signature, and the result "nothing for you to decode", are aiortc's."""
        number = packet.sequence_number
        if self.next is None:
            self.next = number
        ahead = (number - self.next + 0x8000) % 0x10000 - 0x8000
        if abs(ahead) > RESYNC_PACKETS:
            self.waiting.clear()
            self.next = number
        elif ahead < 0:
            return False, None
        self.waiting[number] = packet.payload
        while self.waiting:
            payload = self.waiting.pop(self.next, None)
            if payload is not None:
                self._emit(self._decode(payload))
            elif len(self.waiting) > REORDER_PACKETS:
                self.lost += 1
                self._emit(self._silence)
            else:
                break
            self.next = (self.next + 1) % 0x10000
        return False, None

    def _decode(self, payload: bytes) -> bytes:
        """One packet as 16 kHz PCM; silence in place of one that is no Opus."""
        try:
            frames = self._decoder.decode(av.Packet(payload))
        except av.FFmpegError as error:
            logger.debug("undecodable Opus packet of {} bytes: {}", len(payload), error)
            self._decoder = _opus_decoder()
            return self._silence
        blocks = [block for frame in frames for block in self._resampler.resample(frame)]
        return b"".join(bytes(block.planes[0])[: block.samples * 2] for block in blocks)

    def _emit(self, pcm: bytes) -> None:
        if self.pcm is None:
            # The resampler keeps back its first samples. Without padding, every block would lack them
            # and wait for the packet after.
            self.pcm = bytearray(-len(pcm) % BLOCK_BYTES)
        self.pcm += pcm
        while len(self.pcm) >= BLOCK_BYTES:
            block = bytes(self.pcm[:BLOCK_BYTES])
            del self.pcm[:BLOCK_BYTES]
            self.on_block(block)


class Downlink(MediaStreamTrack):
    """Pulls 20 ms of PCM at each tick and gives it to the sender as an Opus packet; it keeps no audio.

    Attributes:
        read: Given a number of samples, returns that many of mono s16le at `sample_rate`; None is silence.
        skipped: Ticks left out because the event loop came too late for them.
    """

    kind = "audio"

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        super().__init__()
        self.read: Read | None = None
        self.skipped = 0
        self._clock = clock or asyncio.get_running_loop().time
        self._due: float | None = None  # when the next packet is to leave, loop time in s
        self._timestamp = 0
        self.set_rate(24_000)

    def set_rate(self, sample_rate: int) -> None:
        """Set the rate of what `read` returns.

        Raises:
            ValueError: Opus has no such rate.
        """
        if sample_rate not in OPUS_RATES:
            rates = ", ".join(map(str, OPUS_RATES))
            raise ValueError(f"Opus cannot send {sample_rate} Hz; use one of {rates}")
        self.sample_rate = sample_rate
        self._samples = round(sample_rate * BLOCK_S)
        self._encoder = _opus_encoder(sample_rate)

    async def recv(self) -> av.Packet[Any]:
        """Wait for the next tick and return its packet.

        A tick that comes late is followed by a shorter wait, so that the stream does not drift; one that
        comes later than a whole tick is not made up for, because a burst would only grow the peer's
        jitter buffer. The RTP timestamp jumps over what was left out.
        """
        now = self._clock()
        if self._due is None:
            self._due = now
        if now < self._due:
            await asyncio.sleep(self._due - now)
        elif missed := int((now - self._due) / BLOCK_S):
            self.skipped += missed
            self._due += missed * BLOCK_S
            self._timestamp += missed * round(RTP_RATE * BLOCK_S)
        if self.readyState != "live":
            raise MediaStreamError
        packet = self._encode(self.read(self._samples) if self.read else bytes(self._samples * 2))
        packet.pts, packet.time_base = self._timestamp, Fraction(1, RTP_RATE)
        self._due += BLOCK_S
        self._timestamp += round(RTP_RATE * BLOCK_S)
        return packet

    def _encode(self, pcm: bytes) -> av.Packet[Any]:
        frame = av.AudioFrame(format="s16", layout="mono", samples=self._samples)
        frame.planes[0].update(pcm)
        frame.sample_rate = self.sample_rate
        (packet,) = self._encoder.encode(frame)  # libopus gives one packet for each 20 ms
        return packet


def _opus_decoder() -> AudioCodecContext:
    decoder = av.CodecContext.create("libopus", "r")
    assert isinstance(decoder, AudioCodecContext)
    decoder.format, decoder.layout, decoder.sample_rate = "s16", "mono", RTP_RATE
    return decoder


def _opus_encoder(sample_rate: int) -> AudioCodecContext:
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, AudioCodecContext)
    encoder.format, encoder.layout, encoder.sample_rate = "s16", "mono", sample_rate
    encoder.time_base = Fraction(1, sample_rate)
    encoder.bit_rate = 32_000  # full-band mono speech (RFC 7587 section 3.1.1: 28 to 40 kbit/s)
    # Complexity 5 of 10 takes a quarter less time and is not heard in speech at this rate.
    encoder.options = {"application": "voip", "frame_duration": "20", "compression_level": "5"}
    return encoder
