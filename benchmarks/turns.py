"""`python -m benchmarks.turns`: who may speak, when a person speaks while the bot does.

Conversations over `FileTransport`, with the local VAD, end-of-turn model and recogniser. A speaker asks
something, so that the bot knows this voice's loudness, then the bot speaks one prepared answer after the
other, and at a random time into each, 1 s or later, one stimulus begins (benchmarks/stimuli.py). Nothing
else is heard. A user is up to 3 dB louder or quieter than at the question, or up to 6 dB quieter where there
are only backchannels. The clock is virtual; the recogniser takes what it takes on one core
(benchmarks/models.py).

What is measured, and by whose definitions: benchmarks/overlaps.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from itertools import cycle
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import numpy as np
from loguru import logger

from bargein.pipeline import Pipeline, Processor, Reason, Session, handles
from bargein.pipeline.frames import (
    DOWNSTREAM,
    Frame,
    FrameDirection,
    InterimTranscriptionFrame,
    SpeechInterruptedFrame,
    TranscriptionFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
)
from bargein.pipeline.observing import Once
from bargein.pipeline.testing import run_in_virtual_time
from bargein.processors.bargein import BargeIn
from bargein.processors.local import SileroVAD, SmartTurn
from bargein.processors.policies import MinimumDuration, MinimumWords, Policies
from bargein.processors.stt import STT, Transcriber
from bargein.processors.tts import TTS, Sentences
from bargein.processors.turn import Turn
from bargein.processors.vad import VAD
from bargein.transports.file import BLOCK, BLOCK_MS, RATE, FileTransport, Samples
from benchmarks.models import PreparedVoice, prepare, recogniser, stay_on_one_core
from benchmarks.overlaps import Outcome, Pause, replay
from benchmarks.report import progress
from benchmarks.stimuli import Half, Kind, Speakers, Stimulus, Voice, at_level, catalogue
from benchmarks.turn_tables import failure, summary, table

ANSWERS = (
    "The old harbor lies on the northern side of the bay. "
    "In summer the fishermen sell their catch there every morning.",
    "The museum was built two hundred years ago by a rich merchant. "
    "He filled it with paintings of ships and with maps.",
    "You should take a warm coat, because the wind blows hard. "
    "Most visitors forget about that and spend a day looking for a shop.",
    "There was once a sailor who counted the boats every morning. "
    "Seven of them never left the shore, and he knew their names.",
    "The market opens on Thursdays in the square behind the church. "
    "People come from all the villages around with bread and cheese.",
)

# Foreground, dBFS while there is sound; and background, dB beside the user.
LEVELS = (-20.0, -26.0, -32.0)
BACKGROUND_LEVELS = (-6.0, -12.0, -18.0)
# The user at the question beside the overlap, dB.
LOUDER_AT_QUESTION = {Kind.INTERRUPTION: (-3.0, 3.0), Kind.BACKCHANNEL: (0.0, 6.0)}

OVERLAPS_AT_MOST = 8  # of a conversation
EARLIEST_S, LATEST_S = 1.0, 3.0  # into an answer
# Silence before the next answer, s; after an interruption, in which the bot may go on by itself.
SETTLED_S, SETTLED_AFTER_INTERRUPTION_S = 0.6, 2.0
STUCK_S = 60.0  # no overlap takes so long
QUESTION_PAUSE_S = 0.3
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]


class AtOnce(Processor):
    """Interrupts as soon as the VAD is sure, whatever is said."""

    @handles(VADUserStartedSpeakingFrame)
    def speech_began(self, frame: VADUserStartedSpeakingFrame, direction: FrameDirection) -> None:
        self.session.interrupt(Reason.USER_SPEAKING)
        self.push(frame, direction)


def _only(*policies: MinimumDuration | MinimumWords) -> BargeIn:
    return BargeIn(Policies(speaking=policies, thinking=policies))


# Each makes what decides, given the conversation's recogniser.
POLICIES: dict[str, Callable[[Transcriber], Processor]] = {
    "default": lambda stt: BargeIn(second=stt),
    "VAD start": lambda _: AtOnce(),
    "duration 500 ms": lambda _: _only(MinimumDuration(500)),
    "duration or words": lambda _: _only(MinimumWords(), MinimumDuration(1000)),
}


# What is played ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Overlap:
    """A stimulus over an answer.

    Attributes:
        samples: As loud as it is to be.
        level_db: As in `Outcome`.
        at_s: Into the answer.
    """

    stimulus: Stimulus
    samples: Samples
    level_db: float
    answer: str
    at_s: float


@dataclass(frozen=True)
class Conversation:
    """A question, and answers each of which is overlapped."""

    question: Samples
    overlaps: tuple[Overlap, ...]


def conversations(
    stimuli: Sequence[Stimulus], askers: Sequence[Voice], answers: dict[str, Samples], seed: int, rounds: int
) -> list[Conversation]:
    """Each stimulus in so many rounds, each time at another of the three loudnesses, sorted by speaker."""
    random = np.random.default_rng(seed)
    names = [asker.name for asker in askers]
    others, texts = cycle(names), cycle(answers)
    talks: dict[tuple[str, float], list[Overlap]] = {}
    for turn in range(rounds):
        for number, stimulus in enumerate(stimuli):
            background = stimulus.kind is Kind.BACKGROUND
            level = LEVELS[(number + turn) % 3]
            voice = stimulus.voice
            if background or voice not in names:
                voice = next(name for name in others if name != stimulus.voice)
            # Background is spread over the users' loudnesses, too.
            beside = BACKGROUND_LEVELS[(number // 3 + turn) % 3]
            samples = at_level(stimulus.samples, level + beside if background else level)
            text = next(texts)
            room = (len(answers[text]) - len(samples)) / RATE - 1.5
            at = random.uniform(EARLIEST_S, min(LATEST_S, max(EARLIEST_S, room)))
            shown = beside if background else level
            talks.setdefault((voice, level), []).append(Overlap(stimulus, samples, shown, text, at))
    found = []
    for (voice, level), overlaps in talks.items():
        question = next(asker.question for asker in askers if asker.name == voice)
        random.shuffle(overlaps)
        for start in range(0, len(overlaps), OVERLAPS_AT_MOST):
            chunk = tuple(overlaps[start : start + OVERLAPS_AT_MOST])
            asked = at_level(question, level + _louder(chunk, random))
            pause = np.zeros(int(QUESTION_PAUSE_S * RATE), np.int16)
            found.append(Conversation(np.concatenate([pause, asked]), chunk))
    # The longest first, so that all places are busy to the end.
    return sorted(found, key=lambda talk: -len(talk.overlaps))


def _louder(overlaps: Iterable[Overlap], random: np.random.Generator) -> float:
    """How much louder the question is: as the kinds that this speaker makes allow."""
    ranges = [LOUDER_AT_QUESTION[o.stimulus.kind] for o in overlaps if o.stimulus.kind in LOUDER_AT_QUESTION]
    if not ranges:
        return 0.0
    return float(random.uniform(max(low for low, _ in ranges), min(high for _, high in ranges)))


# What happens --------------------------------------------------------------------------------------------


@dataclass
class Begun:
    """An overlap that was played.

    Attributes:
        sample: Of the recording, where its answer was asked for.
        events: (sample, frame), until the next answer was asked for.
        passed_on: As in `Outcome`.
    """

    overlap: Overlap
    sample: int
    events: list[tuple[int, Frame]] = field(default_factory=list)
    passed_on: bool = False

    @property
    def interruption(self) -> tuple[int, SpeechInterruptedFrame] | None:
        """The first that cut the answer, and at which sample."""
        for sample, frame in self.events:
            if isinstance(frame, SpeechInterruptedFrame) and frame.response_id is not None:
                return sample, frame
        return None


class ModelInput(Processor):
    """Stands where a model takes what the user said."""

    @handles(TranscriptionFrame)
    def said(self, frame: TranscriptionFrame) -> None:
        self.push(frame)


NOTED = (SpeechInterruptedFrame, InterimTranscriptionFrame, TranscriptionFrame, TTSTextFrame)


class Moderator:
    """Has the bot speak the answers of one conversation, one after the other, and notes what happens."""

    def __init__(self, talk: Conversation, transport: FileTransport, session: Session, stt: STT) -> None:
        self._stt = stt
        self._to_come = list(talk.overlaps)
        self._transport = transport
        self._session = session
        self._once = Once()
        self._open_turns = 0  # begun, and their words not told
        self._quiet_s = 0.0
        self.begun: list[Begun] = []
        self.over = asyncio.Event()

    def observe(self, frame: Frame, direction: FrameDirection, processor: Processor) -> None:
        """Called at each push of a frame."""
        if isinstance(processor, ModelInput) and self.begun:
            self.begun[-1].passed_on |= isinstance(frame, TranscriptionFrame)
        if processor is self._stt and direction is DOWNSTREAM:
            self._open_turns -= isinstance(frame, UserStoppedSpeakingFrame)
        if not self._once.first(frame):
            return
        self._open_turns += isinstance(frame, UserStartedSpeakingFrame)
        if isinstance(frame, NOTED) and self.begun:
            self.begun[-1].events.append((self._now, frame))

    def block_played(self) -> None:
        """Called after each block."""
        transport = self._transport
        listening = self._open_turns or not transport.input.quiet
        busy = listening or self._session.responding or transport.output.playout.busy
        self._quiet_s = 0.0 if busy else self._quiet_s + BLOCK_MS / 1000
        interrupted = self.begun and self.begun[-1].interruption
        if self._quiet_s >= (SETTLED_AFTER_INTERRUPTION_S if interrupted else SETTLED_S) and self._to_come:
            self._begin(self._to_come.pop(0))
        elif self._quiet_s >= SETTLED_AFTER_INTERRUPTION_S and not self._to_come:
            self.over.set()
        elif self.begun and self._now - self.begun[-1].sample > STUCK_S * RATE:
            raise TimeoutError(f"stuck after {self.begun[-1].overlap.stimulus.name}: {self._session!r}")

    @property
    def _now(self) -> int:
        return round(self._transport.seconds * RATE)

    def _begin(self, overlap: Overlap) -> None:
        self._quiet_s = 0.0
        self.begun.append(Begun(overlap, self._now))
        self._transport.input.after_bot_starts(overlap.at_s, overlap.samples)
        self._session.say(overlap.answer)


async def converse(
    talk: Conversation, policy: Callable[[Transcriber], Processor], voice: PreparedVoice
) -> list[Outcome]:
    """Hold a conversation."""
    transport = FileTransport(talk.question)
    transcriber = recogniser()
    stt = STT(transcriber)
    pipeline = Pipeline(
        [
            transport.input,
            VAD(SileroVAD()),
            Turn(SmartTurn()),
            stt,
            policy(transcriber),
            ModelInput(),
            Sentences(),
            TTS(voice),
            transport.output,
        ]
    )
    async with Session(pipeline) as session:
        moderator = Moderator(talk, transport, session, stt)
        session.observe(moderator.observe)
        running = asyncio.create_task(
            transport.run(session, quiet_s=STUCK_S, on_block=moderator.block_played)
        )
        over = asyncio.create_task(moderator.over.wait())
        await asyncio.wait([running, over], return_when=asyncio.FIRST_COMPLETED)
        for task in (running, over):
            task.cancel()
        await asyncio.wait([running, over])
        if not running.cancelled():
            running.result()
            raise TimeoutError(f"the conversation has come to a standstill: {session!r}")
    user, bot = transport.channels
    ends = [*(begun.sample for begun in moderator.begun[1:]), len(user)]
    return [
        measure(begun, user[begun.sample : end], bot[begun.sample : end], voice.samples(begun.overlap.answer))
        for begun, end in zip(moderator.begun, ends, strict=True)
    ]


def measure(begun: Begun, user: Samples, bot: Samples, answer: Samples) -> Outcome:
    """What became of one overlap, from both channels since its answer was asked for."""
    overlap, interruption = begun.overlap, begun.interruption
    onset = int(np.argmax(user != 0))
    # A fade of less than a block ends what was cut.
    until = len(bot) if interruption is None else interruption[0] - begun.sample + BLOCK
    played = replay(bot[:until], answer)
    if played is None:
        raise RuntimeError(f"{overlap.stimulus.name}: the bot has not begun its answer")
    heard = "".join(frame.text for _, frame in begun.events if isinstance(frame, TTSTextFrame))
    lost = doubled = 0
    intact = played.intact
    if interruption is None:
        intact &= played.played == len(answer)
        said, words = Counter(heard.split()), Counter(overlap.answer.split())
        lost, doubled = (words - said).total(), (said - words).total()
    else:
        intact &= overlap.answer.startswith(interruption[1].heard)
    return Outcome(
        kind=overlap.stimulus.kind,
        half=overlap.stimulus.half,
        stimulus=overlap.stimulus.name,
        level_db=overlap.level_db,
        overlap_s=len(overlap.samples) / RATE,
        last_sound_s=(played.end - onset) / RATE,
        pauses=tuple(Pause((a - onset) / RATE, (b - a) / RATE) for a, b in played.gaps if b > onset),
        interrupted_s=None if interruption is None else (interruption[0] - begun.sample - onset) / RATE,
        spoke_again=bool(bot[until : onset + len(overlap.samples)].any()),
        lost=lost,
        doubled=doubled,
        intact=intact,
        words=tuple(
            f"{1000 * (sample - begun.sample - onset) / RATE:.0f} {frame.text}"
            for sample, frame in begun.events
            if isinstance(frame, TranscriptionFrame | InterimTranscriptionFrame)
        ),
        passed_on=begun.passed_on,
    )


# The run -------------------------------------------------------------------------------------------------


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.turns", description=__doc__)
    parser.add_argument("--quick", type=int, metavar="N", help="at most N overlaps of each kind")
    parser.add_argument("--half", choices=[*Half, "both"], default="both", help="of the stimuli")
    parser.add_argument(
        "--policies", default=",".join(POLICIES), metavar="NAME,...", help=f"of: {', '.join(POLICIES)}"
    )
    parser.add_argument("--rounds", type=int, default=3, help="1 plays each stimulus at one loudness only")
    parser.add_argument("--processes", type=int, default=len(CORES), help="conversations at a time")
    parser.add_argument("--seed", type=int, default=1, help="another one: each text in another voice")
    parser.add_argument("--failures", action="store_true", help="list what went wrong")
    parser.add_argument("--log", type=Path, help="write each outcome to this file, a JSON object a line")
    options = parser.parse_args()
    names = options.policies.split(",")
    if unknown := [name for name in names if name not in POLICIES]:
        parser.error(f"no policy named {', '.join(unknown)}; there are {', '.join(POLICIES)}")
    logger.remove()
    speakers = Speakers()
    askers = speakers.askers()
    stimuli = [s for s in catalogue(speakers, options.seed) if options.half in ("both", s.half)]
    if options.quick is not None:
        stimuli = [s for kind in Kind for s in _some([s for s in stimuli if s.kind is kind], options.quick)]
    print(f"{len(stimuli)} stimuli, voices: {', '.join(asker.name for asker in askers)}")
    for missing in speakers.missing:
        print(f"without {missing}")
    voice = asyncio.run(prepare(ANSWERS))
    answers = {text: voice.samples(text) for text in ANSWERS}
    talks = conversations(stimuli, askers, answers, options.seed, options.rounds)
    by_policy: dict[str, Sequence[Outcome]] = {}
    context = multiprocessing.get_context("spawn")
    cores = context.SimpleQueue()
    for number in range(options.processes):
        cores.put(CORES[number % len(CORES)])
    with ProcessPoolExecutor(options.processes, context, _be_ready, (voice, cores)) as pool:
        for name in names:
            by_policy[name] = outcomes = _hold(pool, name, talks)
            print(f"\n{name}: {len(outcomes)} overlaps")
            print(table(outcomes), flush=True)
            if options.failures:
                print("\n".join(failure(o) for o in outcomes if not o.right or o.damaged), flush=True)
            if options.log is not None:
                with options.log.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps({"policy": name} | asdict(o)) + "\n" for o in outcomes)
    print(f"\nboth halves\n{summary(by_policy)}")


def _some(stimuli: list[Stimulus], count: int) -> list[Stimulus]:
    """So many, spread over all."""
    step = max(1.0, len(stimuli) / count)
    return [stimuli[int(number * step)] for number in range(min(count, len(stimuli)))]


def _hold(pool: Executor, policy: str, talks: Sequence[Conversation]) -> list[Outcome]:
    total = sum(len(talk.overlaps) for talk in talks)
    outcomes: list[Outcome] = []
    for done in as_completed([pool.submit(_converse, policy, talk) for talk in talks]):
        outcomes += done.result()
        progress(f"{policy}: {len(outcomes)} of {total} overlaps")
    progress("")
    return outcomes


# In each process -----------------------------------------------------------------------------------------

_voice: PreparedVoice | None = None  # set once, before the first conversation


def _be_ready(voice: PreparedVoice, cores: SimpleQueue[int]) -> None:
    global _voice  # noqa: PLW0603 - how a process pool hands on what all its calls need
    logger.remove()
    stay_on_one_core(cores)
    _voice = voice


def _converse(policy: str, talk: Conversation) -> list[Outcome]:
    assert _voice is not None
    return run_in_virtual_time(converse(talk, POLICIES[policy], _voice))


if __name__ == "__main__":
    main()
