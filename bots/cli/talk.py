"""`bargein talk`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from ..shipped import shipped_bots
from .shared import (
    BOT_HELP,
    CLEAR_LINE,
    DEFAULT_BOT,
    BotName,
    examples,
    json_option,
    loading,
    run_async,
    write_json,
)
from .trace import summary

PATH = click.Path(dir_okay=False, path_type=Path)


class BotOrInput(BotName):
    """A recording, or a bot in front of one."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        file = CompletionItem(incomplete, type="file")
        if ctx.params.get("names") or ctx.params.get("bot"):
            return [file]
        bots = super().shell_complete(ctx, param, incomplete)
        # In this order: bash forgets what comes before files.
        return [file, *(bot for bot in bots if bot.type != "file")]


@click.command(
    epilog=examples(
        "bargein talk question.wav -o out.wav",
        "bargein talk storyteller question.wav --then interruption.wav --after-bot-starts 1.5 -o out.wav",
        "bargein trace out.jsonl -o out.html",
    ),
    short_help="Let a bot talk with recordings.",
    help=f"""Let a bot talk with recordings, in real time: what a person says, and what a second voice
says while the bot speaks.

INPUT is WAV, FLAC or whatever FFmpeg reads. {BOT_HELP}.""",
)
@click.argument("names", nargs=-1, required=True, type=BotOrInput(), metavar="[BOT] INPUT")
@click.option(
    "--bot", type=BotName(), help=f"The bot, if it does not stand before INPUT (default: {DEFAULT_BOT})."
)
@click.option("--then", type=PATH, help="What a second voice says while the bot speaks.")
@click.option(
    "--after-bot-starts",
    type=click.FloatRange(min=0),
    default=1.5,
    show_default=True,
    metavar="SECONDS",
    help="When the second voice begins, from the bot's first sound.",
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    help="Stereo WAV to write, user left and bot right; the events go beside it as .jsonl.",
)
@json_option
def talk(
    names: tuple[str, ...],
    bot: str | None,
    then: Path | None,
    after_bot_starts: float,
    output: Path,
    as_json: bool,
) -> int:
    if len(names) + (bot is not None) > 2:
        raise click.UsageError("one bot and one recording are enough: [BOT] INPUT; a second voice is --then")
    if len(names) == 1 and _is_bot(names[0]):
        raise click.UsageError(f"{names[0]} is a bot; which recording is it to hear? [BOT] INPUT")
    if output.suffix != ".wav":
        raise click.BadParameter(f"{output} should end in .wav", param_hint="--output")
    from ...transports.file import load_recording
    from ..loader import load_bot
    from ..talk import check_hears, check_target
    from ..talk import talk as talk_with
    from ..trace import read_log

    loaded = load_bot(bot or (names[0] if len(names) == 2 else DEFAULT_BOT))
    check_hears(loaded)
    recording = load_recording(Path(names[-1]))
    second = load_recording(then) if then is not None else None
    check_target(output, Path(names[-1]), then)
    log = output.with_suffix(".jsonl")

    async def conversation() -> None:
        async with loading(loaded, max_sessions=1) as running:
            messages = await talk_with(
                running,
                recording,
                output,
                log,
                then=second,
                after_bot_starts=after_bot_starts,
                at=_tell_time(),
            )
        click.echo(f"\n{output} and {log} written", err=True)
        if as_json:
            result = {"recording": str(output), "log": str(log), **summary(read_log(log))}
            write_json({**result, "messages": messages})

    return run_async(conversation())


def _is_bot(name: str) -> bool:
    """Whether this is no recording, but what stands in front of one."""
    return name.endswith((".yaml", ".yml")) or (name in shipped_bots() and not Path(name).exists())


def _tell_time() -> Callable[[float], None]:
    """In a terminal, a clock: how long it takes depends on how much the bot says."""
    last = -1

    def at(seconds: float) -> None:
        nonlocal last
        if int(seconds) != last:
            last = int(seconds)
            click.echo(f"{CLEAR_LINE}talking, {last} s", nl=False, err=True)

    if sys.stderr.isatty():
        return at
    click.echo("talking ...", err=True, nl=False)
    return lambda seconds: None
