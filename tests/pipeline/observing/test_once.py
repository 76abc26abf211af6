"""Each frame once."""

from __future__ import annotations

from bargein.pipeline.frames import BotStartedSpeakingFrame, LLMTextFrame
from bargein.pipeline.observing.once import Once


def test_a_frame_is_new_once_however_many_others_pass_while_it_waits() -> None:
    once, waiting = Once(), LLMTextFrame("waits in a busy processor")
    assert once.first(waiting)
    others = [LLMTextFrame(str(number)) for number in range(1000)]
    assert all(map(once.first, others))
    assert not once.first(waiting)


def test_a_frame_made_earlier_is_new_when_it_comes_later() -> None:
    once, early, late = Once(), LLMTextFrame("early"), LLMTextFrame("late")
    assert once.first(late)
    assert once.first(early)


def test_siblings_are_one_and_stay_one_when_the_first_has_gone() -> None:
    once, up, down = Once(), BotStartedSpeakingFrame(), BotStartedSpeakingFrame()
    up.broadcast_sibling_id, down.broadcast_sibling_id = down.id, up.id
    assert once.first(up)
    assert not once.first(down)
    del up
    assert not once.first(down)
