"""A connection against an aiortc peer, over real sockets on this machine."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from bargein.transports.webrtc import BadOffer, Candidate, NoNetwork, WebRTCConnection, connection

from .peer import WAIT_S, Peer, peer

pytestmark = pytest.mark.real_time

TONE = (8000 * np.sin(2 * np.pi * 440 * np.arange(480) / 24_000)).astype("<i2").tobytes()


async def join(client: Peer) -> WebRTCConnection:
    """Connect a peer to a new connection."""
    server = WebRTCConnection()
    await client.accept(await server.answer(await client.offer()))
    async with asyncio.timeout(WAIT_S):
        await server.connected
    return server


async def reason(server: WebRTCConnection) -> str:
    async with asyncio.timeout(WAIT_S):
        return await server.closed


async def test_audio_both_ways() -> None:
    async with peer() as client:
        server = await join(client)
        blocks: asyncio.Queue[bytes] = asyncio.Queue()
        server.on_block = blocks.put_nowait
        server.play(lambda samples: TONE, 24_000)
        async with asyncio.timeout(WAIT_S):
            heard = [await blocks.get() for _ in range(25)]
        assert {len(block) for block in heard} == {640}
        assert np.abs(np.frombuffer(heard[-1], "<i2")).max() > 4_000
        await client.hear(loud=True)
        server.play(bytes_of_silence, 24_000)
        await client.hear(loud=False)
        await server.close()


def bytes_of_silence(samples: int) -> bytes:
    return bytes(samples * 2)


async def test_the_peer_is_told_that_the_server_leaves() -> None:
    async with peer() as client:
        server = await join(client)
        await server.close()
        left = await client.expect("signalling")
        assert left["message"] == {"type": "peerLeft"}


async def test_messages_both_ways_and_those_sent_too_early() -> None:
    async with peer() as client:
        server = WebRTCConnection()
        server.send({"type": "early"})
        received: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        server.on_message = received.put_nowait
        await client.accept(await server.answer(await client.offer()))
        await client.expect("early")
        client.channel.send("ping: 12")
        client.channel.send("no JSON")
        client.channel.send("[1, 2]")
        client.channel.send(b"\xff\xfe")
        client.send("hello", {"text": "grüß dich"})
        async with asyncio.timeout(WAIT_S):
            message = await received.get()
        assert message["data"] == {"text": "grüß dich"}
        assert received.empty()
        server.send({"type": "late", "data": {"text": "♪"}})
        assert (await client.expect("late"))["data"] == {"text": "♪"}
        await server.close()


async def test_a_long_answer_that_comes_all_at_once_is_told() -> None:
    async with peer() as client:
        server = WebRTCConnection()
        for number in range(3_000):  # the data channel is not open yet
            server.send({"type": "word", "data": {"number": number}})
        await client.accept(await server.answer(await client.offer()))
        async with asyncio.timeout(WAIT_S):
            await server.connected
        for number in range(3_000, 6_000):
            server.send({"type": "word", "data": {"number": number}})
        for number in range(6_000):
            assert (await client.expect("word"))["data"] == {"number": number}
        assert not server.closed.done()
        await server.close()


async def test_messages_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_BUFFERED", 100_000)
    async with peer() as client:
        server = await join(client)
        assert server._channel is not None
        for _ in range(3_000):  # at once: nothing can be read meanwhile
            server.send({"type": "word", "data": {"text": "w" * 100}})
            assert server._channel.bufferedAmount < 101_000
        assert server.closed.result() == "the peer is too slow: it does not read its messages"
        await server.close()


async def test_a_message_larger_than_the_peer_takes_is_left_out() -> None:
    large = {"type": "large", "data": {"text": "w" * 300_000}}
    async with peer() as client:
        server = WebRTCConnection()
        server.send(large)
        server.send({"type": "first"})
        await client.accept(await server.answer(await client.offer()))
        async with asyncio.timeout(WAIT_S):
            await server.connected
        server.send(large)
        server.send({"type": "second"})
        assert [(await client.messages.get())["type"] for _ in range(2)] == ["first", "second"]
        await server.close()


async def test_messages_that_no_decoder_takes_do_not_end_the_connection() -> None:
    async with peer() as client:
        server = await join(client)
        received: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        server.on_message = received.put_nowait
        client.channel.send("[" * 60_000)
        client.channel.send('{"id": "\\ud800"}')
        async with asyncio.timeout(WAIT_S):
            message = await received.get()
        server.send({"type": "echo", "data": message})
        assert (await client.expect("echo"))["data"] == {"id": "\ud800"}
        assert not server.closed.done()
        await server.close()


async def test_a_peer_that_goes_is_noticed() -> None:
    async with peer() as client:
        server = await join(client)
        await client.pc.close()
        assert await reason(server) in ("the peer closed the data channel", "the peer closed the connection")
        await server.close()


async def test_a_peer_that_closes_its_data_channel_is_gone() -> None:
    async with peer() as client:
        server = await join(client)
        client.channel.close()
        assert await reason(server) == "the peer closed the data channel"
        await server.close()


async def test_a_peer_that_falls_silent_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENT_S", 0.2)
    async with peer() as client:
        server = await join(client)
        blocks = asyncio.Event()
        server.on_block = lambda pcm: blocks.set()
        async with asyncio.timeout(WAIT_S):
            await blocks.wait()
        client.pc.getSenders()[0]._enabled = False
        assert "nothing from the peer" in await reason(server)
        await server.close()


async def test_a_peer_that_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_S", 0.05)
    async with peer() as client:
        server = WebRTCConnection()
        await server.answer(await client.offer())
        assert "did not connect" in await reason(server)
        await server.close()


async def test_closing_tells_the_peer_and_may_be_repeated() -> None:
    async with peer() as client:
        server = await join(client)
        server.send({"type": "goodbye"})
        await server.close()
        await server.close()
        await client.expect("goodbye")
        async with asyncio.timeout(WAIT_S):
            await client.channel_closed.wait()
        server.send({"type": "too late"})
        assert server.closed.result() == "closed"


async def test_closing_while_connecting_leaves_nothing() -> None:
    async with peer() as client:
        server = WebRTCConnection()
        await server.answer(await client.offer())
        await server.close()


GARBAGE = {
    "empty": "",
    "text": "garbage",
    "half a line": "v=0\r\nm=audio",
    "no audio": "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n",
    "no credentials": "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n",
    "zeros": "\0" * 1000,
}


@pytest.mark.parametrize("sdp", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_is_refused(sdp: str) -> None:
    server = WebRTCConnection()
    with pytest.raises(BadOffer):
        await server.answer(sdp)
    assert server.closed.done()


async def test_an_offer_without_audio_is_refused() -> None:
    async with peer(audio=False) as client:
        server = WebRTCConnection()
        with pytest.raises(BadOffer, match="addTransceiver"):
            await server.answer(await client.offer())


async def test_an_offer_without_opus_is_refused() -> None:
    async with peer() as client:
        server = WebRTCConnection()
        offer = (await client.offer()).replace("opus/48000/2", "speex/48000/2")
        with pytest.raises(BadOffer, match="OperationError"):
            await server.answer(offer)


async def test_a_machine_without_a_network_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer() as client:
        offer = await client.offer()
        monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: [])
        with pytest.raises(NoNetwork, match="besides loopback"):
            await WebRTCConnection().answer(offer)


async def test_candidates_may_come_late() -> None:
    async with peer() as client:
        server = WebRTCConnection()
        lines = (await client.offer()).splitlines()
        late = [line.removeprefix("a=") for line in lines if line.startswith("a=candidate:")]
        early = [line for line in lines if not line.startswith(("a=candidate:", "a=end-of-candidates"))]
        answer = await server.answer("\r\n".join([*early, ""]))
        for line in late:
            await server.add_candidate(Candidate(line, "0", 0))
        await server.add_candidate(Candidate("", "0", 0))
        await client.accept(answer)
        await server.close()


@pytest.mark.parametrize(
    "candidate",
    [
        Candidate("nonsense", "0", 0),
        Candidate("candidate:1 x udp 1 1.2.3.4 5 typ host", "0", 0),
        Candidate("candidate:1 1 udp 1 127.0.0.1 5 typ host", None, None),
    ],
)
async def test_a_bad_candidate_is_refused(candidate: Candidate) -> None:
    async with peer() as client:
        server = await join(client)
        with pytest.raises(BadOffer):
            await server.add_candidate(candidate)
        await server.close()


async def test_a_second_offer_on_the_same_connection() -> None:
    async with peer() as client:
        server = await join(client)
        await client.accept(await server.answer(await client.offer()))
        with pytest.raises(BadOffer):
            await server.answer("garbage")
        assert not server.closed.done(), "the connection goes on"
        server.send({"type": "still here"})
        await client.expect("still here")
        await server.close()


async def test_video_is_declined() -> None:
    async with peer() as client:
        client.pc.addTransceiver("video", "sendrecv")
        server = WebRTCConnection()
        answer = await server.answer(await client.offer())
        await client.accept(answer)
        assert "a=inactive" in answer.split("m=video")[1]
        await server.close()
