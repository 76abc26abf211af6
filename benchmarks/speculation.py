"""Speculation on the local stack: what an answer that is begun before the turn is over gains, and costs.

Recordings and synthesised questions go through the bot on local models in real time, with and without
speculation in turn about. In a third of the synthesised ones the speaker stops in the middle of the sentence
for a moment, where the bot may take the turn to be over and begin on an answer to half a question.

Speculation is worth being on by default if it lowers the median from the user's last sound to the bot's
first, and the share of a turn's tokens that were generated in vain stays under 30 % at the 95th percentile.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from bargein.bots import Bot
from bargein.bots.bot import RunningBot
from bargein.bots.local import INSTRUCTIONS
from bargein.pipeline import Session
from bargein.pipeline.frames import BotStartedSpeakingFrame, Frame, LLMFullResponseEndFrame
from bargein.processors.context import Context
from bargein.processors.llm import LLM
from bargein.processors.local import PiperTTS
from bargein.transports.file import RATE, FileTransport, Samples, load_recording
from benchmarks.report import progress

DATA = Path(__file__).parent.parent / "tests" / "data"

# Each piece is followed by so much silence, s.
PAUSES_S = (0.3, 0.45, 0.6, 0.8)
QUESTIONS = (
    ("What is the capital of France?",),
    ("How do I boil an egg?",),
    ("Why is the sky blue?",),
    ("Please give me some advice for a job interview.",),
    ("Tell me about your favorite book.",),
    ("What should I cook tonight?",),
    ("Can you recommend a good movie?",),
    ("Where do penguins live?",),
    ("I would like to know", "how to grow tomatoes."),
    ("Can you tell me a story?", "A short one about a dog."),
    ("I am going to Paris.", "What should I see there?"),
    ("How far is it", "from the earth to the moon?"),
)
WASTED_AT_MOST = 0.30
LONGEST_S = 60  # no turn takes so long


@dataclass(frozen=True)
class Measured:
    """One turn.

    Attributes:
        ms: From the user's last sound to the bot's first.
        tokens: Of the answer.
        wasted: Generated beside it and thrown away.
    """

    ms: float
    tokens: int
    wasted: int

    @property
    def share(self) -> float:
        """What was wasted of all tokens."""
        return self.wasted / max(1, self.wasted + self.tokens)


def main(rounds: int = 1) -> None:
    """Measure, and print the table and the verdict."""
    with_it, without = asyncio.run(measure(rounds))
    print("\n".join(report(with_it, without)))


async def measure(rounds: int) -> tuple[list[Measured], list[Measured]]:
    """All turns, with speculation and without; each question as often in both."""
    bot = Bot(name="speculation", stt="local", llm="local", tts="local")
    async with bot.open(max_sessions=1) as running:
        voice: PiperTTS = running.shared.of(bot.declaration.tts)
        said = [load_recording(path) for path in sorted(DATA.glob("*austen*.wav"))]
        said += [await _spoken(voice, pieces, pause_s) for pieces, pause_s in _questions()]
        found: dict[bool, list[Measured]] = {True: [], False: []}
        # In turn about, and each question the other way in the next round: asked twice in a row, the second
        # time the model would have it in its cache.
        for turn in range(2 * rounds):
            for number, samples in enumerate(said):
                speculate = (number + turn) % 2 == 0
                found[speculate].append(await _turn(running, samples, speculate))
                progress(f"turn {turn * len(said) + number + 1} of {2 * rounds * len(said)}")
        progress("")
    return found[True], found[False]


def report(with_it: list[Measured], without: list[Measured]) -> list[str]:
    """The table, and whether speculation is to be on by default."""
    lines = [
        f"Speculation on the local stack, {len(with_it)} turns each way",
        f"{'':<22}{'median ms':>10}{'p95 ms':>8}{'tokens':>8}{'wasted':>8}{'wasted, p95 of turns':>22}",
    ]
    for name, turns in (("with speculation", with_it), ("without", without)):
        middle, high = np.percentile([turn.ms for turn in turns], (50, 95))
        tokens, wasted = (np.mean(count) for count in ([t.tokens for t in turns], [t.wasted for t in turns]))
        lines.append(
            f"{name:<22}{middle:>10.0f}{high:>8.0f}{tokens:>8.1f}{wasted:>8.1f}{_p95_share(turns):>22.0%}"
        )
    gains = np.median([turn.ms for turn in with_it]) < np.median([turn.ms for turn in without])
    cheap = _p95_share(with_it) <= WASTED_AT_MOST
    wasteful = sum(turn.wasted > 0 for turn in with_it)
    lines += [
        f"{wasteful} of {len(with_it)} turns wasted something",
        f"verdict: {'on' if gains and cheap else 'off'} by default ("
        f"{'lowers' if gains else 'does not lower'} the median; "
        f"{'no more' if cheap else 'more'} than {WASTED_AT_MOST:.0%} wasted at the 95th percentile)",
    ]
    return lines


def _p95_share(turns: list[Measured]) -> float:
    return float(np.percentile([turn.share for turn in turns], 95))


def _questions() -> list[tuple[tuple[str, ...], float]]:
    return [(pieces, PAUSES_S[number % len(PAUSES_S)]) for number, pieces in enumerate(QUESTIONS)]


async def _spoken(voice: PiperTTS, pieces: tuple[str, ...], pause_s: float) -> Samples:
    """A question in the bot's own voice, at 16 kHz, with silence before it and between its pieces."""
    sound = [np.zeros(RATE // 2, np.int16)]
    for piece in pieces:
        pcm = b"".join([chunk.pcm async for chunk in voice.synthesize(piece)])
        speech = soxr.resample(np.frombuffer(pcm, np.int16), voice.sample_rate, RATE).astype(np.int16)
        sound += [speech[: _last_sound(speech)], np.zeros(int(pause_s * RATE), np.int16)]
    return np.concatenate(sound[:-1])


def _last_sound(samples: Samples) -> int:
    return int(np.flatnonzero(np.abs(samples) > np.abs(samples).max() / 50)[-1]) + 1


async def _turn(running: RunningBot, samples: Samples, speculate: bool) -> Measured:
    transport = FileTransport(samples)
    loop = asyncio.get_running_loop()
    stopped = float("inf")  # when the user has
    sounded: asyncio.Future[float] = loop.create_future()
    answered = asyncio.Event()

    def note(frame: Frame, *_: object) -> None:
        if loop.time() < stopped:
            return  # a pause was taken for the end
        if isinstance(frame, BotStartedSpeakingFrame) and not sounded.done():
            sounded.set_result(loop.time())
        if isinstance(frame, LLMFullResponseEndFrame):
            answered.set()

    context = Context(INSTRUCTIONS, speculate=speculate)
    with running.pipeline(transport.input, transport.output, context=context) as pipeline:
        (llm,) = (processor for processor in pipeline.processors if isinstance(processor, LLM))
        async with Session(pipeline) as session:
            session.observe(note)
            stopped = loop.time() + _last_sound(samples) / RATE
            spoken = asyncio.create_task(transport.run(session, quiet_s=LONGEST_S))
            async with asyncio.timeout(LONGEST_S):
                await asyncio.wait([sounded])
                await answered.wait()
            spoken.cancel()
            await asyncio.wait([spoken])
        return Measured(1000 * (sounded.result() - stopped), llm.tokens, llm.wasted_tokens)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
