"""What a client may change in a running conversation: the policies of its own session."""

from __future__ import annotations

from ..pipeline import Pipeline
from ..processors.bargein import BargeIn
from ..processors.policy_settings import PolicySettings
from ..transports.rtvi import RTVI


def offer_policies(pipeline: Pipeline, client: RTVI) -> None:
    """Let the client see, set and reset the pipeline's interruption policies, if it has any.

    The messages are `get-policies`, `set-policies` and `reset-policies`; see docs/rtvi.md.
    """
    bargein = next((found for found in pipeline.processors if isinstance(found, BargeIn)), None)
    if bargein is None:
        return
    settings = PolicySettings(bargein)
    client.on_client_message("get-policies")(lambda _: settings.describe())
    client.on_client_message("set-policies")(settings.change)
    client.on_client_message("reset-policies")(lambda _: settings.reset())
