"""Clients of voice-agent-ai-sdk as the two ends of a pipeline: see docs/voice-agent.md."""

from .events import VoiceAgentEvents
from .input import VoiceAgentInput
from .output import VoiceAgentOutput
from .protocol import VoiceAgentProtocol
from .video import VideoProtocol

__all__ = ["VideoProtocol", "VoiceAgentEvents", "VoiceAgentInput", "VoiceAgentOutput", "VoiceAgentProtocol"]
