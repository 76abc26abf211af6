"""One WebRTC peer: audio both ways and JSON both ways. Knows nothing of frames and pipelines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.sdp import SessionDescription, candidate_from_sdp
from loguru import logger

from ...pipeline.errors import BargeinError
from ..rtvi import encoded
from .ice import IceServer, for_server
from .media import Downlink, Read, Uplink

CONNECT_S = 15.0  # a peer that has not connected this long after its offer is given up
SILENT_S = 10.0  # a peer that used to send (50 packets/s, a ping each 2 s) and sends nothing is gone
GOODBYE_S = 0.3  # how long closing waits for the peer to acknowledge the last messages
MAX_UNSENT = 8_192  # messages kept for a data channel that is not open yet: an answer has one to a word
MAX_BUFFERED = 4_194_304  # bytes of messages that the peer has not taken; the longest answer has some 100,000

# Tells Pipecat's client that the bot has left; without it, it would connect anew.
PEER_LEFT = {"type": "signalling", "message": {"type": "peerLeft"}}

Message = dict[str, Any]
OnBlock = Callable[[bytes], None]
OnMessage = Callable[[Message], None]


class BadOffer(BargeinError, ValueError):
    """Raised when an SDP offer or a candidate cannot be used."""


class NoNetwork(BargeinError, OSError):
    """Raised when this machine has no address at which a peer could reach it; loopback does not count."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An ICE candidate that came after the offer; an empty `candidate` says that there are no more."""

    candidate: str
    sdp_mid: str | None
    sdp_mline_index: int | None


