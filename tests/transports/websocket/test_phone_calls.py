"""Calls must be signed where their provider signs them, with the addresses that proxies make."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from bargein.transports.websocket import BadSignature, Calls
from bargein.transports.websocket.phone import NoSuchCall
from bargein.transports.websocket.phone_calls import _hmac, plivo_signature, twilio_signature

from .phones import COMPANIES, calling
from .served import served

HOST = "bot.example.com"
URL = f"wss://{HOST}/ws/phone"
NONCE = {"x-plivo-signature-v3-nonce": "12345"}
SECRETS = {"TWILIO_AUTH_TOKEN": "12345", "PLIVO_AUTH_TOKEN": "MA_TOKEN"}


def signed(provider: str, url: str = URL) -> dict[str, str]:
    """The headers of a request that the provider has signed."""
    if provider == "twilio":
        return {"x-twilio-signature": twilio_signature("12345", url, {})}
    return {"x-plivo-signature-v3": plivo_signature("MA_TOKEN", url, NONCE), **NONCE}


async def begin(calls: Calls, provider: str, headers: dict[str, str], url: str = URL) -> str:
    """Let a call in; returns why it is not taken, "" if it is."""
    protocol = calls.admit(url, headers)
    for message in COMPANIES[provider].opening:
        for event in await protocol.decode(json.dumps(message)):
            return str(event)
    assert protocol.call is not None
    return ""


# Vectors: the first two of Twilio's own tests of its Python library (token 12345); the others were computed
# with the validators in Twilio's and Plivo's Python libraries.
@pytest.mark.parametrize(
    ("text", "signature"),
    [
        (
            "https://mycompany.com/myapp.php?foo=1&bar=2CallSidCA1234567890ABCDECaller+14158675309"
            "Digits1234From+14158675309To+18005551212",
            "RSOYDt4T1cUTdK1PDd93/VVr8B8=",
        ),
        (
            "http://mycompany.com:1234/myapp.php?foo=1&bar=2CallSidCA1234567890ABCDECaller+14158675309"
            "Digits1234From+14158675309To+18005551212",
            "Zmvh+3yNM1Phv2jhDCwEM3q5ebU=",
        ),
        ("https://mycompany.com/myapp.php?foo=1&bar=2", "zYQTYrRWXE7LtzbG4PfP7/bkkGo="),
        ("wss://bot.example.com/ws/phone", "rhP9Sxg+VC5BmQXAfVL3KjGWYh0="),
        ("wss://bot.example.com/ws/phone/", "gVb0ircIw3/LrsDRLVaPnWjlVMw="),
    ],
)
def test_twilios_algorithm(text: str, signature: str) -> None:
    assert twilio_signature("12345", text, {}) == signature


@pytest.mark.parametrize(
    ("url", "signature"),
    [
        (URL, "PaZVo5ztqVBP/TF3+Ezk/i5dnzoOeUvo+EEniTOJaA8="),
        ("https://bot.example.com/ws/phone", "bapD4nZL742BntB1UPnyJjfiwNZDx2m+XIYeB2MKQ9w="),
        (URL + "?b=2&a=1", "J5ovvllV3teFBnO3pMg8NyT9Vrcaf7obxHCrPDjXs8s="),
        ("wss://bot.example.com:443/ws/phone", "Rtwite3n9diMdc6C0qRfJEaxXhqPjAHfVxlqnvSl/rc="),
    ],
)
def test_plivos_algorithm(url: str, signature: str) -> None:
    assert plivo_signature("MA_TOKEN", url, NONCE) == signature


@pytest.mark.parametrize("provider", ["twilio", "plivo"])
@pytest.mark.parametrize(
    "signed_url",
    [
        URL,
        URL + "/",
        "https://bot.example.com/ws/phone",
        "wss://bot.example.com:443/ws/phone",
        "http" + URL[3:],
    ],
)
@pytest.mark.parametrize(
    "seen_url", ["ws://bot.example.com/ws/phone", URL, "ws://bot.example.com:80/ws/phone"]
)
async def test_a_signed_call_is_taken_however_the_address_is_written(
    provider: str, signed_url: str, seen_url: str
) -> None:
    assert await begin(Calls(environment=SECRETS), provider, signed(provider, signed_url), seen_url) == ""


@pytest.mark.parametrize("provider", ["twilio", "plivo"])
async def test_the_public_address_counts_where_it_is_given(provider: str) -> None:
    inside, public = "ws://10.0.0.7:7860/ws/phone", "wss://calls.example.com/bot/ws/phone"
    calls = Calls(public, environment=SECRETS)
    assert await begin(calls, provider, signed(provider, public), inside) == ""
    with pytest.raises(BadSignature, match=r"wrong for wss://calls\.example\.com/bot/ws/phone"):
        calls.admit(inside, signed(provider, inside))
    query = await begin(calls, provider, signed(provider, public + "?a=1"), inside + "?a=1")
    assert query == ""


@pytest.mark.parametrize("provider", ["twilio", "plivo"])
@pytest.mark.parametrize("other", ["wss://evil.example.com/ws/phone", URL + "x", URL + "?a=1"])
def test_a_signature_for_another_address_is_refused(provider: str, other: str) -> None:
    with pytest.raises(BadSignature, match="public_url") as raised:
        Calls(environment=SECRETS).admit(URL, signed(provider, other))
    assert SECRETS["PLIVO_AUTH_TOKEN"] not in str(raised.value)


@pytest.mark.parametrize("given", ["", "x", "é", ",,", _hmac("sha1", "other", URL)])
@pytest.mark.parametrize("header", ["x-twilio-signature", "x-plivo-signature-v3"])
def test_a_wrong_signature_is_refused(header: str, given: str) -> None:
    with pytest.raises(BadSignature, match="_AUTH_TOKEN"):
        Calls(environment=SECRETS).admit(URL, {header: given, **NONCE})


def test_plivo_may_send_several_signatures() -> None:
    headers = signed("plivo")
    headers["x-plivo-signature-v3"] = "other, " + headers["x-plivo-signature-v3"]
    Calls(environment=SECRETS).admit(URL, headers)


@pytest.mark.parametrize(
    ("provider", "signer", "reason"),
    [
        ("twilio", None, "not signed by twilio"),
        ("twilio", "plivo", "not signed by twilio"),
        ("plivo", None, "not signed by plivo"),
        ("telnyx", None, "name it in the transport's providers"),
        ("exotel", "twilio", "name it in the transport's providers"),
    ],
)
async def test_nobody_slips_in_as_another_provider(provider: str, signer: str | None, reason: str) -> None:
    headers = signed(signer) if signer else {}
    assert reason in await begin(Calls(environment=SECRETS), provider, headers)


async def test_one_secret_is_enough_to_ask_for_signatures() -> None:
    calls = Calls(environment={"TWILIO_AUTH_TOKEN": "12345"})
    assert await begin(calls, "twilio", signed("twilio")) == ""
    for provider in ("plivo", "telnyx", "exotel"):
        assert "cannot be checked" in await begin(calls, provider, signed("plivo"))


async def test_the_providers_that_are_named_are_taken_and_no_others() -> None:
    calls = Calls(providers=("twilio", "exotel"), environment=SECRETS)
    assert await begin(calls, "twilio", signed("twilio")) == ""
    assert await begin(calls, "exotel", {}) == ""
    assert "not signed by twilio" in await begin(calls, "twilio", {})
    for provider in ("plivo", "telnyx"):
        assert f"calls of {provider} are not taken here" in await begin(calls, provider, {})


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append)
    yield lines
    logger.remove(sink)


async def test_without_a_secret_calls_are_taken_and_the_log_says_so_once(log: list[str]) -> None:
    calls = Calls(environment={"TWILIO_AUTH_TOKEN": ""})
    for _ in range(2):
        for provider in COMPANIES:
            assert await begin(calls, provider, {"x-twilio-signature": "not looked at"}) == ""
    said = [line for line in log if "without a check" in line]
    assert len(said) == len(COMPANIES)
    assert "set TWILIO_AUTH_TOKEN" in "".join(said)
    assert "exotel does not sign them" in "".join(said)


def test_a_refused_call_is_one_that_cannot_be_taken() -> None:
    from bargein.transports.websocket.phone_calls import CallRefused

    assert issubclass(CallRefused, NoSuchCall)


@pytest.mark.real_time
class TestServer:
    async def test_a_forged_call_is_answered_with_403(self, log: list[str]) -> None:
        async with served(calls=Calls(environment=SECRETS)) as server:
            with pytest.raises(InvalidStatus) as raised:
                await connect(server.url + "/ws/phone", additional_headers={"X-Twilio-Signature": "forged"})
            assert raised.value.response.status_code == 403
            assert not server.bots.sessions
        assert "x-twilio-signature is wrong for ws://127.0.0.1" in "".join(log)

    @pytest.mark.parametrize("provider", ["twilio", "plivo"])
    async def test_a_signed_call_begins(self, provider: str) -> None:
        async with served(calls=Calls(environment=SECRETS)) as server:
            headers = signed(provider, f"wss://{server.host}/ws/phone")
            async with calling(server, provider, headers) as caller:
                await server.bots.begun.wait()
                await caller.send(caller.company.stop)
                await server.empty()

    async def test_behind_a_proxy_that_ends_tls(self) -> None:
        """uvicorn believes a proxy on this machine; the host's name reaches it in `Host`."""
        company, headers = COMPANIES["twilio"], {"X-Forwarded-Proto": "https", **signed("twilio")}
        async with served(calls=Calls(environment=SECRETS)) as server:
            there: dict[str, Any] = {"host": "127.0.0.1", "port": server.port}
            async with connect(URL.replace("wss", "ws"), additional_headers=headers, **there) as connection:
                for message in company.opening:
                    await connection.send(json.dumps(message))
                await server.bots.begun.wait()
                await connection.send(json.dumps(company.stop))
                await server.empty()

    async def test_an_unsigned_call_is_closed_with_a_reason(self) -> None:
        async with served(calls=Calls(environment=SECRETS)) as server:
            async with calling(server, "twilio") as caller:
                await caller.connection.wait_closed()
                assert caller.connection.close_reason == "the call is not signed by twilio"
            assert not server.bots.sessions
            await server.empty()
