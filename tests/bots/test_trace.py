"""The picture of a conversation, from a log that a conversation wrote."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bargein.bots.trace import BadLog, draw_html, draw_svg, read_log
from bargein.pipeline.frames import SpeechHoldFrame, SpeechReleaseFrame
from bargein.pipeline.observing import Turns
from bargein.transports.events import EventLog

from ..processors.scripted import bot
from ..servers.openai_server import tool_calls

SVG = "{http://www.w3.org/2000/svg}"


def look() -> str:
    """Look."""
    return "a <b> & c"


async def log(tmp_path: Path) -> Path:
    """A tool is called, then an answer is held, goes on, is held and interrupted."""
    path = tmp_path / "log.jsonl"
    with path.open("w") as file:
        async with bot(look) as b:
            clock = asyncio.get_running_loop()
            began = clock.time()
            events = EventLog(file, lambda: clock.time() - began)
            b.test.session.observe(events)
            Turns(b.test.session, events)
            b.server.script(tool_calls(("look", "{}")), ["I", " looked."], ["One <two>", " three", " four."])
            await b.test.session.send_text("look")
            answered = b.test.session.send_text("count")
            await b.heard("<two>")
            b.test.send(SpeechHoldFrame())
            await asyncio.sleep(0.2)
            b.test.send(SpeechReleaseFrame("noise & echo"))
            await asyncio.sleep(0.1)
            b.test.send(SpeechHoldFrame())
            await asyncio.sleep(0.5)
            b.test.session.interrupt("because I & you")
            await answered
    return path


async def test_the_log_tells_of_turns_interruptions_and_tools(tmp_path: Path) -> None:
    events = read_log(await log(tmp_path))
    by_name = {e["event"]: e for e in events}
    assert by_name["tool_started"]["function_name"] == by_name["tool_ended"]["function_name"] == "look"
    assert by_name["interruption_report"]["reason"] == "because I & you"
    first, second = (e for e in events if e["event"] == "turn_report")
    assert (first["outcome"], second["outcome"]) == ("finished", "interrupted")
    assert first["ms"] == pytest.approx(sum(first["parts"].values()), abs=0.01)


async def test_the_picture_shows_who_spoke_what_was_held_and_what_was_cut(tmp_path: Path) -> None:
    picture = ElementTree.fromstring(draw_svg(read_log(await log(tmp_path))))
    rectangles = [r.get("class") for r in picture.iter(f"{SVG}rect")]
    assert rectangles.count("bot") == 2
    assert rectangles.count("model") == 2
    assert rectangles.count("tools") == 1
    (cut,) = (line for line in picture.iter(f"{SVG}line") if line.get("class") == "cut")
    released, held = (r for r in picture.iter(f"{SVG}rect") if r.get("class") == "held")
    assert "".join(released.itertext()) == "went on: noise & echo, 0.20 s"
    end = float(held.get("x", 0)) + float(held.get("width", 0))
    assert float(cut.get("x1", 0)) == pytest.approx(end, abs=0.2)
    texts = ["".join(t.itertext()) for t in picture.iter(f"{SVG}text")]
    assert any("full: because I & you" in t and "three four." in t for t in texts)
    assert any(t.startswith("looked.") for t in texts)


def test_of_an_answer_whose_voice_was_cut_the_model_is_shown_to_its_end() -> None:
    events = [
        {"t": 1.0, "event": "response_started", "response_id": "r1"},
        {
            "t": 2.0,
            "event": "interrupted",
            "level": "speech",
            "reason": "x",
            "response_id": "r1",
            "unheard": "",
        },
        {"t": 5.0, "event": "response_ended", "response_id": "r1"},
    ]
    picture = ElementTree.fromstring(draw_svg(events))
    (model,) = (r for r in picture.iter(f"{SVG}rect") if r.get("class") == "model")
    assert "".join(model.itertext()) == "r1 4.00 s"


def test_no_word_is_written_beside_the_picture() -> None:
    heard = [{"t": 14.8, "event": "bot_heard", "text": f"word {number}."} for number in range(9)]
    picture = ElementTree.fromstring(draw_svg(heard))
    words = [t for t in picture.iter(f"{SVG}text") if t.find(f"{SVG}title") is not None]
    assert len(words) == 1
    assert float(words[0].get("x", 0)) < float(picture.get("width", 0)) - 16


async def test_the_page_has_the_figures(tmp_path: Path) -> None:
    page = draw_html(read_log(await log(tmp_path)))
    assert "because I &amp; you" in page
    assert "<two>" not in page
    assert page.count("<tr>") == 3 + 2 + 1 + 1
    assert "<td>noise &amp; echo</td><td>no</td><td>200</td>" in page
    assert "Errors" not in page
    failed = draw_html([{"t": 1.0, "event": "error", "error": "TTS: it <broke>"}])
    assert "<td>1.00</td><td>TTS: it &lt;broke&gt;</td>" in failed


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no events"),
        ('{"t": 1, "event": "turn"}\n{"t": 1}\n', "line 2 is no event"),
        ("RIFF....", "line 1 is no event"),
        (json.dumps([1]), "line 1 is no event"),
    ],
)
def test_a_file_that_is_no_log_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    with pytest.raises(BadLog, match=problem):
        read_log(path)
