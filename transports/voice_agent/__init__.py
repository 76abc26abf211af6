"""Clients of voice-agent-ai-sdk as the two ends of a pipeline: see docs/voice-agent.md."""

from .events import VoiceAgentEvents
from .input import VoiceAgentInput
from .output import VoiceAgentOutput
from .protocol import VoiceAgentProtocol

__all__ = ["VoiceAgentEvents", "VoiceAgentInput", "VoiceAgentOutput", "VoiceAgentProtocol"]
