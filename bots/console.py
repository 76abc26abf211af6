"""`bargein console`: a conversation in the terminal, or of lines from standard input."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from io import FileIO
from typing import TYPE_CHECKING

from ..pipeline import BargeinError, Processor, Reason, Session
from ..processors.threads import OwnThreads
from .bot import RunningBot
from .sound import SoundDevice
from .transcript import Transcript

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyPressEvent


# How long Esc alone waits for more of an arrow key's sequence, s.
ESCAPE_S = 0.05

# Of an answer that is being made, how many lines are shown; all of it scrolls by when it is over.
PARTIAL_LINES = 6


ENDED = "(the bot has ended the conversation)"


class Unanswered(BargeinError, RuntimeError):
    """Raised at the end of a conversation in which the bot failed to answer."""


@asynccontextmanager
async def session_of(
    running: RunningBot, transcript: Transcript, sound: SoundDevice | None
) -> AsyncIterator[Session]:
    """A session of the bot, on this machine's sound or on none."""
    source = sound.microphone if sound is not None else Processor()
    sink = sound.loudspeaker if sound is not None else Processor()
    async with AsyncExitStack() as stack:
        session = Session(stack.enter_context(running.pipeline(source, sink)))
        session.observe(transcript)  # before it begins: with a greeting, perhaps
        await stack.enter_async_context(session)
        if sound is not None:
            session.tasks.create(sound.run(), "sound")
        yield session


async def converse_in_lines(running: RunningBot) -> None:
    """Each line of standard input is a turn; what is said goes to standard output, a line each.

    It ends with the lines, or when the bot ends the conversation.

    Raises:
        Unanswered: The bot failed to answer a line; those after it were asked all the same.
        BrokenPipeError: Nobody reads standard output any more.
    """
    failed, output = 0, Output()
    async with session_of(running, Transcript(output.write), None) as session:
        over = session.tasks.create(session.finished(), "over")
        while line := await _next_line(over):
            if text := line.strip():
                output.write(f"you: {text}")
                try:
                    await session.send_text(text)
                except Exception:  # the transcript has told of it
                    failed += 1
            if output.lost is not None:
                raise output.lost
        if over.done():
            output.write(ENDED)
    if failed:
        raise Unanswered(f"{failed} of the lines had no answer")


async def _next_line(over: asyncio.Future[None]) -> str:
    """Of standard input; empty at its end, and when the conversation is over."""
    loop = asyncio.get_running_loop()
    # Without a buffer, whose lock would be held by a thread that is left waiting when the process ends.
    with FileIO(sys.stdin.fileno(), closefd=False) as stdin:
        line = loop.run_in_executor(OwnThreads("stdin"), stdin.readline)
        await asyncio.wait((line, over), return_when=asyncio.FIRST_COMPLETED)
        return "" if over.done() else line.result().decode(errors="replace")


class Output:
    """Standard output. A line that cannot be written does not disturb the session that has it to say.

    Attributes:
        lost: Why the last line could not be written, if it could not.
    """

    lost: BrokenPipeError | None = None

    def write(self, line: str) -> None:
        try:
            print(line, flush=True)
        except BrokenPipeError as error:
            self.lost = error


async def converse_in_terminal(running: RunningBot, sound: SoundDevice | None) -> None:
    """A line to type in, with keys for both interruptions; what is said scrolls above it."""
    from prompt_toolkit.patch_stdout import patch_stdout

    screen = Screen()
    with patch_stdout():
        transcript = Transcript(print, screen.show)
        async with session_of(running, transcript, sound) as session:
            session.tasks.create(screen.leave_after(session), "leave")
            while (text := await screen.ask(session)) is not None:
                if text.strip():
                    print(f"you: {text}")
                    session.send_text(text)


class Screen:
    """The last lines of the terminal: the answer that is being made, and what the user types.

    Attributes:
        partial: That answer.
    """

    def __init__(self) -> None:
        from prompt_toolkit import PromptSession

        self.partial = ""
        self._over = False
        self._prompt: PromptSession[str] = PromptSession(erase_when_done=True)
        self._prompt.app.ttimeoutlen = ESCAPE_S

    def show(self, partial: str) -> None:
        """Show the answer that is being made."""
        self.partial = partial
        self._prompt.app.invalidate()

    async def leave_after(self, session: Session) -> None:
        """Ask no more when the bot has ended the conversation."""
        await session.finished()
        if not session.running:  # the user has left
            return
        self._over = True
        print(ENDED)
        if self._prompt.app.is_running:
            self._prompt.app.exit(exception=EOFError)

    async def ask(self, session: Session) -> str | None:
        """What the user types; None when that is over, by Ctrl-D or because the bot has ended it."""
        from prompt_toolkit.key_binding import KeyBindings

        keys = KeyBindings()

        @keys.add("escape", eager=True)
        def interrupt(event: KeyPressEvent) -> None:
            session.interrupt(Reason.USER_CLICKED_STOP)

        @keys.add("tab")
        def interrupt_speech(event: KeyPressEvent) -> None:
            session.interrupt_speech(Reason.USER_CLICKED_STOP)

        if self._over:
            return None
        try:
            return await self._prompt.prompt_async(self._message, key_bindings=keys)
        except EOFError:
            return None

    def _message(self) -> str:
        width = self._prompt.app.output.get_size().columns - 1
        lines = textwrap.wrap(f"bot: {self.partial.strip()}", width)[-PARTIAL_LINES:]
        return "".join(f"{line}\n" for line in lines if self.partial.strip()) + "> "
