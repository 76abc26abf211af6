"""`bot-output`: an answer piece by piece, and how far each piece has been heard."""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from dataclasses import dataclass
from itertools import count

from .messages import Message, Send, about


@dataclass(slots=True, eq=False)
class Piece:
    """A sentence, or what is spoken as one.

    Attributes:
        id: Names it within the session.
        text: Without the space around it.
        start: Where it begins in the answer's text, in characters.
        announced: The client knows of it.
    """

    id: int
    response_id: str | None
    text: str
    start: int
    announced: bool = False


class BotOutput:
    """Tells of a spoken piece when its turn has come, then of each word heard of it, then of its end.

    A piece that is cut off stays where it is: the client shows how far it was heard. Pieces that had not
    begun by then are not told at all, or, if only the voice was cut, as text that is not spoken.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._ids = count(1)
        self._pieces: deque[Piece] = deque()  # to be spoken, in order; the first may have begun
        self._speaking = False

    def add(self, response_id: str | None, text: str, start: int) -> None:
        """A piece that will be spoken after those before it."""
        words = text.strip()
        if words:
            lead = len(text) - len(text.lstrip())
            self._pieces.append(Piece(next(self._ids), response_id, words, start + lead))
            self._announce_next()

    def show(self, response_id: str | None, text: str) -> None:
        """A piece that will not be spoken."""
        if text.strip():
            self._tell(Piece(next(self._ids), response_id, text.strip(), 0))

    def speaking(self, speaking: bool) -> None:
        """The voice begins or stops."""
        self._speaking = speaking
        self._announce_next()

    def heard(self, response_id: str | None, to: int) -> None:
        """An answer has been heard up to this character."""
        while any(piece.response_id == response_id for piece in self._pieces):
            piece = self._pieces[0]
            if piece.response_id == response_id:
                if to <= piece.start:
                    return
                self._announce(piece)
                self._tell(piece, min(to - piece.start, len(piece.text)))
                if to < piece.start + len(piece.text):
                    return
            self._pieces.popleft()  # heard to its end, or of an answer whose voice failed
        self._announce_next()

    def cut(self, response_ids: Container[str | None], *, speech_only: bool) -> None:
        """An interruption hit these answers."""
        pieces, self._pieces = self._pieces, deque()
        for piece in pieces:
            if piece.response_id not in response_ids:
                self._pieces.append(piece)
            elif speech_only and not piece.announced:
                self._tell(piece)
        self._announce_next()

    def _announce_next(self) -> None:
        if self._speaking and self._pieces:
            self._announce(self._pieces[0])

    def _announce(self, piece: Piece) -> None:
        if not piece.announced:
            piece.announced = True
            self._tell(piece, 0)

    def _tell(self, piece: Piece, heard: int | None = None) -> None:
        """Of a piece that is spoken and `heard` up to here; None: it is not spoken."""
        progress: Message = {}
        status = "new"
        if heard is not None:
            accumulated, remaining = piece.text[:heard], piece.text[heard:]
            status = "completed" if not remaining else "in-progress" if accumulated else "new"
            progress = {"spoken_progress": {"accumulated_text": accumulated, "remaining_text": remaining}}
        self._send(
            "bot-output",
            {
                "text": piece.text,
                # One thing under the three names that clients of different age look for.
                "output_type": "sentence",
                "text_type": "sentence",
                "aggregated_by": "sentence",
                "segment_id": piece.id,
                "will_be_spoken": heard is not None,
                "spoken_status": status,
                **progress,
                **about(piece.response_id),
            },
        )
