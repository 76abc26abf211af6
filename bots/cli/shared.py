"""What several commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from glob import escape, glob
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from ..shipped import shipped_bots

if TYPE_CHECKING:
    from ..bot import Bot, RunningBot

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_BOT = "assistant"
CLEAR_LINE = "\r\x1b[K"
BOT_HELP = "BOT is a bot file, module:variable, ./file.py:variable, or the name of a shipped bot"


class BotName(click.ParamType[str]):
    """The name of a bot; shells complete shipped ones and bot files, and any file where there are none."""

    name = "bot"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found = [name for name in shipped_bots() if name.startswith(incomplete)]
        for suffix in ("yaml", "yml"):
            found += sorted(glob(f"{escape(incomplete)}*.{suffix}"))
        # Not both: bash drops the names when it is told to complete files.
        return [CompletionItem(name) for name in found] or [CompletionItem(incomplete, type="file")]


def examples(*lines: str) -> str:
    """The end of a command's help: a line for each example, as it is typed."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def json_option(command: F) -> F:
    """Let a command write for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")(command)


def write_json(value: Any) -> None:
    """For programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def run_async(main: Coroutine[Any, Any, int | None]) -> int:
    """Run what a command does; returns its exit code."""
    import asyncio

    with suppress(asyncio.CancelledError):
        return asyncio.run(main) or 0
    return 0


@asynccontextmanager
async def loading(bot: Bot, max_sessions: int | None = None) -> AsyncIterator[RunningBot]:
    """Open a bot; each step is told on standard error, in a terminal above a bar."""
    async with AsyncExitStack() as stack:
        with steps(bot.steps) as step:
            running = await stack.enter_async_context(bot.open(step, max_sessions=max_sessions))
        yield running


@contextmanager
def steps(count: int) -> Iterator[Callable[[str], None]]:
    """Tells of so many steps: a line for each on standard error, in a terminal above a bar."""
    if not sys.stderr.isatty():
        yield lambda line: click.echo(line, err=True)
        return
    with click.progressbar(length=count, file=sys.stderr, show_eta=False) as bar:

        def step(line: str) -> None:
            click.echo(f"{CLEAR_LINE}{line}", err=True)
            bar.update(1)

        yield step
