"""Random conversations with a stock model and a stock voice: silence, heard text, the context."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bargein import SpeechInterruptedFrame
from bargein.pipeline.frames import BotStartedSpeakingFrame, BotStoppedSpeakingFrame, EndFrame
from bargein.processors.context import INTERRUPTED_MARK, SPEECH_STOPPED_MARK

from .stock_processors import StockModel, StockNamelessVoice, StockVoice, StockWordVoice
from .test_host_speech import Talk

ANSWERS = ["One two three. Four five six.", "Yes.", "Well, that is so. Or is it?"]
VOICES: list[Callable[[], Any]] = [
    StockVoice,
    lambda: StockVoice(delay_s=0.4),
    StockWordVoice,
    lambda: StockWordVoice(delay_s=0.3),
    lambda: StockWordVoice(late=True),
    lambda: StockWordVoice(delay_s=0.2, careless=True),
    StockNamelessVoice,
    lambda: StockNamelessVoice(delay_s=0.6),
]

actions = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.none()),
        st.tuples(st.just("say"), st.none()),
        st.tuples(st.just("wait"), st.floats(0, 3).map(lambda s: round(s, 2))),
        st.tuples(st.just("full"), st.none()),
        st.tuples(st.just("speech"), st.none()),
    ),
    max_size=12,
)


@pytest.mark.virtual_time
@settings(max_examples=100, deadline=None)
@given(
    voice=st.sampled_from(VOICES),
    sentences=st.booleans(),
    delay=st.sampled_from([0.0, 0.05, 0.3]),
    plan=actions,
)
async def test_conversations(
    voice: Callable[[], Any], sentences: bool, delay: float, plan: list[tuple[str, Any]]
) -> None:
    model = StockModel(ANSWERS * 10, delay_s=delay)
    talk = Talk(model, voice(), sentences=sentences)
    reports = 0
    async with talk.running() as test:
        await test.advance(0.1)
        for action, value in plan:
            if action == "ask":
                talk.ask()
            elif action == "say":
                test.session.say("A given text.")
            elif action == "wait":
                await test.advance(value)
            else:
                reports += 1
                (test.interrupt if action == "full" else test.interrupt_speech)()
                assert len(test.received(SpeechInterruptedFrame)) == reports
                await test.advance(0.04)  # the fade
                if not test.session.responding:
                    del talk.played[:]
                    await test.advance(0.5)
                    assert not talk.played.strip(b"\0")
        await test.advance(40)
        assert not test.session.responding
        starts, stops = (
            len(test.received(BotStartedSpeakingFrame)),
            len(test.received(BotStoppedSpeakingFrame)),
        )
        assert starts == stops
        assert len(test.received(SpeechInterruptedFrame)) == reports
        for content in talk.said:
            heard = content.split(SPEECH_STOPPED_MARK)[0].removesuffix(INTERRUPTED_MARK).strip()
            assert any(whole.startswith(heard) for whole in [*ANSWERS, "A given text."]), content
        roles = [m["role"] for m in talk.context.messages[1:]]
        assert len(model.asked) <= sum(action == "ask" for action, _ in plan)
        assert roles.count("user") <= sum(action == "ask" for action, _ in plan)
        model.answers[:] = ["And now the last words of all."]
        said = len(talk.heard)
        talk.ask()
        await test.advance(20)
        assert talk.heard[said:].strip() == "And now the last words of all."
        test.session.end()
        await test.session.finished()
        assert test.received(EndFrame)
