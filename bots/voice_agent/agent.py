"""A bot in the words of voice-agent-ai-sdk, over the same session and the same parts as every other."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack, ExitStack, aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, TypeVar, cast, overload

from pipecat.frames.frames import LLMMessagesAppendFrame
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect as open_socket

from ...pipeline import BargeinError, InputRejected, Pipeline, Processor, Reason, Response, Session
from ...pipeline.frames import RecordingFrame
from ...processors.context import Context
from ...processors.history import Message
from ...processors.services.chat import ChatModel
from ...processors.stt import Transcriber
from ...processors.tools import Tools
from ...processors.tts import Synthesizer
from ...transports.ends import Ends, ends_of
from ...transports.voice_agent import VoiceAgentProtocol
from ...transports.voice_agent.encoding import Format, decode, encode
from ...transports.voice_agent.output import NoTranscriber
from ...transports.voice_agent.protocol import MAX_AUDIO_BYTES, MAX_MESSAGE_BYTES
from ...transports.websocket import WebSocketConnection
from ..bot import Bot, RunningBot
from ..parts import Part, made
from ..place import Place
from .events import (
    AudioChunk,
    Connected,
    Disconnected,
    Event,
    EventName,
    HistoryCleared,
    HistoryTrimmed,
    Listeners,
    Listening,
    Stopped,
    Warned,
)
from .given import Hearing, Speaking, Thinking, service
from .outgoing import OutgoingSocket
from .voice import HandedOut
from .watching import DEAF, Inputs, InterruptedEarly, Watch

INSTRUCTIONS = "You are a helpful voice assistant."
ENDPOINT = "ws://localhost:8080"

Named = str | Mapping[str, Any]
E = TypeVar("E", bound=Event)


class AgentClosed(BargeinError, RuntimeError):
    """Raised when an agent is used before its `async with` block is entered, or after it was destroyed."""


class NoVoice(BargeinError, RuntimeError):
    """Raised when speech is asked for and the agent has no `speech_model`."""


class TooLarge(BargeinError, ValueError):
    """Raised when a recording is larger than `max_audio_input_size`."""


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
        output_format: Format = "wav",
        max_messages: int | None = 100,
        max_total_chars: int | None = None,
        max_audio_input_size: int = MAX_AUDIO_BYTES,
        endpoint: str = ENDPOINT,
    ) -> None:
        spoken = _spoken(speech_model, voice, speech_instructions)
        declared = Bot(
            name="voice agent",
            llm={"services": [service(Thinking, model)], "max_steps": max_steps},
            stt=service(Hearing, transcription_model),
            tts=service(Speaking, spoken),
        ).declaration
        assert declared.llm is not None
        self._hears, self._thinks, self._speaks = declared.stt, declared.llm, declared.tts
        self._bot = Bot(name="voice agent", pipeline=_pipeline(self._hears, self._thinks, self._speaks))
        self._instructions = instructions
        self._limits = max_messages, max_total_chars
        self._output_format = output_format
        self._max_audio_input_size = max_audio_input_size
        self._endpoint = endpoint
        self._tools = Tools(tools)
        self._listeners = Listeners()
        self._context = self._new_context()
        self._open = AsyncExitStack()  # what the agent holds open while it is not destroyed
        self._running: RunningBot | None = None  # None before the block is entered
        self._destroyed = False
        # Of the session that runs, which `_enter` begins and `_leave` ends.
        self._live: _Live | None = None
        self._changing = asyncio.Lock()
        self._chunks = 0
        self._order = asyncio.Lock()  # inputs become questions in the order in which they were given
        self._transcribing: set[asyncio.Future[str]] = set()
        self._stops = 0  # how often the answer was interrupted by a call
        self._serving: set[asyncio.Task[None]] = set()  # clients that `connect` reached

    # Life cycle ------------------------------------------------------------------------------------

    async def __aenter__(self) -> VoiceAgent:
        if self._running is not None:
            raise AgentClosed("an agent is entered once; make a new one")
        self._running = await self._open.enter_async_context(self._bot.open(max_sessions=1))
        try:
            await self._attach(None)
        except BaseException:
            await self._open.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.destroy()

    async def destroy(self) -> None:
        """End everything: nothing of the agent runs afterwards, and nobody is told anything any more."""
        if self._destroyed:
            return
        self._destroyed = True
        async with self._changing:
            await self._leave("the agent was destroyed")
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._open.aclose()
        self._listeners.clear()

    @property
    def destroyed(self) -> bool:
        """Whether it was; nothing can be asked of it any more."""
        return self._destroyed

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
        live, stops = await self._session_soon(), self._stops
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
        live, stops = await self._session_soon(), self._stops
        async with self._order:
            text = await self._transcribe(live, data, format)
            if not text:
                self._emit(Warned("no speech was recognised in a recording"))
                return ""
            answered = self._ask(live, text, wanted=stops == self._stops)
        return await self._answer(live, answered)

    async def transcribe_audio(self, data: bytes, format: Literal["pcm"] | None = None) -> str:  # noqa: A002
        """What is said in a recording; nothing is answered. Takes and raises the same as `send_audio`."""
        return await self._transcribe(await self._session_soon(), data, format)

    # Speech ----------------------------------------------------------------------------------------

    async def generate_speech_from_text(self, text: str) -> bytes:
        """A text as speech in the output format; nothing is said.

        Raises:
            NoVoice: There is no `speech_model`.
            ServiceError: The voice failed.
        """
        self._session_now()
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
        (await self._session_soon()).session.say(text, critical=critical)

    def interrupt_speech(self, reason: str = Reason.INTERRUPTED) -> None:
        """Stop the voice; the rest of the answer is text. Exactly one `speech_interrupted` tells of it.

        While clients change there is nothing to interrupt: all has been stopped.
        """
        if not self._between:
            self._session_now().session.interrupt_speech(reason)

    def interrupt_current_response(self, reason: str = Reason.INTERRUPTED) -> None:
        """Stop everything: model, tools, voice, and answers to what is still being transcribed.

        Exactly one `speech_interrupted` tells of it. While clients change all has been stopped already.
        """
        self._stops += 1
        if not self._between:
            self._session_now().session.interrupt(reason)

    # Clients ---------------------------------------------------------------------------------------

    async def handle_socket(self, websocket: WebSocket) -> None:
        """Talk to a client that has connected, until it or the agent leaves; one before it is let go.

        Raises:
            AgentClosed: The agent is not running.
        """
        await self._session_soon()
        if websocket.client_state.name == "CONNECTING":
            await websocket.accept()
        await self._serve(await self._connected(websocket))

    async def connect(self, url: str | None = None) -> None:
        """Connect to a server that speaks the client's side of the protocol; returns once that is done.

        Args:
            url: Of its WebSocket; the agent's `endpoint` if not given.

        Raises:
            OSError: Nobody is there.
            websockets.exceptions.WebSocketException: Whoever is there does not speak WebSocket.
        """
        await self._session_soon()
        socket = await open_socket(url or self._endpoint, max_size=MAX_MESSAGE_BYTES)
        connection = await self._connected(cast(WebSocket, OutgoingSocket(socket)))
        task = asyncio.create_task(self._serve(connection), name=f"client {connection.id[:8]}")
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def disconnect(self) -> None:
        """Let the client go. All that is under way ends before this returns; the history stays."""
        if self.connected:
            await self._attach(None, "disconnected")

    @property
    def connected(self) -> bool:
        """Whether a client is there."""
        return self._live is not None and self._live.connection is not None

    @property
    def processing(self) -> bool:
        """Whether something is being transcribed, or the model is to answer, or does."""
        return bool(self._transcribing) or (self._live is not None and self._live.watch.thinking)

    @property
    def speaking(self) -> bool:
        """Whether the voice is heard: to the end of its playing at the client."""
        return self._live is not None and (self._live.watch.speaking or self._live.ends.sink.playout.busy)

    @property
    def pending_speech_chunks(self) -> int:
        """How many pieces of answers are queued for the voice, or are being said."""
        return self._live.watch.pending_chunks if self._live is not None else 0

    @property
    def session(self) -> Session:
        """The session that runs now; another one after a client came or went.

        Raises:
            AgentClosed: The agent is not running.
        """
        return self._session_now().session

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
        return copy.deepcopy(self._context.messages[1:])

    def set_history(self, messages: Iterable[Message]) -> None:
        """Replace the messages by a copy of these; they are trimmed when the next question is asked."""
        self._context.messages[1:] = copy.deepcopy(list(messages))

    def clear_history(self) -> None:
        """Forget all messages but the instructions."""
        del self._context.messages[1:]
        self._emit(HistoryCleared())

    # Sessions --------------------------------------------------------------------------------------

    def _session_now(self) -> _Live:
        if self._live is None or self._destroyed:
            state = "was destroyed" if self._destroyed else "is not running: use it in `async with agent:`"
            raise AgentClosed(f"the agent {state}")
        return self._live

    async def _session_soon(self) -> _Live:
        """The session, the next one while clients change."""
        async with self._changing:
            return self._session_now()

    @property
    def _between(self) -> bool:
        return self._live is None and self._changing.locked()

    async def _attach(self, connection: WebSocketConnection | None, reason: str = "") -> None:
        """End the session and begin one with this client, or with none."""
        async with self._changing:
            await self._leave(reason)
            if not self._destroyed:
                await self._enter(connection)

    async def _enter(self, connection: WebSocketConnection | None) -> None:
        assert self._running is not None
        alone = Ends(Processor(), HandedOut(self._play), ())
        ends = alone if connection is None else ends_of(connection)
        context = self._new_context()
        context.messages[1:] = self._context.messages[1:]
        async with AsyncExitStack() as opening:
            stack = opening.enter_context(ExitStack())
            place = Place(
                self._running.shared, context, self._tools, ends.source, ends.sink, ends.clients, stack
            )
            source, *rest = made(self._bot.declaration.parts, place)
            inputs = Inputs(self._emit, hears=self._hears is not None)
            session = Session(Pipeline([source, inputs, *rest]))
            watch = Watch(session, inputs, self._emit, self._output_format)
            await opening.enter_async_context(session)
            self._context = context
            self._live = _Live(session, watch, ends, connection, opening.pop_all())
        self._emit(Listening())
        if connection is not None:
            self._emit(Connected())

    async def _leave(self, reason: str) -> None:
        live, self._live = self._live, None
        if live is None:
            return
        live.watch.reject(InputRejected("the session ended before this was answered"))
        if live.session.responding:
            live.session.interrupt(reason)  # so that the history keeps what was heard
        if live.connection is not None:
            live.connection.lose(reason)
        live.watch.ending = True
        await live.stack.aclose()
        for transcript in self._transcribing:
            if not transcript.done():
                transcript.set_exception(InputRejected("the session ended before this was transcribed"))
        self._transcribing.clear()
        self._emit(Stopped())
        if live.connection is not None:
            self._emit(Disconnected(live.connection.closed.result()))

    async def _connected(self, websocket: WebSocket) -> WebSocketConnection:
        protocol = VoiceAgentProtocol(self._output_format, max_audio_bytes=self._max_audio_input_size)
        connection = WebSocketConnection(websocket, protocol)
        await self._attach(connection, "another client has connected")
        return connection

    async def _serve(self, connection: WebSocketConnection) -> None:
        """Read and write until the client is gone, or the bot has ended the session."""
        if self._live is None or self._live.connection is not connection:
            connection.lose("the agent talks to another client, or not any more")
            await connection.serve()
            return
        over = asyncio.create_task(self._live.session.finished())
        over.add_done_callback(lambda _: connection.lose("the bot has ended it"))
        try:
            await connection.serve()
        finally:
            over.cancel()
            if self._live is not None and self._live.connection is connection:
                await self._attach(None, "the client is gone")

    # Inputs and outputs ----------------------------------------------------------------------------

    def _ask(self, live: _Live, text: str, *, wanted: bool) -> asyncio.Future[Response] | None:
        """Put a question; None if it is only to be remembered."""
        if live is not self._live:
            raise InputRejected("the session ended before this was asked")
        if not wanted:
            frame = LLMMessagesAppendFrame([{"role": "user", "content": text}], run_llm=False)
            frame.interruptible = False
            live.session.push(frame)
            return None
        answered = live.session.send_text(text)
        live.watch.unanswered.add(answered)
        return answered

    async def _answer(self, live: _Live, answered: asyncio.Future[Response] | None) -> str:
        if answered is None:
            return ""
        try:
            return live.watch.text_of(await answered)
        except InterruptedEarly:
            return ""

    async def _transcribe(self, live: _Live, data: bytes, audio_format: Literal["pcm"] | None) -> str:
        if len(data) > self._max_audio_input_size:
            limit = self._max_audio_input_size
            raise TooLarge(f"the recording has {len(data)} bytes; max_audio_input_size allows {limit}")
        if self._hears is None:
            raise NoTranscriber(DEAF)
        transcript: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._transcribing.add(transcript)
        try:
            pcm = data if audio_format == "pcm" else await asyncio.to_thread(decode, data)
            if not transcript.done():
                live.session.push(RecordingFrame(pcm, transcript))
            return await transcript
        finally:
            self._transcribing.discard(transcript)

    def _play(self, pcm: bytes) -> None:
        live = self._live
        if live is not None:
            said = [response for response in live.session.responses if not response.silenced]
            self._chunks += 1
            rate = live.ends.sink.sample_rate
            self._emit(AudioChunk(self._chunks, pcm, rate, said[0].id if said else None))

    def _emit(self, event: Event) -> None:
        self._listeners.emit(event)

    # History ---------------------------------------------------------------------------------------

    def _new_context(self) -> Context:
        max_messages, max_total_chars = self._limits
        return Context(
            self._instructions,
            max_messages=max_messages,
            max_tokens=max_total_chars,
            count_tokens=_characters,
            on_trimmed=self._trimmed,
        )

    def _trimmed(self, count: int) -> None:
        max_messages = self._limits[0]
        too_many = max_messages is not None and len(self._context.messages) - 1 + count > max_messages
        self._emit(HistoryTrimmed(count, "max_messages" if too_many else "max_total_chars"))


@dataclass(frozen=True, slots=True)
class _Live:
    """A session that runs.

    Attributes:
        connection: The client; None if there is none.
        stack: Ends the session.
    """

    session: Session
    watch: Watch
    ends: Ends
    connection: WebSocketConnection | None
    stack: AsyncExitStack


def _pipeline(hears: Part | None, thinks: Part, speaks: Part | None) -> list[Any]:
    parts = [hears, "UserContext", thinks, "AssistantContext", speaks and "Sentences", speaks]
    return [part for part in parts if part is not None]


def _spoken(
    speech_model: Named | Synthesizer | None, voice: str | None, instructions: str | None
) -> Named | Synthesizer | None:
    """The speech model with what was said of its voice."""
    options: dict[str, Any] = {"voice": voice} if voice is not None else {}
    if instructions is not None:
        options["options"] = {"instructions": instructions}
    if not options:
        return speech_model
    if isinstance(speech_model, str):
        name, slash, model = speech_model.partition("/")
        return {"service": name, **({"model": model} if slash else {}), **options}
    if isinstance(speech_model, Mapping):
        return {**speech_model, **options}
    raise ValueError("voice and speech_instructions belong to a speech_model that is named, not to an object")


def _characters(message: Message) -> int:
    return sum(len(str(message[part])) for part in ("content", "tool_calls") if part in message)
