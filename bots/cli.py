"""The command line: `bargein run`, `bargein talk`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import suppress
from pathlib import Path

from loguru import logger

from ..pipeline import BargeinError

BOT = "a bot file, module:variable, or the name of a shipped bot (default: %(default)s)"


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C."""
    options = _parser().parse_args(arguments)
    logger.remove()
    # Without the values of variables: they may hold what a user said, or a key.
    logger.add(sys.stderr, level="DEBUG" if options.verbose else "WARNING", diagnose=False)
    try:
        with suppress(asyncio.CancelledError):
            asyncio.run(options.command(options))
    except KeyboardInterrupt:
        return 130
    except (BargeinError, OSError) as error:
        print(f"bargein: {error}", file=sys.stderr)
        return 1
    return 0


async def _run(options: argparse.Namespace) -> None:
    from .app import run
    from .loader import load_bot

    await run(load_bot(options.bot), options.host, options.port, options.max_sessions)


async def _talk(options: argparse.Namespace) -> None:
    from .loader import load_bot
    from .talk import talk

    bot = load_bot(options.bot)
    await talk(
        bot, options.input, options.output, then=options.then, after_bot_starts=options.after_bot_starts
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bargein", description="Voice bots that can be interrupted.")
    parser.add_argument("-v", "--verbose", action="store_true", help="log what happens to standard error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="serve a bot and its web page")
    run.add_argument("bot", nargs="?", default="assistant", metavar="BOT", help=BOT)
    run.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    run.add_argument("--port", type=int, default=7860, help="port (default: %(default)s)")
    run.add_argument("--max-sessions", type=int, help="conversations at a time (default: what the bot says)")
    run.set_defaults(command=_run)

    talk = commands.add_parser(
        "talk",
        help="let a bot talk with recordings",
        epilog="example: bargein talk question.wav --then interruption.wav --after-bot-starts 1.5 -o out.wav",
    )
    talk.add_argument("input", type=Path, help="what the user says: WAV, FLAC, ...")
    talk.add_argument("--bot", default="assistant", metavar="BOT", help=BOT)
    talk.add_argument("--then", type=Path, help="what a second voice says while the bot speaks")
    talk.add_argument(
        "--after-bot-starts",
        type=float,
        default=1.5,
        metavar="SECONDS",
        help="when the second voice begins, from the bot's first sound (default: %(default)s)",
    )
    talk.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="stereo WAV to write, user left and bot right; the events go beside it as .jsonl",
    )
    talk.set_defaults(command=_talk)
    return parser
