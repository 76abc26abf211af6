"""`bargein talk`: a bot on recordings, in real time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ..pipeline import Session
from ..transports.events import EventLog
from ..transports.file import FileTransport, load_recording
from .bot import Bot


async def talk(bot: Bot, source: Path, target: Path, *, then: Path | None, after_bot_starts: float) -> None:
    """Let the bot talk with one or two recordings; writes `target` and, beside it, its .jsonl.

    The last line of the event log is the context: what the model will remember.

    Raises:
        BadRecording: A recording cannot be used; nothing is loaded then.
        ServiceMissing: The bot has nothing to hear, think or speak with.
    """
    recording = load_recording(source)
    second = load_recording(then) if then is not None else None
    events = target.with_suffix(".jsonl")
    with events.open("w", encoding="utf-8") as file:
        async with bot.open(_say, max_sessions=1) as running:
            transport = FileTransport(recording)
            if second is not None:
                transport.input.after_bot_starts(after_bot_starts, second)
            context = bot.new_context()
            with running.pipeline(transport.input, transport.output, context=context) as pipeline:
                async with Session(pipeline) as session:
                    session.observe(EventLog(file, lambda: transport.seconds))
                    _say("talking ...")
                    await transport.run(session)
        transport.save(target)
        entry = {"t": transport.seconds, "event": "context", "messages": context.messages}
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")
    _say(f"{transport.seconds:.1f} s written to {target}, events to {events}")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
