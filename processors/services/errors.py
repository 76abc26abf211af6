"""What a service can fail with, named by condition, whichever client library it is reached through."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from json import JSONDecodeError
from typing import Any

from pipecat.utils.security.redaction import redact_secrets

from ...pipeline import BargeinError
from .keys import SECRET_TEXT

# A header that a client quotes: a key with a line break in it is no token, and is quoted to the end.
_BEARER = re.compile(r"\b(Bearer)\s.*", re.IGNORECASE)

# What a provider says about an error is quoted up to here, characters.
MAX_QUOTE = 300

# Codes of a 429, or of an error inside a stream, that waiting does not cure.
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "quota_exceeded")
_KEY = ("invalid_api_key", "authentication_error")

# WebSocket close codes (RFC 6455, and IANA's registry) by which a server blames the client.
_CLOSED_KEY = (3000, 3003)
_CLOSED_REJECTED = (1002, 1003, 1007, 1008, 1009)

# Base classes, by name, of what client libraries raise when a connection fails: openai and cartesia,
# httpx and its forks, websockets, aiohttp.
_CONNECTION = frozenset(
    {"APIConnectionError", "RequestError", "ConnectionClosed", "WebSocketException", "ClientError"}
    | {"WebSocketConnectionClosedError"}
)


class ServiceError(BargeinError):
    """Raised when a service fails in a way that none of the subclasses names; the cause is chained.

    Attributes:
        service: Which one, as a person would call it: "OpenAI speech". Begins with the provider's name.
        retryable: Whether the same request may succeed a little later.
    """

    retryable: bool = False

    def __init__(self, service: str, problem: str) -> None:
        # In brackets: Pipecat's ErrorFrame masks the word after "KeyRejected:", which is no key.
        super().__init__(f"[{service}] {problem}")
        self.service = service


class KeyRejected(ServiceError):
    """Raised when the service does not accept the key, or does not allow it what was asked (401, 403)."""


class RateLimited(ServiceError):
    """Raised when the service takes no more requests for now (429), or none until somebody pays.

    Attributes:
        retry_after_s: Seconds to wait as the service says, or None when it does not say.
    """

    def __init__(
        self, service: str, problem: str, retry_after_s: float | None = None, *, retryable: bool = True
    ) -> None:
        super().__init__(service, problem)
        self.retry_after_s = retry_after_s
        self.retryable = retryable


class ServiceUnavailable(ServiceError):
    """Raised when the service cannot be reached, breaks off, takes too long, fails (5xx) or talks garbage."""

    retryable: bool = True


class RequestRejected(ServiceError):
    """Raised when the service refuses this request, whoever sends it (any other 4xx)."""


def service_error(service: str, exception: BaseException) -> ServiceError:
    """Tell what an exception of a client library means; a ServiceError is returned as it is.

    Knows the clients `openai` and `cartesia`, httpx, websockets and aiohttp, operating system errors and
    timeouts. The message never quotes a key. Raise the result outside the `except` block: the original
    exception, chained, would be logged with it, and it may quote one.
    """
    if isinstance(exception, ServiceError):
        return exception
    fields = _fields(exception)
    code = str(fields.get("code") or fields.get("type") or "")
    status = _status(exception) or _meant(code)
    said = _quote(exception, fields.get("message"))
    if code in _QUOTA:
        return _quota_used_up(service, said)
    if status == 429:
        return RateLimited(service, f"too many requests: {said}", _retry_after_s(exception))
    if status in (401, 403):
        return _key_rejected(service, str(status))
    if status == 408 or status == 409 or status >= 500:
        return ServiceUnavailable(service, f"failed with status {status}: {said}")
    if status >= 400:
        return RequestRejected(service, f"refused the request ({status}): {said}")
    return _without_status(service, exception, code, said)


def broken_off(service: str, code: str, said: str) -> ServiceError:
    """Tell what an error means that came inside a stream which had begun well.

    Args:
        service: Which one; see `ServiceError`.
        code: The provider's name for the error, "" if it gives none.
        said: The provider's words.
    """
    if code in _QUOTA:
        return _quota_used_up(service, said)
    if code in _KEY:
        return _key_rejected(service, code)
    if code == "rate_limit_exceeded":
        return RateLimited(service, f"too many requests: {said}")
    if code.startswith("invalid_"):
        return RequestRejected(service, f"refused the request: {said}")
    return ServiceUnavailable(service, f"broke off: {said or code or 'without an end'}")


def _without_status(service: str, exception: BaseException, code: str, said: str) -> ServiceError:
    """A connection that failed, or an error that came inside a stream."""
    names = {c.__name__ for c in type(exception).__mro__}
    closed = getattr(getattr(exception, "rcvd", None), "code", None)
    if closed in _CLOSED_KEY:
        return _key_rejected(service, f"closed with {closed}")
    if closed in _CLOSED_REJECTED:
        return RequestRejected(service, f"refused the request (closed with {closed}): {said}")
    if isinstance(exception, TimeoutError) or "APITimeoutError" in names:
        return ServiceUnavailable(service, f"took too long: {said}")
    if isinstance(exception, OSError | EOFError) or names & _CONNECTION:
        return ServiceUnavailable(service, f"the connection failed: {said}")
    if isinstance(exception, JSONDecodeError | UnicodeDecodeError):
        return ServiceUnavailable(service, f"sent what is no answer: {said}")
    if "APIError" in names:
        return broken_off(service, code, said)
    error = ServiceError(service, f"failed: {said}")
    error.__cause__ = exception
    return error


def _status(exception: BaseException) -> int:
    """The HTTP status, 0 where there is none."""
    for holder in (exception, getattr(exception, "response", None)):
        status = getattr(holder, "status_code", None) or getattr(holder, "status", None)
        if isinstance(status, int):
            return status
    return 0


def _meant(code: str) -> int:
    """The HTTP status that servers give as the code of an error inside a stream; 0 where it is none."""
    return int(code) if re.fullmatch(r"[45][0-9]{2}", code) else 0


def _fields(exception: BaseException) -> Mapping[str, Any]:
    """The provider's error object; empty where there is none."""
    body = getattr(exception, "body", None)
    if not isinstance(body, Mapping):
        return {}
    error = body.get("error")
    return error if isinstance(error, Mapping) else body


