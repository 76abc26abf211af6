"""Telephone calls: the media streams of Twilio, Telnyx, Plivo and Exotel, told apart by their first words.

Pipecat's serializers do the audio; this does what they leave out: the start of a call, marks, its end.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from loguru import logger
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.serializers.exotel import ExotelFrameSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer

from ...pipeline import BargeinError
from .protocol import Data, Event, Left, Message, Played
from .serialized import SerializerProtocol

RATE = 8_000  # Hz, of G.711 and of a telephone line
# An id becomes part of the address at which a call is hung up with our credentials.
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._=-]{0,199}")

Environment = Mapping[str, str]


class NoSuchCall(BargeinError, ValueError):
    """Raised when a start message is of no provider known here, or asks for audio that is not spoken here."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call as its provider describes it.

    Attributes:
        provider: "twilio", "telnyx", "plivo" or "exotel".
        stream: The provider's id of the audio stream.
        call: The provider's id of the call.
        details: The start message, with the caller's number and custom parameters where there are any.
    """

    provider: str
    stream: str
    call: str
    details: Message


@dataclass(frozen=True, slots=True)
class Provider:
    """What is particular about one provider.

    Attributes:
        keys: What its start message has in `start`, and nobody else's: the ids of stream and call.
        open: Makes the serializer of a call, with credentials from the environment.
        mark: The message that asks for an acknowledgement, of a stream and with a name.
        rate: Of its audio in Hz, given the media format in its start message.
        block_ms: The least audio it takes at a time.
    """

    keys: tuple[str, str]
    open: Callable[[Call, Message, Environment], FrameSerializer]
    mark: Callable[[str, str], Message]
    rate: Callable[[Message], int] = lambda media: RATE
    block_ms: int = 20


class PhoneProtocol(SerializerProtocol):
    """A telephone call of any provider known here.

    Where the credentials of the provider are in the environment, the server hangs up when the bot has
    ended the session: TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, TELNYX_API_KEY, PLIVO_AUTH_ID and
    PLIVO_AUTH_TOKEN. TWILIO_BASE_URL names another server that speaks Twilio's API. Exotel ends a call
    when the connection closes.

    Args:
        environment: Where the credentials are; the process's if not given.
        admit: Called with the call's provider before it begins; may raise NoSuchCall. See `Calls`.

    Attributes:
        call: Known once started.
    """

    def __init__(
        self,
        environment: Environment | None = None,
        *,
        admit: Callable[[str], None] = lambda provider: None,
    ) -> None:
        super().__init__(_NOBODY, input_rate=RATE, output_rate=RATE)
        self.call: Call | None = None
        self._ended = False  # by the caller
        self._environment = os.environ if environment is None else environment
        self._admit = admit

    async def decode(self, data: Data) -> list[Event]:
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            logger.debug("a telephone message that is no JSON object was ignored")
            return []
        event = message.get("event")
        if not self.started:
            return await self._start(message) if event == "start" else []
        if event == "stop":
            self._ended = True
            return [Left("the call has ended")]
        if event == "media" and _track(message) == "outbound":
            return []  # the bot itself
        if event in ("mark", "playedStream"):
            return _played(message)
        return await super().decode(data)

    async def mark(self, number: int) -> list[Data]:
        assert self.call is not None
        return [json.dumps(_PROVIDERS[self.call.provider].mark(self.call.stream, str(number)))]

    async def end(self) -> None:
        """Hang up, if the serializer has the credentials and the call goes on."""
        if not self._ended:
            await super().end()

    async def _start(self, message: Message) -> list[Event]:
        try:
            call = _call(message)
            self._admit(call.provider)
            provider, media = _PROVIDERS[call.provider], _media(message)
            self._serializer = provider.open(call, media, self._environment)
            self._input_rate = self.output_rate = provider.rate(media)
        except NoSuchCall as error:
            logger.warning("a call was not taken: {}", error)
            return [Left(str(error))]
        self.call, self.block_ms = call, provider.block_ms
        await self._set_up()
        return []


class _Nobody(FrameSerializer):
    """Stands in until the call says who its provider is."""

    async def serialize(self, frame: Any) -> None:
        return None

    async def deserialize(self, data: Data) -> None:
        return None


_NOBODY = _Nobody()


def _call(message: Message) -> Call:
    """Read a start message.

    Raises:
        NoSuchCall: It is of no provider known here, or its ids are none.
    """
    start = message.get("start")
    start = {**start, "stream_id": message.get("stream_id")} if isinstance(start, dict) else {}
    for name, provider in _PROVIDERS.items():
        if all(key in start for key in provider.keys):
            stream, call = (start[key] for key in provider.keys)
            if not all(isinstance(i, str) and ID.fullmatch(i) for i in (stream, call)):
                raise NoSuchCall(f"{name}: the ids of stream and call are not usable")
            return Call(name, stream, call, message)
    raise NoSuchCall("the start message is of none of " + ", ".join(_PROVIDERS))


def _media(message: Message) -> Message:
    start = message["start"]
    media = start.get("mediaFormat") or start.get("media_format") or {}
    return media if isinstance(media, dict) else {}


def _track(message: Message) -> object:
    media = message.get("media")
    return media.get("track") if isinstance(media, dict) else None


def _played(message: Message) -> list[Event]:
    mark = message.get("mark")
    name = mark.get("name") if isinstance(mark, dict) else message.get("name")
    return [Played(int(name))] if isinstance(name, str) and name.isdecimal() and len(name) < 10 else []


def _need(media: Message, wanted: str) -> None:
    encoding = media.get("encoding", wanted)
    if encoding != wanted:
        raise NoSuchCall(f"the audio is {str(encoding)[:40]!r}; ask the provider for {wanted}")


def _twilio(call: Call, media: Message, environment: Environment) -> FrameSerializer:
    _need(media, "audio/x-mulaw")
    account, token = environment.get("TWILIO_ACCOUNT_SID"), environment.get("TWILIO_AUTH_TOKEN")
    params = TwilioFrameSerializer.InputParams(auto_hang_up=bool(account and token))
    return TwilioFrameSerializer(
        call.stream, call.call, account, token, base_url=environment.get("TWILIO_BASE_URL"), params=params
    )


def _telnyx(call: Call, media: Message, environment: Environment) -> FrameSerializer:
    encoding = media.get("encoding", "PCMU")
    if encoding not in ("PCMU", "PCMA"):
        raise NoSuchCall(f"the audio is {str(encoding)[:40]!r}; ask the provider for PCMU or PCMA")
    key = environment.get("TELNYX_API_KEY")
    params = TelnyxFrameSerializer.InputParams(auto_hang_up=bool(key))
    return TelnyxFrameSerializer(call.stream, encoding, encoding, call.call, key, params)


def _plivo(call: Call, media: Message, environment: Environment) -> FrameSerializer:
    _need(media, "audio/x-mulaw")
    account, token = environment.get("PLIVO_AUTH_ID"), environment.get("PLIVO_AUTH_TOKEN")
    params = PlivoFrameSerializer.InputParams(auto_hang_up=bool(account and token))
    return PlivoFrameSerializer(call.stream, call.call, account, token, params)


def _exotel(call: Call, media: Message, environment: Environment) -> FrameSerializer:
    if "mulaw" in str(media.get("encoding", "")):
        raise NoSuchCall("the audio is mu-law; ask the provider for linear PCM")
    params = ExotelFrameSerializer.InputParams(exotel_sample_rate=_exotel_rate(media))
    return ExotelFrameSerializer(call.stream, call.call, params)


def _exotel_rate(media: Message) -> int:
    rate = str(media.get("sample_rate") or RATE)
    if rate not in ("8000", "16000", "24000"):
        raise NoSuchCall(f"the audio is at {rate[:20]} Hz; ask the provider for 8000, 16000 or 24000")
    return int(rate)


_PROVIDERS = {
    "twilio": Provider(
        ("streamSid", "callSid"),
        _twilio,
        lambda stream, name: {"event": "mark", "streamSid": stream, "mark": {"name": name}},
    ),
    "telnyx": Provider(
        ("stream_id", "call_control_id"),
        _telnyx,
        lambda stream, name: {"event": "mark", "mark": {"name": name}},
    ),
    "plivo": Provider(
        ("streamId", "callId"),
        _plivo,
        lambda stream, name: {"event": "checkpoint", "streamId": stream, "name": name},
    ),
    # Exotel asks for at least 3,200 bytes at a time, in multiples of 320.
    "exotel": Provider(
        ("stream_sid", "call_sid"),
        _exotel,
        lambda stream, name: {"event": "mark", "stream_sid": stream, "mark": {"name": name}},
        rate=_exotel_rate,
        block_ms=200,
    ),
}
