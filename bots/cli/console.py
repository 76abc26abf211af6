"""`bargein console`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from .shared import BOT_HELP, DEFAULT_BOT, BotName, examples, loading, run_async

if TYPE_CHECKING:
    from ..sound import SoundDevice


@click.command(
    epilog=examples(
        "bargein console",
        "bargein console storyteller --text",
        "echo 'What can you do?' | bargein console librarian.yaml",
    ),
    short_help="Talk with a bot in the terminal.",
    help=f"""Talk with a bot in the terminal: type, or speak where there are a microphone and a loudspeaker
and the package sounddevice (wear headphones: the bot hears what the loudspeaker plays).

\b
Esc     interrupt: the bot stops speaking and thinking
Tab     stop its voice; the rest of the answer comes as text
Ctrl-D  leave

Lines that are piped in are asked one after the other and answered in writing.

{BOT_HELP} (default: {DEFAULT_BOT}).""",
)
@click.argument("bot", default=DEFAULT_BOT, type=BotName())
@click.option("--text", is_flag=True, help="Type only, though there is a microphone.")
def console(bot: str, text: bool) -> int:
    from ..console import converse_in_lines, converse_in_terminal
    from ..loader import load_bot
    from ..written import written

    loaded = load_bot(bot)
    in_terminal = sys.stdin.isatty() and sys.stdout.isatty()

    async def conversation() -> None:
        with ExitStack() as stack:
            sound = _sound(stack) if in_terminal and not text else None
            async with loading(loaded if sound is not None else written(loaded), max_sessions=1) as running:
                if in_terminal:
                    await converse_in_terminal(running, sound)
                else:
                    await converse_in_lines(running)

    return run_async(conversation())


def _sound(stack: ExitStack) -> SoundDevice | None:
    from ..sound import NoSound, SoundDevice

    try:
        return stack.enter_context(SoundDevice())
    except NoSound as error:
        click.echo(f"typing only: {error}", err=True)
        return None
