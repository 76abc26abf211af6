"""Any client that opens a WebSocket as the two ends of a pipeline: see docs/websocket.md."""

from .connection import WebSocketConnection
from .json_protocol import JsonProtocol
from .phone import PhoneProtocol
from .phone_calls import BadSignature, Calls
from .processors import WebSocketInput, WebSocketOutput
from .protocol import WebSocketProtocol
from .serialized import RTVIProtocol, SerializerProtocol

__all__ = [
    "BadSignature",
    "Calls",
    "JsonProtocol",
    "PhoneProtocol",
    "RTVIProtocol",
    "SerializerProtocol",
    "WebSocketConnection",
    "WebSocketInput",
    "WebSocketOutput",
    "WebSocketProtocol",
]
