"""Interruption in bot files: the policies of `processors.policies` by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator
from pydantic.fields import FieldInfo

from ..processors import policies as policy_module
from ..processors.deciding import Policy
from ..processors.policies import Policies, Resume, SpeechOnly, while_speaking, while_thinking
from .choice import Choice
from .imports import call_with, check_options, import_thing, is_import
from .options import Options, as_list, made_with, options_of, problem

Defaults = Callable[[], tuple[Policy, ...]]


class PolicyOptions(Options):
    """Options of one policy."""

    made: ClassVar[Callable[..., Policy]]

    def policies(self, defaults: Defaults) -> list[Policy]:
        """What this stands for, where these are the default policies."""
        return [self.made(**{n: v.make() if isinstance(v, _Inner) else v for n, v in self.given.items()})]

    @model_validator(mode="after")
    def _try(self) -> PolicyOptions:
        try:
            self.policies(lambda: ())
        except KeyError as error:
            raise problem(f"knows no {error.args[0]}") from error
        except (TypeError, ValueError) as error:
            raise problem(str(error)) from error
        return self


class _Inner(Options):
    """Options of what a policy is made with, such as `BackchannelWords`."""

    made: ClassVar[Callable[..., Any]]

    def make(self) -> Any:
        return self.made(**self.given)


class DefaultPolicies(Options):
    """The default policies, in their order; what stands before them is asked first."""

    def policies(self, defaults: Defaults) -> list[Policy]:
        """All of them."""
        return list(defaults())


class OwnPolicy(Options):
    """A policy made in Python, or named by its path."""

    policy: Any

    def policies(self, defaults: Defaults) -> list[Policy]:
        """It alone."""
        return [self.policy]


def _own(name: Any, options: dict[str, Any], context: Any) -> OwnPolicy | None:
    found = import_thing(name, (context or {}).get("directory")) if is_import(name) else name
    if isinstance(found, type):
        if wrong := check_options(found, options):
            raise problem("; ".join(f"{option} {text}".strip() for option, text in wrong))
        found = call_with(found, options)
    return OwnPolicy(policy=found) if callable(found) else None


def _options(policy: type) -> type[PolicyOptions]:
    inner: dict[str, Any] = {}
    for name in inspect.signature(policy).parameters:
        maker = made_with(name, policy)
        if maker is not None:
            model = options_of(maker, maker.__name__, base=_Inner)
            model.made = maker
            inner[name] = (model, FieldInfo(default=None, description=f"Options of {maker.__name__}."))
    options = options_of(policy, policy.__name__, base=PolicyOptions, **inner)
    options.made = policy
    return options


def _is_policy(thing: object) -> bool:
    return (
        isinstance(thing, type)
        and thing is not SpeechOnly
        and thing.__module__ == policy_module.__name__
        and "__call__" in vars(thing)
        and list(inspect.signature(thing.__call__).parameters)[1:] == ["speech", "bot"]
    )


MODELS: dict[str, type[Options]] = {"defaults": DefaultPolicies}
POLICY = Choice("policy", MODELS, _own)  # filled below: one policy holds others
PolicyItem = Annotated[Any, POLICY]


class SpeechOnlyOptions(Options):
    """Where the policies inside would stop everything, only the voice stops."""

    inside: tuple[PolicyItem, ...]
    short_forms = ({"choice": "policy"}, {"type": "array", "items": {"choice": "policy"}})

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return value if isinstance(value, Mapping) and "inside" in value else {"inside": as_list(value)}

    def policies(self, defaults: Defaults) -> list[Policy]:
        """Each of those inside, wrapped."""
        return [SpeechOnly(policy) for item in self.inside for policy in item.policies(defaults)]


MODELS |= {name: _options(thing) for name, thing in vars(policy_module).items() if _is_policy(thing)}
MODELS["SpeechOnly"] = SpeechOnlyOptions
ResumeOptions = options_of(Resume, "Resume", base=Options)


class Interruption(Options):
    """What interrupts the bot, and what does not. A list stands for `speaking`."""

    short_forms = ({"type": "array", "items": {"choice": "policy"}},)
    speaking: Annotated[tuple[PolicyItem, ...], BeforeValidator(as_list)] = Field(
        (DefaultPolicies(),), description="Policies asked in order while the bot speaks."
    )
    thinking: Annotated[tuple[PolicyItem, ...], BeforeValidator(as_list)] = Field(
        (DefaultPolicies(),), description="Policies asked in order while the bot makes an answer."
    )
    resume: ResumeOptions | None = Field(  # type: ignore[valid-type]
        default_factory=ResumeOptions, description="What follows a false alarm; null for nothing."
    )
    duck: float = Field(
        0.0, ge=0, lt=1, description="Gain of the voice while it is undecided; 0 holds it instead."
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any, info: ValidationInfo) -> Any:
        return {"speaking": value} if isinstance(value, list | tuple | str) else value

    @property
    def policies(self) -> Policies:
        """The rules, made anew."""
        return Policies(
            speaking=tuple(p for item in self.speaking for p in item.policies(while_speaking)),
            thinking=tuple(p for item in self.thinking for p in item.policies(while_thinking)),
            resume=Resume(**self.resume.given) if isinstance(self.resume, Options) else None,
        )
