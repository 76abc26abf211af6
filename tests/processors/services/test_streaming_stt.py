"""Recognisers behind a connection that is lost at any moment: no word is lost, none comes twice."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from bargein.processors.services.streaming_stt import Heard, StreamingTranscriber, joined

# A word is this many bytes, all of the same value.
WORD_BYTES = 4


@dataclass
class Recogniser:
    """Hears bytes; each connection is lost after so many things sent, received or begun."""

    lifetimes: deque[int]
    wires: list[FakeWire] = field(default_factory=list)
    sent: int = 0  # bytes in all

    async def connect(self) -> FakeWire:
        await asyncio.sleep(0.05)
        lifetime = self.lifetimes.popleft() if self.lifetimes else 10**9
        if lifetime == 0:
            raise ConnectionRefusedError("not now")
        self.wires.append(FakeWire(self, lifetime))
        return self.wires[-1]


@dataclass
class FakeWire:
    recogniser: Recogniser
    lifetime: int
    buffer: bytearray = field(default_factory=bytearray)
    news: deque[Heard | None] = field(default_factory=deque)  # None when it is lost
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    commits: int = 0
    closed: bool = False
    stuck: bool = False

    def _live(self) -> None:
        self.lifetime -= 1
        if self.lifetime <= 0 or self.closed:
            self.tell(None)
            raise ConnectionResetError("lost")

    def tell(self, heard: Heard | None) -> None:
        self.news.append(heard)
        self.arrived.set()

    async def append(self, pcm: bytes) -> None:
        self._live()
        await asyncio.sleep(10**6 if self.stuck else 0.001)
        self.buffer += pcm
        self.recogniser.sent += len(pcm)
        self.tell(Heard(self.commits, words_of(self.buffer)))

    async def commit(self) -> None:
        self._live()
        self.tell(Heard(self.commits, words_of(self.buffer), final=True))
        self.commits += 1
        self.buffer.clear()

    async def discard(self) -> None:
        self._live()
        self.buffer.clear()
        self.news = deque(heard for heard in self.news if heard is None or heard.segment < self.commits)

    async def receive(self) -> Heard:
        await asyncio.sleep(0.002)
        while not self.news:
            self.arrived.clear()
            await self.arrived.wait()
        heard = self.news.popleft()
        if heard is None:
            raise ConnectionResetError("lost")
        self._live()
        return heard

    async def close(self) -> None:
        self.closed = True


def words_of(pcm: bytes | bytearray) -> str:
    return " ".join(f"w{pcm[at]}" for at in range(0, len(pcm) - WORD_BYTES + 1, WORD_BYTES))


# What the user does in a turn: say a word, pause (a snapshot), wait.
STEPS = st.lists(st.sampled_from(["word", "word", "pause", "wait"]), max_size=10)
ENDS = st.sampled_from(["finish", "finish", "finish", "cancel"])


@given(st.lists(st.tuples(STEPS, ENDS), min_size=1, max_size=4), st.lists(st.integers(0, 9), max_size=3))
async def test_each_turn_has_its_words_once(turns: list[tuple[list[str], str]], lifetimes: list[int]) -> None:
    recogniser = Recogniser(deque(lifetimes))
    transcriber = StreamingTranscriber(recogniser.connect, "Fake transcription")
    due: list[tuple[str, asyncio.Task[str]]] = []
    word = 0
    for steps, end in turns:
        said: list[str] = []
        partials: list[str] = []
        utterance = transcriber.open(partials.append)
        pauses: list[tuple[str, asyncio.Task[str]]] = []
        for step in steps:
            if step == "word":
                word += 1
                said.append(f"w{word}")
                utterance.feed(bytes([word]) * WORD_BYTES)
            elif step == "pause":
                pauses.append((" ".join(said), asyncio.create_task(utterance.snapshot())))
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(0.1)
        if end == "finish":
            due.append((" ".join(said), asyncio.create_task(utterance.finish())))
            await asyncio.sleep(0)  # the next turn begins before this one has its text
            for expected, snapshot in pauses:
                assert await snapshot == expected
        else:
            utterance.cancel()
            for expected, snapshot in pauses:
                assert await snapshot in ("", expected)
        assert all(" ".join(said).startswith(text) for text in partials)
    for expected, finish in due:
        assert await finish == expected
    await transcriber.close()
    assert all(wire.closed for wire in recogniser.wires)


async def test_a_recogniser_that_is_down_is_not_hammered() -> None:
    recogniser = Recogniser(deque([0] * 1000))
    transcriber = StreamingTranscriber(recogniser.connect, "Fake transcription")
    utterance = transcriber.open(lambda text: None)
    for _ in range(1000):  # 20 s of speech
        utterance.feed(bytes(640))
        await asyncio.sleep(0.02)
    assert 1000 - len(recogniser.lifetimes) < 10
    utterance.cancel()
    await transcriber.close()


async def test_a_connection_that_takes_no_more_is_replaced() -> None:
    recogniser = Recogniser(deque())
    transcriber = StreamingTranscriber(recogniser.connect, "Fake transcription")
    utterance = transcriber.open(lambda text: None)
    await asyncio.sleep(1)
    recogniser.wires[0].stuck = True
    utterance.feed(bytes([1]) * WORD_BYTES)
    await asyncio.sleep(1)
    utterance.feed(bytes([2]) * WORD_BYTES)
    assert await utterance.finish() == "w1 w2"
    assert len(recogniser.wires) == 2
    assert recogniser.wires[0].closed
    await transcriber.close()


async def test_a_connection_lost_late_in_a_long_speech_is_made_again() -> None:
    recogniser = Recogniser(deque())
    transcriber = StreamingTranscriber(recogniser.connect, "Fake transcription")
    utterance = transcriber.open(lambda text: None)
    for word in range(1, 61):  # a minute without a pause, in which it is lost twice
        utterance.feed(bytes([word]) * WORD_BYTES)
        await asyncio.sleep(1)
        if word % 25 == 0:
            recogniser.wires[-1].tell(None)
    assert await utterance.finish() == " ".join(f"w{word}" for word in range(1, 61))
    assert len(recogniser.wires) == 3
    await transcriber.close()


async def test_it_is_not_connected_again_while_nobody_speaks() -> None:
    recogniser = Recogniser(deque())
    transcriber = StreamingTranscriber(recogniser.connect, "Fake transcription")
    utterance = transcriber.open(lambda text: None)
    utterance.feed(bytes([1]) * WORD_BYTES)
    assert await utterance.finish() == "w1"
    recogniser.wires[0].tell(None)
    await asyncio.sleep(1000)
    assert len(recogniser.wires) == 1
    await transcriber.close()


def test_texts_are_joined_as_their_script_is_written() -> None:
    assert joined(["ask", "", " not ", "what"]) == "ask not what"
    assert joined(["\u4f60\u597d", "\u518d\u89c1"]) == "\u4f60\u597d\u518d\u89c1"
    assert joined(["안녕하세요.", "저는 민수입니다."]) == "안녕하세요. 저는 민수입니다."
    assert joined(["안녕", "하세요"]) == "안녕 하세요"
    assert joined([]) == ""
