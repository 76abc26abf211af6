"""A second's test of each stage of a bot, as it would run here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import soxr
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamTrack

from ..pipeline import BargeinError
from ..processors.local import SileroVAD, SmartTurn
from ..processors.services.chat import ChatModel
from ..processors.stt import Transcriber
from ..processors.tts import Synthesizer
from ..transports.webrtc import WebRTCConnection
from .bot import Bot
from .catalog import Opening
from .local import LocalModels, LocalPart
from .parts import LLMPart, ServicePart, STTPart, TTSPart, TurnPart, VADPart, every

SENTENCE = "This is a test of the voice."
QUESTION = [{"role": "user", "content": "Say hello."}]
RATE = 16_000
PATIENCE_S = 60.0  # a local model may have to be read from a slow disk

Samples = npt.NDArray[np.int16]


class StageFailed(BargeinError, RuntimeError):
    """Raised when a stage answers, and not as it should."""


@dataclass
class SelfTest:
    """Tests the stages of a bot, in this order: later ones hear what the voice has said.

    Attributes:
        bot: Whose services are tried.
        speech: What the voice said, at 16 kHz; empty if it could not.
        stages: Names, and what tests them: each returns what it saw.
    """

    bot: Bot
    speech: Samples = field(default_factory=lambda: np.zeros(0, np.int16))

    @property
    def stages(self) -> dict[str, Callable[[], Awaitable[str]]]:
        """Each may raise anything that goes wrong with it."""
        found: dict[str, Callable[[], Awaitable[str]]] = {}
        kinds = {type(part) for part in every(self.bot.declaration.parts)}
        if TTSPart in kinds:
            found["voice"] = self._voice
        if VADPart in kinds:
            found["voice activity"] = self._voice_activity
        if TurnPart in kinds:
            found["end of turn"] = self._end_of_turn
        if STTPart in kinds:
            found["speech recognition"] = self._recognition
        if LLMPart in kinds:
            found["language model"] = self._model
        if "webrtc" in self.bot.declaration.takes:
            found["WebRTC"] = _webrtc
        return found

    async def run(self, stage: str) -> str:
        """What a stage's test saw.

        Raises:
            TimeoutError: It took longer than `PATIENCE_S`.
            Exception: Whatever else went wrong with it.
        """
        async with asyncio.timeout(PATIENCE_S):
            return await self.stages[stage]()

    async def _voice(self) -> str:
        clock = asyncio.get_running_loop().time
        async with self._opened(TTSPart) as (part, opened):
            voice: Synthesizer = opened
            began, first_ms, pieces, rate = clock(), 0.0, [b""], RATE
            async with aclosing(voice.synthesize(SENTENCE)) as speech:
                async for chunk in speech:
                    first_ms = first_ms or 1000 * (clock() - began)
                    pieces.append(chunk.pcm)
                    rate = chunk.sample_rate
        spoken = np.frombuffer(b"".join(pieces), np.int16)
        if not np.any(spoken):
            raise StageFailed("it gave no sound")
        self.speech = soxr.resample(spoken, rate, RATE)
        return f"{_names(part)}: first sound after {first_ms:.0f} ms"

    async def _voice_activity(self) -> str:
        if _likeliest(np.zeros(RATE, np.int16)) > 0.5:
            raise StageFailed("it takes silence for speech")
        if not len(self.speech):
            return "hears nothing in silence (without a voice it was not tried on speech)"
        likeliest = _likeliest(self.speech)
        if likeliest < 0.5:
            raise StageFailed("it does not notice the voice's speech")
        return f"speech noticed, with probability {likeliest:.2f}; none in silence"

    async def _end_of_turn(self) -> str:
        heard = self.speech if len(self.speech) else np.zeros(RATE, np.int16)
        probability = await SmartTurn().probability(heard.tobytes())
        if not 0 <= probability <= 1:
            raise StageFailed(f"it gave {probability}, which is no probability")
        return f"turn complete with probability {probability:.2f}"

    async def _recognition(self) -> str:
        async with self._opened(STTPart) as (part, opened):
            transcriber: Transcriber = opened
            if not len(self.speech):
                return f"{_names(part)}: is there (without a voice it was not tried)"
            utterance = transcriber.open(lambda text: None)
            utterance.feed(self.speech.tobytes())
            text = await utterance.finish()
        if not text.strip():
            raise StageFailed(f"it understood nothing of {SENTENCE!r}")
        return f"{_names(part)}: understood {text!r}"

    async def _model(self) -> str:
        clock = asyncio.get_running_loop().time
        async with self._opened(LLMPart) as (part, chats):
            with ExitStack() as session:
                chat: ChatModel = chats[0](session)
                began = clock()
                async with aclosing(chat.stream(QUESTION)) as answer:
                    async for piece in answer:
                        if isinstance(piece, str) and piece.strip():
                            return f"{_names(part)}: first word after {1000 * (clock() - began):.0f} ms"
        raise StageFailed("it gave no answer")

    @asynccontextmanager
    async def _opened(self, kind: type[ServicePart]) -> AsyncIterator[tuple[ServicePart, Any]]:
        part = next(part for part in every(self.bot.declaration.parts) if isinstance(part, kind))
        needed: set[LocalPart] = {s.local_part for s in part.usable if s.local_part is not None}
        async with AsyncExitStack() as stack:
            local = await stack.enter_async_context(
                LocalModels(slots=1, parts=needed, progress=_quiet, opening=QUESTION)
            )
            yield part, part.open(Opening(local, stack))


def _quiet(line: str) -> None:
    """What is loaded is no news here."""


def _names(part: ServicePart) -> str:
    return ", then ".join(service.name for service in part.usable)


def _likeliest(samples: Samples) -> float:
    """The highest probability of speech in it."""
    vad, size = SileroVAD(), SileroVAD.CHUNK_SAMPLES
    chunks = (samples[at : at + size].tobytes() for at in range(0, len(samples) - size + 1, size))
    return max(map(vad.probability, chunks))


async def _webrtc() -> str:
    """A peer in this process calls, and waits for sound and for being heard."""
    clock = asyncio.get_running_loop().time
    server, peer = WebRTCConnection(), RTCPeerConnection(RTCConfiguration(iceServers=[]))
    heard, sounded = asyncio.Event(), asyncio.Event()
    listening: list[asyncio.Task[None]] = []

    async def listen(track: MediaStreamTrack) -> None:
        while not sounded.is_set():
            frame = await track.recv()
            assert isinstance(frame, av.AudioFrame)
            if np.abs(frame.to_ndarray()).max() > 1000:
                sounded.set()

    try:
        server.on_block = lambda block: heard.set()
        server.play(
            lambda samples: np.tile(np.array([8000, -8000], np.int16), samples)[:samples].tobytes(), 24_000
        )
        peer.on("track", lambda track: listening.append(asyncio.create_task(listen(track))))
        peer.createDataChannel("chat")
        peer.addTrack(AudioStreamTrack())
        began = clock()
        await peer.setLocalDescription(await peer.createOffer())
        answer = await server.answer(peer.localDescription.sdp)
        await peer.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        await heard.wait()
        await sounded.wait()
        return f"sound both ways {1000 * (clock() - began):.0f} ms after the call"
    finally:
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
        await peer.close()
        server.lose("the test is over")
        await server.close()
