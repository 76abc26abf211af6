"""A bot in the words of voice-agent-ai-sdk: see docs/voice-agent-facade.md."""

from . import events
from .agent import VoiceAgent
from .errors import AgentClosed, NoVoice, TooLarge
from .video import VideoAgent

__all__ = ["AgentClosed", "NoVoice", "TooLarge", "VideoAgent", "VoiceAgent", "events"]
