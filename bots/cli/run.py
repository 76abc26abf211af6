"""`bargein run`."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import click

from .shared import BOT_HELP, DEFAULT_BOT, BotName, examples, loading, run_async

HOST, PORT = "127.0.0.1", 7860


class Origin(click.ParamType[str]):
    """Where a web page comes from, as browsers write it."""

    name = "origin"
    FORM = re.compile(r"null|[a-z][a-z0-9+.-]*://[^/?#\s]+")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        origin = str(value).lower().rstrip("/")
        if not self.FORM.fullmatch(origin):
            self.fail(f"{value} should be like https://bot.example.com, without a path.", param, ctx)
        return origin


@click.command(
    epilog=examples(
        "bargein run",
        "bargein run storyteller --open",
        "bargein run librarian.yaml --reload --log logs",
        "bargein run phone --host 0.0.0.0 --port 8080 --max-sessions 20",
    ),
    short_help="Serve a bot and its web page.",
    help=f"""Serve a bot: its web page, WebRTC, WebSockets and telephone streams, health at /healthz and
metrics for Prometheus at /metrics.

{BOT_HELP} (default: {DEFAULT_BOT}).""",
)
@click.argument("bot", default=DEFAULT_BOT, type=BotName())
@click.option("--host", default=HOST, show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True, help="Port.")
@click.option(
    "--max-sessions", type=click.IntRange(min=1), help="Conversations at a time (default: what the bot says)."
)
@click.option(
    "--allow-origin",
    "allowed_origins",
    type=Origin(),
    multiple=True,
    metavar="ORIGIN",
    help="Pages that may talk to it besides those on localhost, such as https://bot.example.com; repeatable.",
)
@click.option("--open", "open_page", is_flag=True, help="Open the page in a browser.")
@click.option(
    "--reload", is_flag=True, help="Start again when the bot's file, what it includes or its modules change."
)
@click.option(
    "--log",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write a log of each conversation, with every word of it, for `bargein trace`.",
)
@click.option("--metrics/--no-metrics", default=True, show_default=True, help="Serve /metrics.")
def run(
    bot: str,
    host: str,
    port: int,
    max_sessions: int | None,
    allowed_origins: tuple[str, ...],
    open_page: bool,
    reload: bool,
    log: Path | None,
    metrics: bool,
) -> int:
    import asyncio
    import webbrowser

    from ...pipeline.observing.prometheus import Prometheus
    from ..app import check_port, reached_at, serve_bot
    from ..loader import load_bot
    from ..reload import changed
    from ..watching import Watch

    loaded = load_bot(bot)
    check_port(host, port)
    watch = Watch(Prometheus() if metrics else None, log)
    stop = asyncio.Event()

    def ready(url: str) -> None:
        click.echo(f"\n{reached_at(loaded, url)}\n(stop with Ctrl-C)")
        if open_page:
            webbrowser.open(url)

    async def stop_at_change() -> None:
        await changed(bot)
        stop.set()

    async def serving() -> None:
        following = asyncio.create_task(stop_at_change()) if reload else None
        try:
            async with loading(loaded, max_sessions) as running:
                await serve_bot(
                    running,
                    host,
                    port,
                    max_sessions=max_sessions,
                    allowed_origins=allowed_origins,
                    watch=watch,
                    ready=ready,
                    stop=stop,
                )
        finally:
            if following is not None:
                following.cancel()

    code = run_async(serving())
    if stop.is_set():
        click.echo(f"\n{bot} has changed: starting again ...", err=True)
        os.execv(sys.executable, [part for part in sys.orig_argv if part != "--open"])
    return code