def _retry_after_s(exception: BaseException) -> float | None:
    headers = getattr(getattr(exception, "response", None), "headers", None)
    if headers is None:
        return None
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    given = headers.get("retry-after")
    seconds = _number(given)
    if seconds is not None or given is None:
        return seconds
    try:
        at = parsedate_to_datetime(given)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _quote(exception: BaseException, message: object) -> str:
    """The provider's message, or the exception's: on one line, short, without keys."""
    # Clients chain the real reason: "Connection error." from "connection refused".
    reason = exception.__cause__ or exception if str(exception) == "Connection error." else exception
    words = message if isinstance(message, str) else str(reason)
    words = _BEARER.sub(r"\1 [REDACTED]", " ".join(words.split()))
    text = redact_secrets(SECRET_TEXT.sub("[REDACTED]", words)) or type(reason).__name__
    return text if len(text) <= MAX_QUOTE else text[: MAX_QUOTE - 3] + "..."


def _quota_used_up(service: str, said: str) -> RateLimited:
    return RateLimited(service, f"the quota is used up: {said}", retryable=False)


def _key_rejected(service: str, how: str) -> KeyRejected:
    # Providers' variables are called after them; a service at an address of one's own has none.
    provider = service.partition(" ")[0]
    named = f"{provider.upper()}_API_KEY" if re.fullmatch(r"[A-Za-z]+", provider) else "the key given to it"
    return KeyRejected(service, f"the key was rejected ({how}); check {named}")


__all__ = [
    "KeyRejected",
    "RateLimited",
    "RequestRejected",
    "ServiceError",
    "ServiceUnavailable",
    "service_error",
]
