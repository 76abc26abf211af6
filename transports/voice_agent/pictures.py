"""Pictures of what the user sees or shows: what they are is told by their bytes, not by who sends them."""

from __future__ import annotations

import io
import time
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from PIL import Image
from pipecat.frames.frames import InputImageRawFrame

from ...pipeline import BargeinError

MAX_FRAME_BYTES = 5 * 1024 * 1024  # of one picture; voice-agent-ai-sdk's default
MAX_PIXELS = 4096 * 4096  # a small file can hold a huge picture

# What vision models take. Pillow knows many more, which nobody should be made to decode.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")


class BadPicture(BargeinError, ValueError):
    """Raised when bytes are no picture that can be read, or a huge one."""


@dataclass
class PictureFrame(InputImageRawFrame):
    """A picture of what the user sees or shows, which goes with the next question. It is encoded.

    Parameters:
        image: A file.
        size: Width and height in pixels.
        format: Its media type, such as "image/webp".
        sequence: Its number, as who sent it counts.
        timestamp: When it was taken, in ms since 1970.
        trigger_reason: Why, in the client's words.
    """

    sequence: int
    timestamp: float
    trigger_reason: str

    @property
    def part(self) -> dict[str, Any]:
        """The picture as a part of a message to a model."""
        data = b64encode(self.image).decode()
        return {"type": "image_url", "image_url": {"url": f"data:{self.format};base64,{data}"}}


def look_at(data: bytes) -> tuple[tuple[int, int], str]:
    """Decode a picture (JPEG, PNG, WebP, GIF): its size in pixels, and its media type. This blocks.

    Raises:
        BadPicture: It cannot be read to its end, or has more than `MAX_PIXELS`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise BadPicture(f"a picture may have {MAX_PIXELS} pixels")
            picture.load()
            return picture.size, Image.MIME[str(picture.format)]
    except BadPicture:
        raise
    except Exception:  # decoders raise what they like
        raise BadPicture("the picture cannot be read; it may be JPEG, PNG, WebP or GIF") from None


def now_ms() -> int:
    """The time of day, in ms since 1970."""
    return time.time_ns() // 1_000_000
