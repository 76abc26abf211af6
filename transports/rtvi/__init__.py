"""RTVI 2.x, the messages that Pipecat's clients and the page speak, from and to frames; see docs/rtvi.md."""

from .messages import LABEL, VERSION, Channel, Message, encoded, rtvi
from .processor import RTVI

__all__ = ["LABEL", "RTVI", "VERSION", "Channel", "Message", "encoded", "rtvi"]
