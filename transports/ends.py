"""The ends of a pipeline on a connection of any kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..pipeline import Processor
from .output import AudioOutput
from .rtvi import RTVI
from .voice_agent import VoiceAgentEvents, VoiceAgentInput, VoiceAgentOutput, VoiceAgentProtocol
from .webrtc import WebRTCConnection, WebRTCInput, WebRTCOutput
from .websocket import WebSocketConnection, WebSocketInput, WebSocketOutput


@dataclass(frozen=True, slots=True)
class Ends:
    """Where a pipeline begins and ends.

    Attributes:
        source: Its first processor; pushes the user's audio, mono at 16 kHz.
        sink: Its last; plays the bot's.
        clients: What belongs between the language model and the voice: it tells the client what happens.
            Empty where there is nobody to tell, as on the telephone.
    """

    source: Processor
    sink: AudioOutput
    clients: tuple[Processor, ...]


def ends_of(
    connection: WebRTCConnection | WebSocketConnection, report_calls: Mapping[str, str] | None = None
) -> Ends:
    """New processors on a connection; a WebSocket must have begun.

    Args:
        connection: Where the bot's user is.
        report_calls: What clients are told of tool calls, see `RTVI`.
    """
    if isinstance(connection, WebRTCConnection):
        output = WebRTCOutput(connection)
        return Ends(
            WebRTCInput(connection), output, (RTVI(connection, output.playout, report_calls=report_calls),)
        )
    if isinstance(connection.protocol, VoiceAgentProtocol):
        return _voice_agent(connection, connection.protocol)
    # Not given the playout: what was played is known from marks.
    clients = (RTVI(connection, report_calls=report_calls),) if connection.protocol.speaks_rtvi else ()
    return Ends(WebSocketInput(connection), WebSocketOutput(connection), clients)


def _voice_agent(connection: WebSocketConnection, protocol: VoiceAgentProtocol) -> Ends:
    voice, events = VoiceAgentOutput(connection, protocol), VoiceAgentEvents(connection)
    return Ends(VoiceAgentInput(connection, protocol, events, voice), voice, (events,))
