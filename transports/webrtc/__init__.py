"""A browser (or any WebRTC peer) as the two ends of a pipeline."""

from .connection import BadOffer, Candidate, NoNetwork, WebRTCConnection
from .processors import WebRTCInput, WebRTCOutput

__all__ = ["BadOffer", "Candidate", "NoNetwork", "WebRTCConnection", "WebRTCInput", "WebRTCOutput"]
