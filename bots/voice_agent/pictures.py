"""The pictures of one session: the newest goes with the next question, and none else is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from pipecat.frames.frames import LLMMessagesAppendFrame

from ...pipeline import Processor, handles
from ...processors.contents import joined, parts_of
from ...processors.context import Context
from ...processors.history import Message
from ...transports.voice_agent.pictures import PictureFrame


class Pictures(Processor):
    """Puts the newest picture into the next question; the one before it is only named from then on.

    So a request holds one picture at most, and a history of any length likewise: what is left of the
    others is a text such as "[picture 3, 640x480]". It belongs behind the source.

    Args:
        context: Where questions end up.
        on_picture: Called with each picture; returns how many there were so far.
    """

    def __init__(self, context: Context, on_picture: Callable[[PictureFrame], int]) -> None:
        self._context = context
        self._on_picture = on_picture
        self._new: tuple[str, PictureFrame] | None = None  # named; the newest, unless it was shown
        self._shown = "", ""  # the URL and the name of the one that is in the context

    async def stop(self) -> None:
        self.name_shown(self._context.messages)

    @handles(PictureFrame)
    def take(self, frame: PictureFrame) -> None:
        number = self._on_picture(frame)
        width, height = frame.size
        self._new = f"[picture {number}, {width}x{height}]", frame
        self.push(frame)

    @handles(LLMMessagesAppendFrame)
    def show(self, frame: LLMMessagesAppendFrame) -> None:
        """Add the new picture, if there is one, to a question that is to be answered."""
        question = _question_in(frame)
        if self._new is not None and question is not None:
            self.name_shown(self._context.messages)
            (name, picture), self._new = self._new, None
            part = picture.part
            self._shown = part["image_url"]["url"], name
            shown: Any = question | {"content": joined([[part], question["content"]])}
            frame.messages = [shown if message is question else message for message in frame.messages]
        self.push(frame)

    @property
    def there(self) -> bool:
        """Whether the model sees a picture, or will with the next question."""
        return self._new is not None or any(self._shown_in(self._context.messages))

    def name_shown(self, messages: Iterable[Message]) -> None:
        """Put its name in the place of the picture that is shown, in these messages."""
        for message, part in list(self._shown_in(messages)):
            # In its place: a question that may still grow is made of the same parts.
            part.clear()
            part.update(type="text", text=self._shown[1])
            message["content"] = joined([message["content"]])

    def _shown_in(self, messages: Iterable[Message]) -> Iterable[tuple[Message, dict[str, Any]]]:
        """The parts that show it, and their messages."""
        for message in messages:
            for part in parts_of(message.get("content")):
                if part.get("type") == "image_url" and part["image_url"]["url"] == self._shown[0]:
                    yield message, part


def _question_in(frame: LLMMessagesAppendFrame) -> Message | None:
    """What is to be answered, if anything is."""
    messages = cast("list[Message]", frame.messages) if frame.run_llm else []
    return next((m for m in reversed(messages) if isinstance(m, dict) and m["role"] == "user"), None)
