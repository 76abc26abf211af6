"""The local stack end to end: from the user's last sound to the bot's first, with its parts.

Recordings and synthesised questions go through the default bot in real time. The user stops where the
recording has its last sound; all other moments are taken at the pipeline's frames.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from io import StringIO
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import soxr

from bargein.bots import Bot, RunningBot
from bargein.pipeline import Session
from bargein.pipeline.frames import BotStartedSpeakingFrame, Frame
from bargein.processors.local import PiperTTS
from bargein.transports.events import EventLog
from bargein.transports.file import RATE, FileTransport, Samples, load_recording

DATA = Path(__file__).parent.parent / "tests" / "data"
QUESTIONS = [
    "What is the capital of France?",
    "Can you tell me a short story about a dog?",
    "How do I boil an egg?",
    "Please give me some advice for a job interview.",
    "Why is the sky blue?",
]
# A prototype of the same parts on such a machine, ms: the design's notes.
PROTOTYPE = {"total": 743, "VAD": 270, "STT": 130, "first sentence": 190, "TTS": 105}
PARTS = ("VAD", "end of turn", "STT", "first sentence", "TTS")


def main(rounds: int = 1) -> None:
    """Print the table."""
    asyncio.run(_main(rounds))


async def _main(rounds: int) -> None:
    began = time.perf_counter()
    bot = Bot(name="stack", stt="local", llm="local", tts="local")
    async with bot.open(lambda line: print("  " + line, flush=True), max_sessions=1) as running:
        print(f"start-up of all models: {time.perf_counter() - began:.1f} s", flush=True)
        recordings = [load_recording(p) for p in sorted(DATA.glob("*austen*.wav"))]
        voice = running.shared.of(bot.declaration.tts)
        recordings += [await _ask(voice, question) for question in QUESTIONS]
        turns: list[dict[str, float]] = []
        for number, recording in enumerate(recordings * rounds, 1):
            turns.append(await _turn(running, recording))
            print(f"  turn {number} of {len(recordings) * rounds}: {turns[-1]['total']:.0f} ms", flush=True)
        print(f"\n{'part':<16}{'median ms':>10}{'p90 ms':>10}{'prototype':>11}{'ratio':>8}")
        for part in (*PARTS, "total"):
            values = sorted(turn[part] for turn in turns)
            before = PROTOTYPE.get(part)
            ratio = f"{median(values) / before:>8.2f}" if before else ""
            p90 = values[min(len(values) - 1, int(len(values) * 0.9))]
            print(f"{part:<16}{median(values):>10.0f}{p90:>10.0f}{before or '':>11}{ratio}")
        _print_memory()


async def _ask(voice: PiperTTS, question: str) -> Samples:
    """A question in the bot's own voice, at 16 kHz, with silence before it."""
    pcm = b"".join([chunk.pcm async for chunk in voice.synthesize(question)])
    speech = soxr.resample(np.frombuffer(pcm, np.int16), voice.sample_rate, RATE)
    return np.concatenate([np.zeros(RATE // 2, np.int16), speech.astype(np.int16)])


async def _turn(running: RunningBot, recording: Samples) -> dict[str, float]:
    log = StringIO()
    transport = FileTransport(recording)
    loop = asyncio.get_running_loop()
    answered = asyncio.Event()
    with running.pipeline(transport.input, transport.output) as pipeline:
        async with Session(pipeline) as session:
            session.observe(EventLog(log, loop.time))
            session.observe(lambda frame, direction, processor: _note(frame, answered))
            first_block = loop.time()
            spoken = asyncio.create_task(transport.run(session, quiet_s=60))
            await answered.wait()
            spoken.cancel()
            await asyncio.wait([spoken])
    at: dict[str, float] = {}
    for line in log.getvalue().splitlines():
        event = json.loads(line)
        at.setdefault(event["event"], event["t"])
        if event["event"] in ("vad_stopped", "user_stopped", "turn"):
            at[event["event"]] = event["t"]  # the last one counts
    stopped = first_block + np.flatnonzero(np.abs(recording) > np.abs(recording).max() / 50)[-1] / RATE
    moments = [
        stopped,
        *(at[e] for e in ("vad_stopped", "user_stopped", "turn", "bot_sentence", "bot_started")),
    ]
    parts = [1000 * (b - a) for a, b in pairwise(moments)]
    return dict(zip(PARTS, parts, strict=True)) | {"total": 1000 * (moments[-1] - moments[0])}


def _note(frame: Frame, answered: asyncio.Event) -> None:
    if isinstance(frame, BotStartedSpeakingFrame):
        answered.set()


def _print_memory() -> None:
    """Peak RSS of this process and of the models' processes, as Linux counts it."""
    total = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak RSS of the server: {total:.0f} MiB")
    children = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True, check=False)
    for pid in children.stdout.split():
        with open(f"/proc/{pid}/status") as status:
            peak = next((line.split()[1] for line in status if line.startswith("VmHWM")), "0")
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        name = command.split("worker")[-1].split()[1:2] or [command[:40]]
        print(f"  {name[0]}: {int(peak) / 1024:.0f} MiB")
        total += int(peak) / 1024
    print(f"peak RSS in all: {total:.0f} MiB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
