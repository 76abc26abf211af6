"""`bargein talk`: a bot on recordings, in real time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..pipeline import BargeinError, Session
from ..pipeline.observing import Turns
from ..transports.events import EventLog
from ..transports.file import FileTransport, Samples
from .bot import Bot, RunningBot
from .parts import OwnPart, STTPart, every


class BotIsDeaf(BargeinError, ValueError):
    """Raised when a bot is to listen to a recording and has nothing that hears."""


def check_hears(bot: Bot) -> None:
    """See whether a bot can make anything of a recording.

    Raises:
        BotIsDeaf: It cannot.
    """
    if not any(isinstance(part, STTPart | OwnPart) for part in every(bot.declaration.parts)):
        name = bot.declaration.name
        raise BotIsDeaf(f"{name} hears nothing: give it stt, or write to it with `bargein console {name}`")


class BadTarget(BargeinError, ValueError):
    """Raised when the recording of a conversation cannot be written where it is to be."""


def check_target(target: Path, *recordings: Path | None) -> None:
    """See whether a conversation can be written there, before it is held.

    Args:
        target: The recording to write.
        recordings: Those that are played.

    Raises:
        BadTarget: Its directory is missing or cannot be written to, or it would replace what is played.
    """
    if any(r is not None and target.exists() and target.samefile(r) for r in recordings):
        raise BadTarget(f"{target} is a recording that is to be played; choose another name")
    if not target.parent.is_dir():
        raise BadTarget(f"{target.parent}: no such directory; {target} cannot be written")
    if not os.access(target.parent, os.W_OK):
        raise BadTarget(f"{target.parent} cannot be written to")


async def talk(
    running: RunningBot,
    recording: Samples,
    target: Path,
    log: Path,
    *,
    then: Samples | None,
    after_bot_starts: float,
    at: Callable[[float], None],
) -> list[dict[str, Any]]:
    """Let the bot talk with one or two recordings, mono at 16 kHz.

    The last line of the log is the context: what the model will remember.

    Args:
        running: Who talks.
        recording: What the user says.
        target: A stereo WAV to write, the user left and the bot right.
        log: Where the events go, one JSON object a line.
        then: What a second voice says.
        after_bot_starts: When, s after the bot's first sound.
        at: Called with the length of the conversation so far, s.

    Returns:
        The conversation as the model will remember it.
    """
    transport, context = FileTransport(recording), running.bot.new_context()
    if then is not None:
        transport.input.after_bot_starts(after_bot_starts, then)
    with log.open("w", encoding="utf-8") as file:
        events = EventLog(file, lambda: transport.seconds)
        with running.pipeline(transport.input, transport.output, context=context) as pipeline:
            session = Session(pipeline)
            session.observe(events)  # before it begins: with a greeting, perhaps
            Turns(session, events)
            async with session:
                await transport.run(session, on_block=lambda: at(transport.seconds))
        transport.save(target)
        events.write("context", {"messages": context.messages})
    return context.messages
