"""A bot in the words of voice-agent-ai-sdk, over the same session and the same parts as every other."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast, overload

from pipecat.frames.frames import LLMMessagesAppendFrame
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect as open_socket

from ...pipeline import InputRejected, Processor, Reason, Response, Session
from ...pipeline.frames import RecordingFrame
from ...processors.context import Context
from ...processors.history import Message, characters
from ...processors.services.chat import ChatModel
from ...processors.stt import Transcriber
from ...processors.tools import Tools
from ...processors.tts import Synthesizer
from ...transports.voice_agent import VoiceAgentProtocol
from ...transports.voice_agent.encoding import Format, decode, encode
from ...transports.voice_agent.output import NoTranscriber
from ...transports.voice_agent.pictures import PictureFrame
from ...transports.voice_agent.protocol import MAX_AUDIO_BYTES, MAX_MESSAGE_BYTES
from ...transports.websocket import WebSocketConnection
from ..bot import Bot, RunningBot
from ..parts import STTPart, TTSPart
from .errors import NoVoice, TooLarge
from .events import Event, EventName, HistoryCleared, HistoryTrimmed, Listeners, Warned
from .models import Named, pipeline_of, with_voice
from .outgoing import OutgoingSocket
from .sessions import Live, Sessions
from .watching import DEAF, InterruptedEarly

INSTRUCTIONS = "You are a helpful voice assistant."
ENDPOINT = "ws://localhost:8080"

E = TypeVar("E", bound=Event)


class VoiceAgent:
    """One conversation, with or without a client at a WebSocket.

    ```python
    async with VoiceAgent(model="openai/gpt-4.1-mini", speech_model="openai/gpt-4o-mini-tts") as agent:
        agent.on("text", lambda event: print(event.role, event.text))
        await agent.send_text("Tell me a story.")
    ```

    Models are named as in bot files ("openai/gpt-4.1-mini", "local", a mapping with `service`), or given as
    objects, which can be shared between agents and which the caller closes.

    While no client is connected the voice comes in `audio_chunk` events when it is due to be played. With
    one it goes there. A change of clients ends what is under way; the history stays.

    Args:
        model: Language model.
        transcription_model: Speech recognition, for recordings; without it they are refused.
        speech_model: Voice; without it answers are text.
        instructions: The system prompt.
        tools: Functions the model may call; see `Tools`.
        max_steps: How often in one answer it may.
        voice: A name that the speech model's service knows.
        speech_instructions: How to speak, for services that take that.
        min_chunk_size: Pieces of an answer that are shorter are spoken together with what follows them,
            but for the first one; in characters.
        max_chunk_size: Text without an end of a sentence is cut here.
        max_parallel_requests: For so many pieces the voice is asked at the same time.
        output_format: What the voice is encoded as: to clients, in `audio` events, and by
            `generate_speech_from_text`.
        max_messages: Messages of the history to keep; None for all.
        max_total_chars: Characters of the history to keep, instructions included; None for all.
        max_audio_input_size: Of one recording, bytes.
        endpoint: Where `connect` connects to.

    Raises:
        BadBot: A model's name or option does not fit.
        BadTool: A function cannot be a tool.
    """

    def __init__(
        self,
        *,
        model: Named | ChatModel,
        transcription_model: Named | Transcriber | None = None,
        speech_model: Named | Synthesizer | None = None,
        instructions: str = INSTRUCTIONS,
        tools: Iterable[Callable[..., Any]] = (),
        max_steps: int = 5,
        voice: str | None = None,
        speech_instructions: str | None = None,
        min_chunk_size: int = 50,
        max_chunk_size: int = 200,
        max_parallel_requests: int = 3,
        output_format: Format = "wav",
        max_messages: int | None = 100,
        max_total_chars: int | None = None,
        max_audio_input_size: int = MAX_AUDIO_BYTES,
        endpoint: str = ENDPOINT,
    ) -> None:
        pipeline = pipeline_of(
            transcription_model,
            model,
            with_voice(speech_model, voice, speech_instructions),
            max_steps=max_steps,
            sizes=(min_chunk_size, max_chunk_size),
            requests=max_parallel_requests,
        )
        bot = Bot(name="voice agent", pipeline=pipeline)
        parts = bot.declaration.parts
        self._hears = any(isinstance(part, STTPart) for part in parts)
        self._speaks = next((part for part in parts if isinstance(part, TTSPart)), None)
        self._instructions = instructions
        self._limits = max_messages, max_total_chars
        self._output_format = output_format
        self._max_audio_input_size = max_audio_input_size
        self._endpoint = endpoint
        self._tools = Tools(tools)
        self._listeners = Listeners()
        self._sessions = Sessions(
            bot, self._tools, self._new_context, self._further_parts, self._emit, output_format
        )
        self._running: RunningBot | None = None  # None before the block is entered
        self._order = asyncio.Lock()  # inputs become questions in the order in which they were given
        self._stops = 0  # how often the answer was interrupted by a call

    def _further_parts(self, context: Context) -> list[Processor]:
        """What stands behind the source of a session, besides what every agent has there."""
        return []

    def _new_connection(self, websocket: WebSocket) -> WebSocketConnection:
        """To a client that nothing was said to."""
        protocol = VoiceAgentProtocol(self._output_format, max_audio_bytes=self._max_audio_input_size)
        return WebSocketConnection(websocket, protocol)

    # Life cycle ------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._running = await self._sessions.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.destroy()

    async def destroy(self) -> None:
        """End everything: nothing of the agent runs afterwards, and nobody is told anything any more."""
        if not self._sessions.closed:
            await self._sessions.close()
            self._listeners.clear()

    @property
    def destroyed(self) -> bool:
        """Whether it was; nothing can be asked of it any more."""
        return self._sessions.closed

    # Events ----------------------------------------------------------------------------------------

    @overload
    def on(self, event: type[E], callback: Callable[[E], object]) -> None: ...
    @overload
    def on(self, event: EventName, callback: Callable[[Any], object]) -> None: ...
    def on(self, event: Any, callback: Callable[[Any], object]) -> None:
        """Call `callback(event)` each time; it runs at once and must be quick, such as starting a task.

        Args:
            event: A name, or a class of `bargein.bots.voice_agent.events`, by which types are checked.
            callback: What it raises is logged.

        Raises:
            NoSuchEvent: There is no such event, or the callback is an async function.
        """
        self._listeners.add(event, callback)

    def off(self, event: EventName | type[Event], callback: Callable[[Any], object]) -> None:
        """Call it no more."""
        self._listeners.remove(event, callback)

    # Inputs ----------------------------------------------------------------------------------------

    async def send_text(self, text: str, *, priority: bool = False) -> str:
        """Take a text as a turn of the user; it is answered after what is being said.

        Args:
            text: What the user wrote.
            priority: Interrupt what is being said.

        Returns:
            The answer, when it has been said; of one that was interrupted what was heard, which may be "".

        Raises:
            ValueError: The text is empty.
            InputRejected: The session ended before it was answered: the client has changed, or is gone.
            ServiceError: The model failed. Whatever else failed while the answer was made is raised too.
        """
        if not text.strip():
            raise ValueError("the text is empty")
        live, stops = await self._sessions.soon(), self._stops
        if priority:
            self.interrupt_current_response(Reason.PRIORITY_MESSAGE)
            return await self._answer(live, self._ask(live, text, wanted=True))
        async with self._order:
            answered = self._ask(live, text, wanted=stops == self._stops)
        return await self._answer(live, answered)

    async def send_audio(self, data: bytes, format: Literal["pcm"] | None = None) -> str:  # noqa: A002
        """Take a recording as a turn of the user: transcribed, and answered after what is being said.

        An interruption by call while it is being transcribed takes the wish for an answer from it; what
        the user said stays in the history.

        Args:
            data: WebM, Ogg, WAV, MP3, FLAC, MP4 or AAC.
            format: "pcm" for mono s16le at 16 kHz instead.

        Returns:
            As `send_text`; "" when no speech was recognised, of which an event `warning` tells.

        Raises:
            BadRecording: It cannot be read.
            TooLarge: It is larger than `max_audio_input_size`.
            NoTranscriber: There is no `transcription_model`.
            InputRejected: As `send_text`.
        """
        live, stops = await self._sessions.soon(), self._stops
        async with self._order:
            text = await self._transcribe(live, data, format)
            if not text:
                self._emit(Warned("no speech was recognised in a recording"))
                return ""
            answered = self._ask(live, text, wanted=stops == self._stops)
        return await self._answer(live, answered)

    async def transcribe_audio(self, data: bytes, format: Literal["pcm"] | None = None) -> str:  # noqa: A002
        """What is said in a recording; nothing is answered. Takes and raises the same as `send_audio`."""
        return await self._transcribe(await self._sessions.soon(), data, format)

    def _ask(
        self, live: Live, text: str, *, wanted: bool, about: PictureFrame | None = None
    ) -> asyncio.Future[Response] | None:
        """Put a question; None if it is only to be remembered."""
        if live is not self._sessions.live:
            raise InputRejected("the session ended before this was asked")
        if about is not None:
            live.session.push(about)
        if not wanted:
            frame = LLMMessagesAppendFrame([{"role": "user", "content": text}], run_llm=False)
            frame.interruptible = False
            live.session.push(frame)
            return None
        answered = live.session.send_text(text)
        live.watch.unanswered.add(answered)
        return answered

    async def _answer(self, live: Live, answered: asyncio.Future[Response] | None) -> str:
        if answered is None:
            return ""
        try:
            return live.watch.text_of(await answered)
        except InterruptedEarly:
            return ""

    async def _transcribe(self, live: Live, data: bytes, audio_format: Literal["pcm"] | None) -> str:
        if len(data) > self._max_audio_input_size:
            limit = self._max_audio_input_size
            raise TooLarge(f"the recording has {len(data)} bytes; max_audio_input_size allows {limit}")
        if not self._hears:
            raise NoTranscriber(DEAF)
        transcript: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        live.transcribing.add(transcript)
        try:
            pcm = data if audio_format == "pcm" else await asyncio.to_thread(decode, data)
            if not transcript.done():
                live.session.push(RecordingFrame(pcm, transcript))
            return await transcript
        finally:
            live.transcribing.discard(transcript)

    # Speech ----------------------------------------------------------------------------------------

    async def generate_speech_from_text(self, text: str) -> bytes:
        """A text as speech in the output format; nothing is said.

        Raises:
            NoVoice: There is no `speech_model`.
            ServiceError: The voice failed.
        """
        self._sessions.now()
        if self._running is None or self._speaks is None:
            raise NoVoice("the agent has no voice: give it a speech_model")
        voice: Synthesizer = self._running.shared.of(self._speaks)
        pcm, rate = b"", 0
        async with aclosing(voice.synthesize(text)) as speech:
            async for chunk in speech:
                pcm, rate = pcm + chunk.pcm, chunk.sample_rate
        return await asyncio.to_thread(encode, pcm, rate, self._output_format) if pcm else b""

    async def generate_and_send_speech_full(self, text: str, *, critical: bool = False) -> None:
        """Say a text, after what is being said. It is not waited for; an event `audio` will have all of it.

        Args:
            text: What to say.
            critical: No interruption stops it.

        Raises:
            NoVoice: There is no `speech_model`.
        """
        if self._speaks is None:
            raise NoVoice("the agent has no voice: give it a speech_model")
        (await self._sessions.soon()).session.say(text, critical=critical)

    def interrupt_speech(self, reason: str = Reason.INTERRUPTED) -> None:
        """Stop the voice; the rest of the answer is text. Exactly one `speech_interrupted` tells of it.

        While clients change there is nothing to interrupt: all has been stopped.
        """
        if not self._sessions.between:
            self._sessions.now().session.interrupt_speech(reason)

    def interrupt_current_response(self, reason: str = Reason.INTERRUPTED) -> None:
        """Stop everything: model, tools, voice, and answers to what is still being transcribed.

        Exactly one `speech_interrupted` tells of it. While clients change all has been stopped already.
        """
        self._stops += 1
        if not self._sessions.between:
            self._sessions.now().session.interrupt(reason)

    # Clients ---------------------------------------------------------------------------------------

    async def handle_socket(self, websocket: WebSocket) -> None:
        """Talk to a client that has connected, until it or the agent leaves; one before it is let go.

        Raises:
            AgentClosed: The agent is not running.
        """
        await self._sessions.soon()
        if websocket.client_state.name == "CONNECTING":
            await websocket.accept()
        await self._sessions.serve(await self._attached(websocket))

    async def connect(self, url: str | None = None) -> None:
        """Connect to a server that speaks the client's side of the protocol; returns once that is done.

        Args:
            url: Of its WebSocket; the agent's `endpoint` if not given.

        Raises:
            OSError: Nobody is there.
            websockets.exceptions.WebSocketException: Whoever is there does not speak WebSocket.
        """
        await self._sessions.soon()
        socket = await open_socket(url or self._endpoint, max_size=MAX_MESSAGE_BYTES)
        self._sessions.serve_aside(await self._attached(cast(WebSocket, OutgoingSocket(socket))))

    async def disconnect(self) -> None:
        """Let the client go. All that is under way ends before this returns; the history stays."""
        if self.connected:
            await self._sessions.attach(None, "disconnected")

    @property
    def connected(self) -> bool:
        """Whether a client is there."""
        live = self._sessions.live
        return live is not None and live.connection is not None

    @property
    def processing(self) -> bool:
        """Whether something is being transcribed, or the model is to answer, or does."""
        live = self._sessions.live
        return live is not None and (bool(live.transcribing) or live.watch.thinking)

    @property
    def speaking(self) -> bool:
        """Whether the voice is heard: to the end of its playing at the client."""
        live = self._sessions.live
        return live is not None and (live.watch.speaking or live.ends.sink.playout.busy)

    @property
    def pending_speech_chunks(self) -> int:
        """How many pieces of answers are queued for the voice, or are being said."""
        live = self._sessions.live
        return live.watch.pending_chunks if live is not None else 0

    @property
    def session(self) -> Session:
        """The session that runs now; another one after a client came or went.

        Raises:
            AgentClosed: The agent is not running.
        """
        return self._sessions.now().session

    async def _attached(self, websocket: WebSocket) -> WebSocketConnection:
        """A connection to a client, which the agent talks to from now on."""
        connection = self._new_connection(websocket)
        await self._sessions.attach(connection, "another client has connected")
        return connection

    # Tools and history -----------------------------------------------------------------------------

    def register_tools(self, *functions: Callable[..., Any]) -> None:
        """Give the model more functions to call, from its next request on.

        Raises:
            BadTool: A function cannot be a tool, or one of its name is there already.
        """
        for function in functions:
            self._tools.add(function)

    def get_history(self) -> list[Message]:
        """A copy of the messages, without the instructions."""
        return copy.deepcopy(self._sessions.context.messages[1:])

    def set_history(self, messages: Iterable[Message]) -> None:
        """Replace the messages by a copy of these; they are trimmed when the next question is asked."""
        self._sessions.context.messages[1:] = copy.deepcopy(list(messages))

    def clear_history(self) -> None:
        """Forget all messages but the instructions."""
        del self._sessions.context.messages[1:]
        self._emit(HistoryCleared())

    def _new_context(self) -> Context:
        max_messages, max_total_chars = self._limits
        return Context(
            self._instructions,
            max_messages=max_messages,
            max_tokens=max_total_chars,
            count_tokens=characters,
            on_trimmed=self._trimmed,
        )

    def _trimmed(self, count: int) -> None:
        max_messages = self._limits[0]
        too_many = (
            max_messages is not None and len(self._sessions.context.messages) - 1 + count > max_messages
        )
        self._emit(HistoryTrimmed(count, "max_messages" if too_many else "max_total_chars"))

    def _emit(self, event: Event) -> None:
        self._listeners.emit(event)
