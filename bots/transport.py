"""How people reach a bot, in bot files: transports by name, and their options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from ..transports.webrtc.ice import IceServer
from ..transports.websocket import Calls
from .choice import Choice
from .options import OneOrSeveral, Options, as_list, problem

URL = re.compile(r"(stuns?:[^\s?:@/]+(:\d+)?|turns?:[^\s?:@/]+(:\d+)?(\?transport=(udp|tcp))?)")


class IceServerOptions(Options):
    """A STUN or TURN server; its address alone stands for one without a login."""

    url: str = Field(description="stun:HOST:PORT, or turn:HOST:PORT; ?transport=tcp may follow.")
    username: str | None = Field(None, description="What a TURN server knows the bot and its clients by.")
    credential: SecretStr | None = Field(None, description="The password, as ${VARIABLE}; clients learn it.")
    secret: SecretStr | None = Field(
        None, description="In place of both: a secret shared with the TURN server, as ${VARIABLE}."
    )
    lifetime_s: int = Field(
        600, ge=60, description="How long a login made of the secret can begin a call, s."
    )
    short_forms = ({"type": "string"},)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not URL.fullmatch(self.url):
            raise problem("has a url that is not like stun:HOST:PORT or turn:HOST:PORT?transport=tcp")
        own, shared = self.username is not None and self.credential is not None, self.secret is not None
        if self.url.startswith("stun") and (self.username or self.credential or self.secret):
            raise problem("has a login, which a STUN server does not take")
        if self.url.startswith("turn") and not (own or shared):
            raise problem("needs username and credential, or secret: a TURN server takes nobody without")
        if shared and (self.username or self.credential):
            raise problem("has a secret, from which username and credential are made; leave those out")
        return self

    def make(self) -> IceServer:
        """The server."""
        return IceServer(**self.given)


class Transport(Options):
    """A way to reach the bot.

    Attributes:
        title: Its name in a bot file.
    """

    title: ClassVar[str] = ""


class WebRTC(Transport):
    """The page, and any other WebRTC peer."""

    title = "webrtc"
    ice_servers: Annotated[tuple[IceServerOptions, ...], BeforeValidator(as_list), OneOrSeveral()] = Field(
        (), description="For clients that cannot reach the bot directly, nor it them."
    )


class WebSocket(Transport):
    """Clients at /ws and /ws/rtvi."""

    title = "websocket"


Provider = Literal["twilio", "telnyx", "plivo", "exotel"]


class Phone(Transport):
    """Telephone calls, streamed to /ws/phone."""

    title = "phone"
    public_url: str | None = Field(
        None,
        pattern=r"^(wss?|https?)://[^\s?#]+$",
        description="The address that providers have, and sign, if a proxy makes it another one.",
    )
    providers: Annotated[tuple[Provider, ...], BeforeValidator(as_list), OneOrSeveral()] = Field(
        (),
        description="Whose calls are taken; any, if none is named and no secret of Twilio or Plivo is set.",
    )

    def make(self) -> Calls:
        """What lets calls in."""
        return Calls(self.public_url, self.providers)


class VoiceAgent(Transport):
    """Clients of voice-agent-ai-sdk, at /ws/voice."""

    title = "voice-agent"


TRANSPORTS: Mapping[str, type[Options]] = {t.title: t for t in (WebRTC, WebSocket, Phone, VoiceAgent)}
TRANSPORT = Choice("transport", TRANSPORTS)
TransportItem = Annotated[Any, TRANSPORT]
