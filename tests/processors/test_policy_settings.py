"""Policies of a running bot, described, changed and set back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bargein.processors.bargein import BargeIn
from bargein.processors.deciding import Bot, Decision, Policy, Speech
from bargein.processors.policies import (
    Backchannel,
    Debounce,
    Grace,
    MinimumDuration,
    MinimumWords,
    Policies,
    Resume,
    SpeechOnly,
)
from bargein.processors.policy_settings import BadSetting, PolicySettings


@dataclass(frozen=True)
class Shouting:
    """Loud speech interrupts."""

    above_db: float = 6
    word: str = "stop"

    def __call__(self, speech: Speech, bot: Bot) -> Decision | None:
        return None


def at_night(speech: Speech, bot: Bot) -> Decision | None:
    """A function is a policy too."""
    return None


def names(rules: list[dict[str, Any]], *, on: bool) -> list[str]:
    return [rule["policy"] for rule in rules if rule["on"] is on]


def described(settings: PolicySettings, name: str, phase: str = "speaking") -> dict[str, Any]:
    return next(rule for rule in settings.describe()[phase] if rule["policy"] == name)


def resume_of(bargein: BargeIn) -> Resume | None:
    return bargein.policies.resume


def test_the_description_is_what_the_bot_has_and_could_have() -> None:
    bargein = BargeIn()
    before = bargein.policies
    found = PolicySettings(bargein).describe()
    assert json.loads(json.dumps(found)) == found
    for phase in ("speaking", "thinking"):
        assert names(found[phase], on=True) == [type(p).__name__ for p in getattr(before, phase)]
    assert names(found["speaking"], on=False) == [
        "MuteUntilFirstReplyEnds", "MuteDuringTools", "Grace", "Debounce",
    ]  # fmt: skip
    assert "Grace" not in names(found["thinking"], on=False)
    assert found["resume"]["on"] is True
    assert found["changed"] is False
    words = next(rule for rule in found["speaking"] if rule["policy"] == "MinimumWords")
    assert words == {
        "policy": "MinimumWords",
        "about": "So many words interrupt.",
        "on": True,
        "speech_only": False,
        "options": {"count": 1, "after_ms": 900},
    }
    assert bargein.policies == before, "describing changes nothing"


def test_what_is_given_changes_and_the_rest_stays() -> None:
    bargein = BargeIn()
    before, settings = bargein.policies, PolicySettings(bargein)
    answer = settings.change(
        {"speaking": {"Debounce": {"on": True, "ms": 400}, "MinimumWords": {"count": 3}}, "duck": 0.2}
    )
    assert answer == settings.describe()
    assert answer["changed"] is True
    assert bargein.duck == 0.2
    assert bargein.policies.thinking == before.thinking
    speaking = bargein.policies.speaking
    assert Debounce(400) in speaking
    assert MinimumWords(3, after_ms=900) in speaking
    assert [p for p in speaking if not isinstance(p, Debounce | MinimumWords)] == [
        p for p in before.speaking if not isinstance(p, MinimumWords)
    ]
    settings.change({"speaking": {"Backchannel": {"on": False}}, "resume": {"on": False}})
    assert not any(isinstance(policy, Backchannel) for policy in bargein.policies.speaking)
    assert resume_of(bargein) is None
    settings.change({"resume": {"on": True, "prefix": "As I was saying, "}})
    assert resume_of(bargein) == Resume(prefix="As I was saying, ")
    assert settings.reset()["changed"] is False
    assert bargein.policies == before
    assert bargein.duck == 0


def test_the_bots_own_policies_stay_in_their_place() -> None:
    words = SpeechOnly(MinimumWords(2))
    own: tuple[Policy, ...] = (Shouting(), at_night, words, MinimumDuration(900), MinimumDuration(5000))
    bargein = BargeIn(Policies(speaking=own, thinking=(), resume=None), duck=0.3)
    settings = PolicySettings(bargein)
    found = settings.describe()
    on = ["Shouting", "at_night", "MinimumWords", "MinimumDuration", "MinimumDuration 2"]
    assert names(found["speaking"], on=True) == on
    order = [rule["policy"] for rule in found["speaking"]]
    assert order.index("Backchannel") < order.index("MinimumWords"), "where it is best asked"
    assert described(settings, "Shouting")["options"] == {"above_db": 6, "word": "stop"}
    assert described(settings, "at_night")["options"] == {}
    assert described(settings, "at_night")["speech_only"] is False
    assert described(settings, "Backchannel")["speech_only"] is None, "it stops nothing"
    assert described(settings, "MinimumWords")["speech_only"] is True
    assert found["resume"]["on"] is False
    assert found["duck"] == 0.3
    settings.change({"speaking": {"Shouting": {"word": "enough"}, "MinimumDuration 2": {"ms": 6000}}})
    changed = (Shouting(word="enough"), at_night, words, MinimumDuration(900), MinimumDuration(6000))
    assert bargein.policies.speaking == changed
    settings.change({"speaking": {"MinimumWords": {"speech_only": False}, "Grace": {"on": True}}})
    assert MinimumWords(2) in bargein.policies.speaking
    assert Grace() in bargein.policies.speaking


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (7, "the settings: should be an object with speaking, thinking, resume, duck"),
        ({"speeking": {}}, "speeking: unknown; there is speaking, thinking, resume, duck"),
        ({"thinking": []}, "thinking: should be an object with MuteUntilFirstReplyEnds, "),
        ({"thinking": {"Grace": {}}}, "thinking.Grace: unknown; there is "),
        ({"speaking": {"Debounce": True}}, "speaking.Debounce: should be an object with on, ms"),
        ({"speaking": {"Debounce": {"s": 1}}}, "speaking.Debounce.s: unknown; there is on, ms"),
        ({"speaking": {"Debounce": {"speech_only": True}}}, "speaking.Debounce.speech_only: unknown"),
        ({"speaking": {"Debounce": {"on": 1}}}, "speaking.Debounce.on: should be true or false"),
        ({"speaking": {"Debounce": {"ms": "5"}}}, "speaking.Debounce.ms: should be a number from 0 to 60000"),
        ({"speaking": {"Debounce": {"ms": -1}}}, "speaking.Debounce.ms: should be a number from 0 to 60000"),
        ({"speaking": {"Debounce": {"ms": None}}}, "speaking.Debounce.ms: should be a number"),
        ({"speaking": {"Debounce": {"ms": True}}}, "speaking.Debounce.ms: should be a number"),
        ({"speaking": {"Debounce": {"ms": float("nan")}}}, "speaking.Debounce.ms: should be a number"),
        ({"speaking": {"MinimumWords": {"count": 1.5}}}, "speaking.MinimumWords.count: should be a whole"),
        ({"resume": {"prefix": "x" * 201}}, "resume.prefix: should be a text of at most 200 characters"),
        ({"resume": {"prefix": 3}}, "resume.prefix: should be a text"),
        ({"duck": 1}, "duck: should be a number from 0 to 0.95"),
        ({"speaking": {"Debounce": {"on": True}}, "duck": "loud"}, "duck: should be a number"),
    ],
)
def test_what_does_not_fit_changes_nothing(wanted: Any, message: str) -> None:
    bargein = BargeIn()
    before, settings = bargein.policies, PolicySettings(bargein)
    with pytest.raises(BadSetting) as raised:
        settings.change(wanted)
    assert str(raised.value).startswith(message)
    assert bargein.policies == before
    assert settings.describe()["changed"] is False


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.dictionaries(
        st.sampled_from(
            ["speaking", "thinking", "resume", "duck", "Debounce", "Grace", "on", "ms", "prefix"]
        ),
        inner,
        max_size=3,
    ),
    max_leaves=6,
)


@given(JSON)
def test_whatever_a_client_sends_leaves_a_bot_with_rules(wanted: Any) -> None:
    bargein = BargeIn()
    settings = PolicySettings(bargein)
    try:
        answer = settings.change(wanted)
    except BadSetting:
        answer = settings.describe()
        assert answer["changed"] is False
    json.dumps(answer, allow_nan=False)
    asked = len(names(answer["speaking"], on=True)) + len(names(answer["thinking"], on=True))
    assert len(bargein.policies.speaking) + len(bargein.policies.thinking) == asked
    settings.reset()
    assert bargein.policies == Policies(bargein.policies.speaking, bargein.policies.thinking, Resume())
