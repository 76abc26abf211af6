"""Processors: voice activity, turns, barge-in, speech to text, context, language model, text to speech."""

from .bargein import BargeIn
from .context import AssistantContext, Context, UserContext
from .llm import LLM
from .policies import Policies
from .speech_ahead import SpeechAhead
from .stt import STT
from .tools import ToolCall, Tools, tool
from .tts import TTS, Sentences
from .turn import Turn
from .vad import VAD

__all__ = [
    "LLM",
    "STT",
    "TTS",
    "VAD",
    "AssistantContext",
    "BargeIn",
    "Context",
    "Policies",
    "Sentences",
    "SpeechAhead",
    "ToolCall",
    "Tools",
    "Turn",
    "UserContext",
    "tool",
]
