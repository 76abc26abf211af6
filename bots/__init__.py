"""Bots, declared in files or in Python. The names below are imported when they are first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bot import Bot, RunningBot
    from .errors import BadBot, NoSuchBot, Problem
    from .loader import load_bot
    from .parts import ServiceMissing
    from .shipped import shipped_bots
    from .show import draw_svg, draw_text

__all__ = [
    "BadBot",
    "Bot",
    "NoSuchBot",
    "Problem",
    "RunningBot",
    "ServiceMissing",
    "draw_svg",
    "draw_text",
    "load_bot",
    "shipped_bots",
]

_MODULES = {
    "BadBot": ".errors",
    "Bot": ".bot",
    "NoSuchBot": ".errors",
    "Problem": ".errors",
    "RunningBot": ".bot",
    "ServiceMissing": ".parts",
    "draw_svg": ".show",
    "draw_text": ".show",
    "load_bot": ".loader",
    "shipped_bots": ".shipped",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)
