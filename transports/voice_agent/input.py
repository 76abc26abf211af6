"""What the user types and says, as whole inputs: in the order in which they came."""

from __future__ import annotations

import asyncio
import binascii
from base64 import b64decode
from collections import deque
from dataclasses import dataclass

from loguru import logger
from pipecat.frames.frames import LLMMessagesAppendFrame

from ...pipeline import UPSTREAM, Level, Reason, handles
from ...pipeline.frames import ErrorFrame, FrameDirection, RecordingFrame
from ..websocket import WebSocketConnection, WebSocketInput
from ..websocket.protocol import Message
from .encoding import BadRecording, decode
from .events import VoiceAgentEvents
from .output import NoTranscriber, VoiceAgentOutput
from .protocol import VoiceAgentProtocol

MAX_TEXT = 10_000  # characters of an input
MAX_REASON = 200  # characters
MAX_PENDING = 16  # recordings that are being transcribed


@dataclass(slots=True, eq=False)
class Input:
    """Something the user said or wrote.

    Attributes:
        known: Nothing more will become of it: it has a text, or an error.
        message: Tells the client what became of a recording.
        wanted: It is to be answered: nobody has interrupted since.
    """

    text: str = ""
    known: bool = False
    message: Message | None = None
    wanted: bool = True


class VoiceAgentInput(WebSocketInput):
    """Takes the client's messages: inputs become turns of the user, interruptions are carried out at once.

    An input interrupts what is being said. It waits for recordings that came before it, so that all are
    one question, in their order. An interruption takes the wish for an answer from those that are still
    being transcribed; what the user said stays in the context.
    """

    def __init__(
        self,
        connection: WebSocketConnection,
        protocol: VoiceAgentProtocol,
        events: VoiceAgentEvents,
        output: VoiceAgentOutput,
    ) -> None:
        super().__init__(connection)
        self._protocol = protocol
        self._events = events
        self._output = output
        self._inputs: deque[Input] = deque()  # not told to the client, in their order
        self._heard: list[Input] = []  # told to the client, not yet given to the model

    async def start(self) -> None:
        await super().start()
        self.connection.on_message = self._receive

    async def stop(self) -> None:
        await super().stop()
        self.connection.on_message = None
        if waiting := len(self._inputs) + len(self._heard):
            logger.warning("{}: the session ended before {} inputs were answered", self.name, waiting)

    @handles(ErrorFrame)
    def failed(self, frame: ErrorFrame, direction: FrameDirection) -> None:
        if direction is UPSTREAM:
            self._events.tell_error(frame, self.response)
        self.push(frame, direction)

    def _receive(self, message: Message) -> None:
        match message:
            case {"type": "transcript", "text": str(text)} if text.strip():
                self._take_text(text)
            case {"type": "audio", "data": str(data)} if data:
                self._take_recording(data)
            case {"type": "interrupt"}:
                self._interrupt(message.get("reason"), message.get("level"))
            case {"type": "audio_played", "chunkId": int(number)}:
                self._output.acknowledge(number)
            case {"type": "transcript" | "audio" as kind}:
                self._refuse(f"{kind}: there is nothing in it")

    def _take_text(self, text: str) -> None:
        if len(text) > MAX_TEXT:
            self._refuse(f"text: may have {MAX_TEXT} characters")
            return
        self._barge_in()
        self._inputs.append(Input(text.strip(), known=True))
        self._deliver()

    def _take_recording(self, data: str) -> None:
        limit = self._protocol.max_audio_bytes
        if len(data) * 3 // 4 > limit + 2:
            self._refuse(f"data: the audio is too large; it may have {limit} bytes")
            return
        if sum(not waiting.known for waiting in self._inputs) >= MAX_PENDING:
            self._refuse(f"audio: {MAX_PENDING} recordings are still being transcribed")
            return
        self._barge_in()
        recording = Input()
        self._inputs.append(recording)
        self.spawn(self._transcribe(recording, data), f"{self.name}.transcribe")

    def _refuse(self, problem: str) -> None:
        self.connection.send({"type": "error", "error": problem})

    def _barge_in(self) -> None:
        """Whoever speaks or writes wants to be heard."""
        if self.session.responding:
            self.session.interrupt(Reason.USER_SPEAKING)

    def _interrupt(self, reason: object, level: object) -> None:
        why = reason[:MAX_REASON] if isinstance(reason, str) and reason else Reason.CLIENT_REQUEST
        if level == Level.SPEECH:
            self.session.interrupt_speech(why)
            return
        for waiting in (*self._inputs, *self._heard):
            waiting.wanted = False
        self.session.interrupt(why)

    async def _transcribe(self, recording: Input, data: str) -> None:
        try:
            recording.text = (await self._transcript(data)).strip()
        except NoTranscriber as error:
            recording.message = {"type": "error", "error": str(error)}
        except Exception as error:
            if not isinstance(error, BadRecording):
                logger.opt(exception=error).error("{}: a recording was not transcribed", self.name)
            recording.message = _not_transcribed(f"Transcription failed: {error}")
        else:
            if recording.text:
                recording.message = {"type": "transcription_result", "text": recording.text, "language": None}
            else:
                recording.message = _not_transcribed("No speech was recognised")
        recording.known = True
        self._deliver()

    async def _transcript(self, data: str) -> str:
        pcm = await asyncio.to_thread(_decode, data)
        frame = RecordingFrame(pcm, asyncio.get_running_loop().create_future())
        self.push(frame)
        return await frame.transcript

    def _deliver(self) -> None:
        """Tell the client what is known, in order; once all is, the model."""
        while self._inputs and self._inputs[0].known:
            ready = self._inputs.popleft()
            if ready.message is not None:
                self.connection.send(ready.message)
            if ready.text:
                self._heard.append(ready)
        if self._inputs:
            return
        inputs, self._heard = self._heard, []
        for said in inputs:
            if said.wanted:
                self.session.send_text(said.text)
            else:
                self._remember(said.text)

    def _remember(self, text: str) -> None:
        frame = LLMMessagesAppendFrame([{"role": "user", "content": text}], run_llm=False)
        frame.interruptible = False
        self.push(frame)


def _decode(data: str) -> bytes:
    try:
        recording = b64decode(data)
    except (binascii.Error, ValueError):
        raise BadRecording("the audio is not encoded as base64") from None
    return decode(recording)


def _not_transcribed(problem: str) -> Message:
    return {"type": "transcription_error", "error": problem}
