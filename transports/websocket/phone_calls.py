"""Whose telephone calls are taken: those that their provider has signed, where it signs them.

Twilio signs the request for a media stream's WebSocket: `X-Twilio-Signature` is the base64 of an HMAC-SHA1 of
the address, with the auth token as its key (https://www.twilio.com/docs/usage/webhooks/webhooks-security;
here there are no parameters). So does Plivo, whose own streaming SDKs check it: `X-Plivo-Signature-V3` is the
base64 of an HMAC-SHA256 of "ADDRESS.NONCE", the query sorted
(https://plivo.com/docs/voice/xml/request/validation). Telnyx signs its webhooks with Ed25519; neither Telnyx
nor Exotel documents a signature of an audio stream.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from loguru import logger

from ...pipeline import BargeinError
from .phone import Environment, NoSuchCall, PhoneProtocol


class BadSignature(BargeinError, ValueError):
    """Raised when a call is signed as a provider's, and not with the secret shared with that provider."""


class CallRefused(NoSuchCall):
    """Raised when a call is of a provider whose calls are not taken, or is not signed as they should be."""


def _hmac(algorithm: str, secret: str, text: str) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), algorithm)).decode()


def twilio_signature(token: str, url: str, headers: Mapping[str, str]) -> str:
    """What Twilio signs a WebSocket's address with."""
    return _hmac("sha1", token, url)


def plivo_signature(token: str, url: str, headers: Mapping[str, str]) -> str:
    """What Plivo, which sends the nonce beside it, signs a WebSocket's address with (V3, GET)."""
    parts = urlsplit(url)
    query = "&".join(f"{name}={value}" for name, value in sorted(parse_qsl(parts.query, True)))
    nonce = headers.get("x-plivo-signature-v3-nonce", "")
    return _hmac("sha256", token, f"{urlunsplit(parts._replace(query=query))}.{nonce}")


@dataclass(frozen=True, slots=True)
class _Signer:
    """A provider that signs.

    Attributes:
        header: Of the signatures; several are separated by commas.
        secret: The variable with what they are made with.
    """

    header: str
    secret: str
    sign: Callable[[str, str, Mapping[str, str]], str]


def _one_of(given: str, wanted: list[str]) -> bool:
    """Whether one of the signatures, with commas between them, is one of those wanted."""
    pairs = product(given.split(","), wanted)
    return any(hmac.compare_digest(one.strip().encode(), right.encode()) for one, right in pairs)


_SIGNERS = {
    "twilio": _Signer("x-twilio-signature", "TWILIO_AUTH_TOKEN", twilio_signature),
    "plivo": _Signer("x-plivo-signature-v3", "PLIVO_AUTH_TOKEN", plivo_signature),
}


class Calls:
    """Lets calls in.

    Where TWILIO_AUTH_TOKEN or PLIVO_AUTH_TOKEN is set, calls of that provider must be signed, and others,
    which cannot be checked, are taken only of the providers that are named here.

    Args:
        public_url: The address that the providers have, where a proxy makes it another one here.
        providers: Those whose calls are taken; empty: any of them, as far as said above.
        environment: Where the secrets are; the process's if not given.
    """

    def __init__(
        self,
        public_url: str | None = None,
        providers: Collection[str] = (),
        environment: Environment | None = None,
    ) -> None:
        self._public_url = public_url
        self._providers = providers
        self._environment = os.environ if environment is None else environment
        self._told: set[str] = set()  # providers whose calls cannot be checked

    def admit(self, url: str, headers: Mapping[str, str]) -> PhoneProtocol:
        """The protocol for a call that asks for a WebSocket.

        Args:
            url: As the request has it.
            headers: Of the request, with names in lower case, or whatever their case does not matter to.

        Raises:
            BadSignature: It has a signature, and a wrong one.
        """
        signer = self._signer(url, headers)
        return PhoneProtocol(self._environment, admit=lambda provider: self._check(provider, signer))

    def _signer(self, url: str, headers: Mapping[str, str]) -> str | None:
        """The provider that has signed a request; None if no signature could be checked."""
        for provider, signer in _SIGNERS.items():
            given, secret = headers.get(signer.header), self._environment.get(signer.secret)
            if given is None or not secret:
                continue
            wanted = [signer.sign(secret, address, headers) for address in self._addresses(url)]
            if not _one_of(given, wanted):
                address = self._public_url or url.partition("?")[0]
                raise BadSignature(
                    f"a call's {signer.header} is wrong for {address}: check {signer.secret}, and that "
                    f"{provider} has this address, or set the transport's public_url"
                )
            return provider
        return None

    def _check(self, provider: str, signed_by: str | None) -> None:
        """See whether a call of this provider, signed by that one, is taken.

        Raises:
            CallRefused: It is not.
        """
        if self._providers and provider not in self._providers:
            raise CallRefused(f"calls of {provider} are not taken here")
        signer = _SIGNERS.get(provider)
        if signer is not None and self._environment.get(signer.secret):
            if provider != signed_by:
                raise CallRefused(f"the call is not signed by {provider}")
        elif not self._providers and self._has_secret():
            raise CallRefused(
                f"calls of {provider} cannot be checked; name it in the transport's providers to take them"
            )
        elif provider not in self._told:
            self._told.add(provider)
            remedy = f"set {signer.secret}" if signer else f"{provider} does not sign them"
            logger.warning("calls of {} are taken without a check of who makes them: {}", provider, remedy)

    def _has_secret(self) -> bool:
        return any(self._environment.get(signer.secret) for signer in _SIGNERS.values())

    def _addresses(self, url: str) -> Iterator[str]:
        """All the ways to write the address; which one a provider signs is not the same everywhere."""
        given = urlsplit(url)
        if self._public_url is not None:
            given = urlsplit(self._public_url)._replace(query=given.query)
        host = given.netloc.rpartition("@")[2]
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        for scheme in ("wss", "https", "ws", "http"):
            for netloc in dict.fromkeys((host, name, f"{name}:443", f"{name}:80")):
                for path in (given.path.rstrip("/"), given.path.rstrip("/") + "/"):
                    yield urlunsplit((scheme, netloc, path, given.query, ""))
