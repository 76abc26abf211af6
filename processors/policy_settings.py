"""The policies of a running `BargeIn` as plain data: to be shown, changed one by one, and set back."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from ..pipeline import BargeinError
from .bargein import BargeIn
from .deciding import Policy
from .policies import (
    Backchannel,
    Background,
    Critical,
    Debounce,
    Grace,
    MuteDuringTools,
    MuteUntilFirstReplyEnds,
    Noise,
    Policies,
    Resume,
    ShortRest,
    SpeechOnly,
    while_speaking,
    while_thinking,
)

MAX_NUMBER = 60_000.0  # of any unit: a minute in ms
MAX_TEXT = 200  # characters

# What can be turned on, in the order in which it is best asked: those that are off by default go first.
WHILE_THINKING: tuple[Policy, ...] = (
    MuteUntilFirstReplyEnds(),
    MuteDuringTools(),
    Debounce(),
    *while_thinking(),
)
WHILE_SPEAKING: tuple[Policy, ...] = (
    MuteUntilFirstReplyEnds(),
    MuteDuringTools(),
    Grace(),
    Debounce(),
    *while_speaking(),
)

# Those that let the bot go on, or wait.
STOP_NOTHING = (
    MuteUntilFirstReplyEnds,
    MuteDuringTools,
    Grace,
    Debounce,
    Critical,
    ShortRest,
    Noise,
    Background,
    Backchannel,
)


class BadSetting(BargeinError, ValueError):
    """Raised when a setting does not exist or its value does not fit; the message names it."""


@dataclass(frozen=True)
class Rule:
    """One policy, on or off.

    Attributes:
        name: Of its class, or of the function it is; the second of a name has a 2 behind it.
        policy: Without the `SpeechOnly` around it.
        on: It is asked.
        speech_only: Where it would stop everything, only the voice stops; None where it stops nothing.
    """

    name: str
    policy: Policy
    on: bool = True
    speech_only: bool | None = False

    @property
    def options(self) -> dict[str, Any]:
        """What can be set, by name."""
        return _options(self.policy)

    def describe(self) -> dict[str, Any]:
        return {
            "policy": self.name,
            "about": _summary(self.policy),
            "on": self.on,
            "speech_only": self.speech_only,
            "options": self.options,
        }

    def change(self, wanted: Any, where: str) -> Rule:
        """The same with other values."""
        flags = ("on",) if self.speech_only is None else ("on", "speech_only")
        wanted = dict(_mapping(wanted, where, (*flags, *self.options)))
        chosen = {name: _flag(wanted.pop(name), f"{where}.{name}") for name in flags if name in wanted}
        return Rule(
            self.name,
            _changed(self.policy, wanted, where),
            chosen.get("on", self.on),
            chosen.get("speech_only", self.speech_only),
        )

    def make(self) -> Policy:
        """The policy to ask."""
        return SpeechOnly(self.policy) if self.speech_only else self.policy


@dataclass(frozen=True)
class Settings:
    """All that can be set."""

    speaking: tuple[Rule, ...]
    thinking: tuple[Rule, ...]
    resume: Resume = field(default_factory=Resume)
    resumes: bool = True
    duck: float = 0.0

    def describe(self) -> dict[str, Any]:
        return {
            "speaking": [rule.describe() for rule in self.speaking],
            "thinking": [rule.describe() for rule in self.thinking],
            "resume": {"about": _summary(self.resume), "on": self.resumes, "options": _options(self.resume)},
            "duck": self.duck,
        }

    def change(self, wanted: Any) -> Settings:
        """The same with other values."""
        wanted = _mapping(wanted, "", ("speaking", "thinking", "resume", "duck"))
        changed: dict[str, Any] = {}
        for phase in ("speaking", "thinking"):
            if phase in wanted:
                changed[phase] = _changed_rules(getattr(self, phase), wanted[phase], phase)
        if "resume" in wanted:
            asked = dict(_mapping(wanted["resume"], "resume", ("on", *_options(self.resume))))
            changed["resumes"] = _flag(asked.pop("on", self.resumes), "resume.on")
            changed["resume"] = _changed(self.resume, asked, "resume")
        if "duck" in wanted:
            changed["duck"] = _number(wanted["duck"], "duck", 0.95)
        return replace(self, **changed)


class PolicySettings:
    """What can be set in the interruption policies of one session, while it runs.

    A change holds from the next moment on, for speech that is being judged too. All that a bot has can be
    changed, policies of its own as far as they are dataclasses with numbers and texts; the policies that
    are shipped can be turned on.

    Args:
        bargein: Its policies are the ones to go back to.
    """

    def __init__(self, bargein: BargeIn) -> None:
        self._bargein = bargein
        policies = bargein.policies
        self._usual = self._settings = Settings(
            _rules(policies.speaking, WHILE_SPEAKING),
            _rules(policies.thinking, WHILE_THINKING),
            policies.resume or Resume(),
            policies.resume is not None,
            bargein.duck,
        )

    def describe(self) -> dict[str, Any]:
        """All settings, in the order in which policies are asked.

        `speaking` and `thinking` are lists of policies: `policy` (its name), `about`, `on`, `speech_only`
        (None where it stops nothing) and `options` by name; `resume` has `about`, `on` and `options`;
        `duck` is a gain. `changed` says whether something is not as the bot has it.
        """
        return {**self._settings.describe(), "changed": self._settings != self._usual}

    def change(self, wanted: Any) -> dict[str, Any]:
        """Set what is given and leave the rest; returns the description.

        Args:
            wanted: Such as `{"speaking": {"Debounce": {"on": True, "ms": 400}}, "resume": {"on": False},
                "duck": 0.2}`.

        Raises:
            BadSetting: Something does not fit; nothing is changed.
        """
        return self._use(self._settings.change(wanted))

    def reset(self) -> dict[str, Any]:
        """Go back to the bot's own settings; returns the description."""
        return self._use(self._usual)

    def _use(self, settings: Settings) -> dict[str, Any]:
        self._settings = settings
        self._bargein.duck = settings.duck
        self._bargein.policies = Policies(
            speaking=tuple(rule.make() for rule in settings.speaking if rule.on),
            thinking=tuple(rule.make() for rule in settings.thinking if rule.on),
            resume=settings.resume if settings.resumes else None,
        )
        return self.describe()


