"""Speech and language models that run on this machine, each without blocking the event loop.

Importing this package needs none of the models: an engine's module is imported when its name is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    LocalModelError,
    LocalModelMissing,
    ModelRequestFailed,
    WorkerDied,
    WorkerStartFailed,
)
from .types import SpeechChunk, WordTime

if TYPE_CHECKING:
    from .llama import LlamaServer
    from .moonshine import MoonshineStream, MoonshineSTT
    from .piper import PiperTTS
    from .silero import SileroVAD
    from .smart_turn import SmartTurn

__all__ = [
    "LlamaServer",
    "LocalModelError",
    "LocalModelMissing",
    "ModelRequestFailed",
    "MoonshineSTT",
    "MoonshineStream",
    "PiperTTS",
    "SileroVAD",
    "SmartTurn",
    "SpeechChunk",
    "WordTime",
    "WorkerDied",
    "WorkerStartFailed",
]

_MODULES = {
    "LlamaServer": ".llama",
    "MoonshineSTT": ".moonshine",
    "MoonshineStream": ".moonshine",
    "PiperTTS": ".piper",
    "SileroVAD": ".silero",
    "SmartTurn": ".smart_turn",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)
