"""Pictures, and a client that sends them."""

from __future__ import annotations

import io
from base64 import b64encode
from typing import Any

from PIL import Image

from .agent import PageWire


def picture(colour: str = "red", size: tuple[int, int] = (64, 48), file_format: str = "WEBP") -> bytes:
    """A file, all of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, file_format)
    return file.getvalue()


def url_of(data: bytes, kind: str = "webp") -> str:
    """A picture as it is given to a model."""
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def show(page: PageWire, data: bytes, sequence: int = 1, **fields: Any) -> None:
    """Send a picture, as the original's page does; what it says of its size is wrong."""
    image = {"data": b64encode(data).decode(), "format": "webp", "width": 9_999, "height": 1}
    frame = {
        "sessionId": "client-main",
        "sequence": sequence,
        "timestamp": 1_000 * sequence,
        "triggerReason": "timer",
        "previousFrameRef": None,
        "image": image,
    }
    page.say(type="video_frame", **frame | fields)