def _rules(policies: Sequence[Policy], offered: Sequence[Policy]) -> tuple[Rule, ...]:
    """The bot's policies, and between them, turned off, those it could have."""
    rules: list[Rule] = []
    for made in policies:
        policy = made
        while isinstance(policy, SpeechOnly):
            policy = policy.policy
        rules.append(_rule(_new_name(policy, rules), policy, on=True, speech_only=policy is not made))
    kinds = [type(policy) for policy in offered]
    for index in reversed(range(len(offered))):
        if not any(isinstance(rule.policy, kinds[index]) for rule in rules):
            later = tuple(kinds[index + 1 :])
            before = (at for at, rule in enumerate(rules) if isinstance(rule.policy, later))
            rule = _rule(kinds[index].__name__, offered[index], on=False, speech_only=False)
            rules.insert(next(before, len(rules)), rule)
    return tuple(rules)


def _rule(name: str, policy: Policy, *, on: bool, speech_only: bool) -> Rule:
    return Rule(name, policy, on, None if isinstance(policy, STOP_NOTHING) else speech_only)


def _new_name(policy: Policy, rules: Sequence[Rule]) -> str:
    name = getattr(policy, "__name__", type(policy).__name__)
    same = sum(rule.name.partition(" ")[0] == name for rule in rules)
    return f"{name} {same + 1}" if same else name


def _changed_rules(rules: Sequence[Rule], wanted: Any, phase: str) -> tuple[Rule, ...]:
    wanted = _mapping(wanted, phase, [rule.name for rule in rules])
    return tuple(
        rule.change(wanted[rule.name], f"{phase}.{rule.name}") if rule.name in wanted else rule
        for rule in rules
    )


def _summary(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _options(thing: Any) -> dict[str, Any]:
    """The numbers and texts a dataclass was made with."""
    if not is_dataclass(thing):
        return {}
    values = {f.name: getattr(thing, f.name) for f in fields(thing) if f.init}
    return {n: v for n, v in values.items() if isinstance(v, int | float | str) and not isinstance(v, bool)}


def _changed(thing: Any, wanted: Mapping[str, Any], where: str) -> Any:
    checked: dict[str, Any] = {}
    for name, value in wanted.items():
        declared = next(f.type for f in fields(thing) if f.name == name)
        if isinstance(getattr(thing, name), str):
            checked[name] = _text(value, f"{where}.{name}")
        else:
            checked[name] = _number(value, f"{where}.{name}", whole=declared in ("int", int))
    return replace(thing, **checked) if checked else thing


def _mapping(value: Any, where: str, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BadSetting(f"{where or 'the settings'}: should be an object with {', '.join(known)}")
    unknown = next((name for name in value if name not in known), None)
    if unknown is not None:
        name = f"{where}.{unknown}" if where else str(unknown)
        raise BadSetting(f"{name:.100}: unknown; there is {', '.join(known)}")
    return value


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise BadSetting(f"{where}: should be true or false")
    return value


def _number(value: Any, where: str, most: float = MAX_NUMBER, *, whole: bool = False) -> float:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or not 0 <= value <= most or (whole and value != int(value)):
        raise BadSetting(f"{where}: should be a {'whole ' if whole else ''}number from 0 to {most:g}")
    return int(value) if whole else value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise BadSetting(f"{where}: should be a text of at most {MAX_TEXT} characters")
    return value
