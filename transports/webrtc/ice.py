"""STUN and TURN servers, for peers that cannot reach each other directly."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Iterable
from dataclasses import dataclass

from aiortc import RTCIceServer
from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server.

    Attributes:
        url: Where it is, such as "stun:stun.example.com" or "turn:turn.example.com:3478?transport=tcp".
        username: What a TURN server knows the bot and its clients by. Each client learns it.
        credential: The password to it; likewise.
        secret: In place of both: the secret that a TURN server shares with the bot (coturn's
            `use-auth-secret`). Clients get credentials of their own, which expire.
        lifetime_s: How long those can be used to begin a call, s.
    """

    url: str
    username: str | None = None
    credential: SecretStr | None = None
    secret: SecretStr | None = None
    lifetime_s: int = 600

    def login(self) -> tuple[str | None, str | None]:
        """A username and a password to use now; None for a server that wants none.

        Those that expire are as TURN servers agreed on: the time they do, and its HMAC-SHA1
        (draft-uberti-behave-turn-rest-00).
        """
        if self.secret is None:
            return self.username, self.credential.get_secret_value() if self.credential is not None else None
        username = str(int(time.time()) + self.lifetime_s)
        digest = hmac.new(self.secret.get_secret_value().encode(), username.encode(), hashlib.sha1).digest()
        return username, base64.b64encode(digest).decode()


def for_server(servers: Iterable[IceServer]) -> list[RTCIceServer]:
    """The servers as aiortc takes them. It uses the first of each kind."""
    return [RTCIceServer(server.url, *server.login()) for server in servers]


def for_browser(servers: Iterable[IceServer]) -> list[dict[str, str]]:
    """The servers as browsers take them (`RTCIceServer`), logins included: for clients' eyes alone."""
    found: list[dict[str, str]] = []
    for server in servers:
        username, credential = server.login()
        login = {"username": username, "credential": credential}
        found.append(
            {"urls": server.url, **{name: value for name, value in login.items() if value is not None}}
        )
    return found
