"""Where a served bot is found."""

from __future__ import annotations

import pytest

from bargein.bots import load_bot
from bargein.bots.app import page_url, reached_at


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:7860"),
        ("localhost", "http://localhost:7860"),
        ("0.0.0.0", "http://127.0.0.1:7860"),
        ("192.0.2.7", "http://192.0.2.7:7860"),
        ("::1", "http://[::1]:7860"),
        ("::", "http://[::1]:7860"),
    ],
)
def test_the_address_that_is_told_is_one_a_browser_takes_a_microphone_from(host: str, url: str) -> None:
    assert page_url(host, 7860) == url


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "assistant",
            "Talk to assistant at http://[::1]:7860\n"
            "or by WebSocket at ws://[::1]:7860/ws, ws://[::1]:7860/ws/rtvi",
        ),
        ("phone", "phone can be reached by WebSocket at ws://[::1]:7860/ws/phone"),
    ],
)
def test_it_is_told_how_a_bot_is_reached(name: str, told: str) -> None:
    assert reached_at(load_bot(name), "http://[::1]:7860") == told
