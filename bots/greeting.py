"""What a bot says first."""

from __future__ import annotations

from pipecat.frames.frames import ClientConnectedFrame

from ..pipeline import Processor, handles
from ..pipeline.frames import StartFrame


class Greeting(Processor):
    """Says a text once, as soon as there is somebody to hear it.

    Args:
        text: What to say.
        critical: No interruption stops it.
        awaits_client: The client says itself when it is ready; otherwise it is when the session begins.
    """

    def __init__(self, text: str, *, critical: bool = False, awaits_client: bool = False) -> None:
        self._text = text
        self._critical = critical
        self._awaits_client = awaits_client
        self._said = False

    @handles(StartFrame)
    def begin(self, frame: StartFrame) -> None:
        self.push(frame)
        if not self._awaits_client:
            self._say()

    @handles(ClientConnectedFrame)
    def ready(self, frame: ClientConnectedFrame) -> None:
        self.push(frame)
        self._say()

    def _say(self) -> None:
        if not self._said:
            self._said = True
            self.session.say(self._text, critical=self._critical)
