"""A bot in the words of voice-agent-ai-sdk: see docs/voice-agent-facade.md."""

from . import events
from .agent import AgentClosed, NoVoice, TooLarge, VoiceAgent

__all__ = ["AgentClosed", "NoVoice", "TooLarge", "VoiceAgent", "events"]
