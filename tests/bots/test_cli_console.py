"""`bargein console`: lines that are piped in, and a terminal with its keys."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

import pytest

from ..servers.openai_server import OpenAIServer, refuse, tool_calls
from .command import COMMAND, PATIENCE_S, bargein, environment
from .terminal import CTRL_C, ESCAPE, TAB, terminal

pytestmark = pytest.mark.real_time


def write_bot(directory: Path, server: OpenAIServer) -> Path:
    """With ears and a voice, which the console leaves out."""
    path = directory / "bot.yaml"
    llm = json.dumps({"service": "openai", "model": "scripted", "base_url": server.base_url})
    path.write_text(f"name: desk\nstt: local\nllm: {llm}\ntts: local\ntools: ['./own.py:hours']\n")
    (directory / "own.py").write_text('def hours() -> str:\n    """Hours."""\n    return "nine to five"\n')
    return path


async def piped(bot: Path, lines: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "console",
        str(bot),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    async with asyncio.timeout(PATIENCE_S):
        output, errors = await process.communicate(lines.encode())
    return process.returncode, output.decode(), errors.decode()


async def test_lines_are_asked_one_after_the_other(tmp_path: Path) -> None:
    async with OpenAIServer().serving() as server:
        server.script(["Good", " day."], tool_calls(("hours", "{}")), ["From nine."])
        code, output, errors = await piped(write_bot(tmp_path, server), "Hello.\n\nWhen are you open?\n")
        assert code == 0
        assert output.splitlines() == [
            "you: Hello.",
            "bot: Good day.",
            "you: When are you open?",
            "(hours {})",
            "bot: From nine.",
        ]
        assert "Moonshine" not in errors, "no ears were loaded"
        assert [m["role"] for m in server.requests[-1].messages][-2:] == ["assistant", "tool"]


async def test_it_greets_and_leaves_when_the_bot_ends_the_conversation(tmp_path: Path) -> None:
    async with OpenAIServer().serving() as server:
        bot = write_bot(tmp_path, server)
        bot.write_text(bot.read_text() + "greeting: Welcome.\nlimits: {idle_timeout_s: 1}\n")
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            "console",
            str(bot),
            stdin=asyncio.subprocess.PIPE,  # stays open
            stdout=asyncio.subprocess.PIPE,
            env=environment(),
        )
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            output = (await process.stdout.read()).decode()
            assert await process.wait() == 0
        assert output.splitlines() == ["bot: Welcome.", "(the bot has ended the conversation)"]


async def test_an_answer_that_fails_is_told_and_the_next_is_given(tmp_path: Path) -> None:
    async with OpenAIServer().serving() as server:
        server.plan(refuse(401, "invalid_api_key"))
        code, output, errors = await piped(write_bot(tmp_path, server), "Hello.\nAnd now?\n")
        assert code == 1
        assert "(error: " in output
        assert output.splitlines()[-2:] == ["you: And now?", "bot: Hello."]
        assert errors.splitlines()[-1] == "bargein: 1 of the lines had no answer"
        assert "Traceback" not in errors


async def test_it_leaves_when_nobody_reads(tmp_path: Path) -> None:
    """As in `bargein console | head -1`."""
    reading, writing = os.pipe()
    async with OpenAIServer().serving() as server:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            "console",
            str(write_bot(tmp_path, server)),
            stdin=asyncio.subprocess.PIPE,
            stdout=writing,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
        os.close(writing)
        assert process.stdin is not None
        process.stdin.write(b"Hello.\n")
        with os.fdopen(reading) as output:
            assert await asyncio.to_thread(output.readline) == "you: Hello.\n"
        async with asyncio.timeout(PATIENCE_S):
            _, errors = await process.communicate(b"And now?\nAnd now?\n")
    assert process.returncode == 1
    assert "Broken" not in errors.decode()
    assert "Traceback" not in errors.decode()


@pytest.mark.local_models
def test_with_the_local_model(tmp_path: Path) -> None:
    done = bargein("console", "typist", cwd=tmp_path, said="Say hello.\n")
    assert done.returncode == 0
    asked, answer = done.stdout.splitlines()
    assert asked == "you: Say hello."
    assert re.match(r"bot: \w", answer)


async def test_a_terminal_types_interrupts_and_leaves(tmp_path: Path) -> None:
    async with OpenAIServer().serving() as server:
        server.script(["One,", " two,", *[" and more"] * 10_000], ["I have", " stopped."], ["Bye."])
        server.token_s = 0.02
        async with terminal("console", write_bot(tmp_path, server), "--text") as (screen, process):
            await screen.until("\n>")
            screen.type("Count.\r")
            await screen.until("you: Count.")
            await screen.until("and more")  # it is shown while it comes
            screen.type(ESCAPE)
            await screen.until("(interrupted: user_clicked_stop)")
            assert await server.requests[0].outcome == "closed"
            screen.type("Are you still there?\r")
            await screen.until("bot: I have stopped.")
            screen.type(TAB)
            await screen.until("(voice stopped: user_clicked_stop)")
            await screen.leave(process)
        assert process.returncode == 0
        assert "Traceback" not in screen.screen


async def test_a_terminal_is_left_when_the_bot_ends_the_conversation(tmp_path: Path) -> None:
    async with OpenAIServer().serving() as server:
        bot = write_bot(tmp_path, server)
        bot.write_text(bot.read_text() + "greeting: Welcome.\nlimits: {idle_timeout_s: 1}\n")
        async with terminal("console", bot, "--text") as (screen, process):
            await screen.until("(the bot has ended the conversation)")
        assert "bot: Welcome." in screen.screen
        assert process.returncode == 0
        assert "Traceback" not in screen.screen


async def test_ctrl_c_leaves_with_130(tmp_path: Path) -> None:
    async with OpenAIServer().serving() as server:
        async with terminal("console", write_bot(tmp_path, server), "--text") as (screen, process):
            await screen.until("\n>")
            screen.type(CTRL_C)
        assert process.returncode == 130
        assert "Traceback" not in screen.screen
