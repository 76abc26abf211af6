"""Whatever is done to an agent, in whatever order: what was cut stays cut, and everybody gets an answer."""

from __future__ import annotations

import asyncio
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bargein import Level
from bargein.bots.voice_agent import AgentClosed, VideoAgent, VoiceAgent
from bargein.bots.voice_agent.events import SpeechComplete, SpeechInterrupted, Text
from bargein.pipeline import InputRejected

from ...servers.openai_server import Token
from ...transports.voice_agent.agent import PageWire
from ...transports.voice_agent.camera import picture, show
from .scripted import SECOND, Talk, doing, talking

SENTENCES: list[Token] = [f"This is sentence {n}. " for n in range(6)]

PICTURE = picture()
ACTIONS = [
    "text",
    "priority",
    "recording",
    "picture",
    "query",
    "say",
    "stop",
    "quiet",
    "clear",
    "client",
    "camera",
    "disconnect",
]
steps = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 30)), max_size=8)


async def act(talk: Talk, action: str, tasks: list[asyncio.Task[object]], pages: list[PageWire]) -> None:
    agent = talk.agent
    assert isinstance(agent, VideoAgent)
    match action:
        case "text":
            tasks.append(asyncio.create_task(agent.send_text("Tell me.")))
        case "priority":
            tasks.append(asyncio.create_task(agent.send_text("Now!", priority=True)))
        case "recording":
            tasks.append(asyncio.create_task(agent.send_audio(SECOND, "pcm")))
        case "picture" | "query":
            query = "What is it?" if action == "query" else None
            tasks.append(asyncio.create_task(agent.send_frame(PICTURE, query)))
        case "camera":
            for page in pages[-1:]:
                show(page, PICTURE)
        case "say":
            await agent.generate_and_send_speech_full("By the way, this is it.")
        case "stop":
            agent.interrupt_current_response("stop")
        case "quiet":
            agent.interrupt_speech("quiet")
        case "clear":
            agent.clear_history()
        case "client":
            pages.append(PageWire())
            tasks.append(asyncio.create_task(agent.handle_socket(pages[-1].websocket)))
        case "disconnect":
            await agent.disconnect()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
async def test_any_schedule(schedule: list[tuple[str, int]]) -> None:
    async with talking(*["Hello."] * len(schedule), kind=VideoAgent) as talk:
        talk.server.answer = lambda messages: SENTENCES
        tasks: list[asyncio.Task[object]] = []
        pages: list[PageWire] = []
        asked = 0
        for action, tenths in schedule:
            running = _runs(talk.agent)
            await act(talk, action, tasks, pages)
            asked += action in ("stop", "quiet") and running
            await asyncio.sleep(tenths / 10)
        for page in pages:
            page.leave()
        for result in await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 600):
            assert result is None or isinstance(result, str | InputRejected), result
        await asyncio.sleep(60)
        assert doing(talk.agent) == []
        assert talk.agent.session.responses == ()
        assert sum(report.reason in ("stop", "quiet") for report in talk.of(SpeechInterrupted)) == asked
        _check_what_was_cut(talk)
        assert all(json.dumps(request.body).count("data:image") <= 1 for request in talk.server.requests)
        assert "data:image" not in json.dumps(talk.history)


def _runs(agent: VoiceAgent) -> bool:
    """Whether it has a session: between two clients it has none."""
    try:
        return not agent.session.stats.undead
    except AgentClosed:
        return False


def _check_what_was_cut(talk: Talk) -> None:
    """Response ids count anew with each session, so the events of each are looked at by themselves."""
    session = 0
    cut: set[tuple[int, str]] = set()
    ended: list[tuple[int, str]] = []
    for name, event in zip(talk.names, talk.told, strict=True):
        session += name == "listening"
        match event:
            case SpeechInterrupted(response_id=str(response), level=level):
                cut.add((session, response))
                assert level in Level
            case SpeechComplete(response_id=response):
                assert (session, response) not in cut
            case Text(role="assistant", response_id=str(response)):
                ended.append((session, response))
    assert len(ended) == len(set(ended))
