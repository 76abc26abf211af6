"""The bots that come with bargein."""

from pathlib import Path

SHIPPED = Path(__file__).parent


def shipped_bots() -> dict[str, Path]:
    """The bots that come with bargein, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}