class WebRTCConnection:
    """The server's end of one peer connection.

    Args:
        ice_servers: Help where the two cannot reach each other directly.

    Attributes:
        id: Names the connection in signalling (`pc_id`).
        on_block: Called with each 20 ms of the peer's voice: 640 bytes of mono s16le at 16 kHz.
        on_message: Called with each JSON object the peer sends over the data channel.
        connected: Done once the data channel is open.
        closed: Done once the peer is gone or `lose` was called; its result says why. What runs the
            session watches it and then calls `close`.
        received_at: Loop time in s at which the peer was last heard of, or None. Written on each block
            and message.
    """

    def __init__(self, ice_servers: Sequence[IceServer] = ()) -> None:
        loop = asyncio.get_running_loop()
        self.id = uuid4().hex
        self.on_block: OnBlock | None = None
        self.on_message: OnMessage | None = None
        self.connected: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[str] = loop.create_future()
        self.received_at: float | None = None
        self._clock = loop.time
        self._channel: RTCDataChannel | None = None
        self._unsent: list[str] = []
        self._uplink = Uplink(self._take_block)
        self._downlink = Downlink()
        self._relays = [server.url for server in ice_servers if server.url.startswith("turn")]
        # Without this argument aiortc asks a public STUN server.
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=for_server(ice_servers)))
        self._peer.on("datachannel", self._open)
        self._peer.on("connectionstatechange", self._follow_state)
        self._deadline = loop.call_later(CONNECT_S, self._give_up)

    async def answer(self, sdp: str) -> str:
        """Take an SDP offer, the first or a later one, and return the SDP answer with all candidates.

        Raises:
            BadOffer: The text is no offer, or has no audio that Opus can carry. A first bad offer also
                closes the connection.
            NoNetwork: There is no address to offer to the peer.
        """
        first = self._peer.signalingState == "stable" and not self._peer.getTransceivers()
        try:
            if not any(media.kind == "audio" for media in SessionDescription.parse(sdp).media):
                raise BadOffer("the offer has no audio; call addTransceiver('audio') before createOffer()")
            if first:
                self._add_audio()
            await self._peer.setRemoteDescription(RTCSessionDescription(sdp=sdp, type="offer"))
            for transceiver in self._peer.getTransceivers():
                if transceiver.kind == "video":
                    transceiver.direction = "inactive"
            await self._peer.setLocalDescription(await self._peer.createAnswer())
            if "a=candidate:" not in self._peer.localDescription.sdp:
                raise NoNetwork("WebRTC needs a network address besides loopback; connect to any network")
        except Exception as error:  # the parser raises whatever it stumbles over
            if first:
                self.lose("the offer was refused")
                await self.close()
            if isinstance(error, BargeinError):
                raise
            raise BadOffer(f"this is not a usable SDP offer ({type(error).__name__}: {error})") from error
        if self._relays and " typ relay" not in self._peer.localDescription.sdp:
            logger.warning("connection {}: {} gives no relay", self.id[:8], self._relays[0])
        return self._peer.localDescription.sdp

    async def add_candidate(self, candidate: Candidate) -> None:
        """Take a candidate that the peer found after its offer.

        Raises:
            BadOffer: It is not in the form `candidate:<foundation> <component> udp ...`.
        """
        parsed = None
        if candidate.candidate:
            try:
                parsed = candidate_from_sdp(candidate.candidate.removeprefix("candidate:"))
            except (AssertionError, ValueError) as error:
                raise BadOffer(f"this is not an ICE candidate: {candidate.candidate[:200]!r}") from error
            parsed.sdpMid, parsed.sdpMLineIndex = candidate.sdp_mid, candidate.sdp_mline_index
            if parsed.sdpMid is None and parsed.sdpMLineIndex is None:
                raise BadOffer("a candidate needs sdp_mid or sdp_mline_index")
        await self._peer.addIceCandidate(parsed)

    def play(self, read: Read, sample_rate: int) -> None:
        """Send what `read(samples)` returns, mono s16le at `sample_rate` Hz, asked for each 20 ms.

        Raises:
            ValueError: Opus has no such rate (8, 12, 16, 24 or 48 kHz).
        """
        self._downlink.set_rate(sample_rate)
        self._downlink.read = read

    def send(self, message: Message) -> None:
        """Send a JSON object; kept until the data channel opens, dropped once the peer is gone.

        A peer that leaves too many of them unread is given up; one message larger than it takes is dropped.
        """
        text = encoded(message)
        channel = self._channel
        if channel is not None and channel.readyState == "open":
            if channel.bufferedAmount > MAX_BUFFERED:
                self.lose("the peer is too slow: it does not read its messages")
            else:
                self._transmit(channel, text)
        elif not self.closed.done():
            self._unsent.append(text)
            del self._unsent[:-MAX_UNSENT]

    def lose(self, reason: str) -> None:
        """Declare the peer gone: `closed` gets the reason, unless it has one."""
        if not self.closed.done():
            self.closed.set_result(reason)
            logger.debug("connection {}: {}", self.id[:8], reason)

    async def close(self) -> None:
        """Say goodbye and free the sockets and tasks. May be called again."""
        self.lose("closed")
        self._deadline.cancel()
        self.on_block = self.on_message = self._downlink.read = None
        if self.connected.done():
            self.send(PEER_LEFT)
        channel, self._channel = self._channel, None
        if channel is not None and channel.readyState == "open" and channel.bufferedAmount:
            drained = asyncio.Event()
            channel.on("bufferedamountlow", drained.set)
            try:
                async with asyncio.timeout(GOODBYE_S):
                    await drained.wait()
            except TimeoutError:
                pass
        await self._peer.close()
        if tasks := _tasks_of(self._peer):
            await asyncio.wait(tasks)
        if not self.connected.done():
            self.connected.cancel()

    def _add_audio(self) -> None:
        transceiver = self._peer.addTransceiver(self._downlink, "sendrecv")
        opus = [c for c in RTCRtpSender.getCapabilities("audio").codecs if c.mimeType.lower() == "audio/opus"]
        transceiver.setCodecPreferences(opus)
        _receive_through(self._uplink, transceiver.receiver)

    def _take_block(self, pcm: bytes) -> None:
        self.received_at = self._clock()
        if self.on_block is not None:
            self.on_block(pcm)

    def _open(self, channel: RTCDataChannel) -> None:
        if self._channel is not None:
            return  # one data channel carries everything
        self._channel = channel
        channel.on("message", self._take_message)
        channel.on("close", lambda: self.lose("the peer closed the data channel"))
        for text in self._unsent:
            self._transmit(channel, text)
        self._unsent.clear()
        if not self.connected.done():
            self.connected.set_result(None)

    def _transmit(self, channel: RTCDataChannel, text: str) -> None:
        try:
            channel.send(text)
        except ValueError as error:
            logger.warning("connection {}: a message was not sent: {}", self.id[:8], error)

    def _take_message(self, text: str | bytes) -> None:
        self.received_at = self._clock()
        if isinstance(text, str) and text.startswith("ping"):
            return  # a sign of life
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            logger.warning("connection {}: a message that is no JSON object was ignored", self.id[:8])
        elif self.on_message is not None:
            self.on_message(message)

    def _follow_state(self) -> None:
        state = self._peer.connectionState
        if state == "connected":
            self._deadline.cancel()
            self._watch()
        elif state == "failed":
            self.lose("the connection failed")
        elif state == "closed":
            self.lose("the peer closed the connection")

    def _watch(self) -> None:
        """Notice a peer that went away without a word, sooner than ICE consent does (30 s)."""
        if self.closed.done():
            return
        if self.received_at is not None and self._clock() - self.received_at > SILENT_S:
            self.lose(f"nothing from the peer for {SILENT_S:.0f} s")
            return
        self._deadline = asyncio.get_running_loop().call_later(SILENT_S / 4, self._watch)

    def _give_up(self) -> None:
        self.lose(f"the peer did not connect within {CONNECT_S:.0f} s")

    def __repr__(self) -> str:
        ended = f", closed: {self.closed.result()}" if self.closed.done() else ""
        state, lost, skipped = self._peer.connectionState, self._uplink.lost, self._downlink.skipped
        return f"<WebRTCConnection {self.id[:8]} {state}, {lost} lost, {skipped} skipped{ended}>"


def _receive_through(uplink: Uplink, receiver: RTCRtpReceiver) -> None:
    """Put our uplink in the place of this one receiver's jitter buffer, which aiortc cannot configure."""
    name = "_RTCRtpReceiver__jitter_buffer"
    if not hasattr(receiver, name):
        raise RuntimeError("this release of aiortc keeps its jitter buffer elsewhere; install aiortc 1.16")
    setattr(receiver, name, uplink)


def _tasks_of(peer: RTCPeerConnection) -> set[asyncio.Task[Any]]:
    """What aiortc still runs for a closed peer without a handle on it: to stop connecting takes it 20 ms."""
    frames = ((task, getattr(task.get_coro(), "cr_frame", None)) for task in asyncio.all_tasks())
    return {task for task, frame in frames if frame is not None and frame.f_locals.get("self") is peer}
