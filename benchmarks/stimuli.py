"""What a user's microphone picks up while the bot speaks: interruptions, backchannels, noises, other people.

Voices, none of which is the bot's: hibari (PyPI, Apache-2.0), as it is and as two other speakers by pitch
and formants; three voices of flite (Debian, BSD); and recorded people: Allison Smith's prompts in Debian's
asterisk-core-sounds-en-g722 (CC BY-SA 3.0), a LibriVox reader, J. F. Kennedy. Hums are made of pulses and
formants, since a synthesizer reads "mm-hmm" out. Noises are recorded (car horn, dog) or made; the speech
of others is recorded, or spoken by another voice a few metres away.

What is not installed is left out; `missing` tells what.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import soxr

from bargein.transports.file import RATE, Samples, load_recording
from benchmarks.noises import HUMS, NOISES, Random, Sound, hum, in_room

DATA = Path(__file__).parent.parent / "tests" / "data"
PROMPTS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
FLITE_VOICES = ("slt", "rms", "awb")


class Kind(StrEnum):
    """What an overlap is, and so what the bot should do."""

    INTERRUPTION = "interruptions"
    BACKCHANNEL = "backchannels"
    NOISE = "noises"
    BACKGROUND = "background speech"


class Half(StrEnum):
    """Which half of the stimuli: settings are tuned on one and judged by the other."""

    TUNE = "tune"
    TEST = "test"


@dataclass(frozen=True)
class Stimulus:
    """One sound, from its onset to its end, mono at 16 kHz.

    Attributes:
        name: Says what it is; unique.
        voice: The speaker, or "" of a noise.
        text: What is said, as far as it is known.
    """

    kind: Kind
    name: str
    voice: str
    samples: Samples
    text: str = ""
    half: Half = Half.TUNE


@dataclass(frozen=True)
class Voice:
    """A speaker.

    Attributes:
        question: What this speaker asks at the beginning of a conversation, mono at 16 kHz.
    """

    name: str
    question: Samples


QUESTIONS = (
    "Could you tell me what there is to see in this town?",
    "What should I know before I travel there?",
    "Please tell me a story about the sea.",
)
INTERRUPTIONS = (
    "Wait, stop.",
    "No, I meant tomorrow.",
    "Can you repeat that?",
    "Hold on a second.",
    "Stop.",
    "Stop talking, please.",
    "That is not what I asked.",
    "What about the weekend?",
    "How much does it cost?",
    "Sorry, I have another question.",
    "Let me ask you something.",
    "Actually, make it two.",
    "Cancel that.",
    "No, no, the other one.",
    "Excuse me.",
    "What did you say?",
    "Could you speak more slowly?",
    "Tell me something else.",
    "I don't want to hear that.",
    "Where is it exactly?",
    "Who told you that?",
    "Wait a minute.",
    "Never mind.",
    "Go back to the beginning.",
    "Skip this part.",
    "That's wrong.",
    "I already know that.",
    "Please be quiet.",
    "What time is it?",
    "Give me the short version.",
    "Yes, but what about my order?",
    "Okay, but I need it today.",
    "Right, now call my sister.",
    "Yeah, no, that's not it.",
    "No.",
    "Is it open on Sunday?",
    "Change the date to Friday.",
    "My name is Robert.",
    "Tuesday.",
    "Louder.",
    "In Paris.",
    "The blue one.",
    "Too fast.",
    "Two tickets.",
)
BACKCHANNELS = (
    "Uh-huh.",
    "Okay.",
    "Right.",
    "Yeah.",
    "I see.",
    "Sure.",
    "Got it.",
    "Really?",
    "Wow.",
    "Yes.",
    "Of course.",
    "Oh.",
    "Ah.",
    "Cool.",
    "Great.",
    "Interesting.",
    "Yeah, yeah.",
    "Okay, okay.",
    "Exactly.",
    "True.",
    "Good.",
    "All right.",
    "Makes sense.",
    "Oh, wow.",
    "Nice.",
    "Fair enough.",
    "Yep.",
    "Oh, really?",
    "I know.",
    "No way.",
    "Absolutely.",
    "Oh, okay.",
    "Right, right.",
    "Hm.",
)
ELSEWHERE = (
    "Did you remember to bring the keys from the office?",
    "The train leaves at a quarter past nine from platform four.",
    "I told her that we would be there in the evening.",
    "And now the weather for the north of the country.",
    "Put it on the table next to the window, please.",
    "They have been working on that bridge for two years.",
    "Could you pass me the salt? Thank you.",
    "He scored twice in the second half of the game.",
    "My mother is going to call you back later.",
    "We should have taken the other road, I think.",
)
# Prompts that are whole commands or statements, each 1 to 3 s.
PROMPT_INTERRUPTIONS = (
    "please-try-again",
    "pls-hold-while-try",
    "to-listen-to-it",
    "to-call-this-number",
    "cancelled",
)
PROMPT_QUESTION = "tt-somethingwrong"
PROMPTS_ELSEWHERE = (
    "demo-abouttotry",
    "demo-nogo",
    "dir-welcome",
    "tt-weasels",
    "vm-nobodyavail",
    "queue-youarenext",
    "conf-onlyperson",
    "all-circuits-busy-now",
)
# Recordings in the tests' data: who, and where the pieces are, s.
PIECES = {
    "sense_and_sensibility_01_austen_64kb-0870.wav": ("reader", ((0.0, 2.2), (2.4, 4.6), (4.8, 7.0))),
    "sense_and_sensibility_01_austen_64kb-0890.wav": ("reader", ((0.0, 2.2), (2.6, 5.2))),
    "jfk.flac": ("kennedy", ((0.2, 2.2), (3.2, 4.4), (5.3, 7.6), (8.1, 10.5))),
}
READER_QUESTION = "sense_and_sensibility_01_austen_64kb-0880.wav"
KENNEDY_QUESTION = ("jfk.flac", 5.3, 10.5)

# Synthesised noises and hums: how many of each.
TAKES = 3
HUM_TAKES = 2
ELSEWHERE_S = 3.0  # of a piece of other people's talk


class Speakers:
    """Speaks texts in voices that are not the bot's."""

    def __init__(self) -> None:
        self.voices: dict[str, Callable[[str], Sound]] = {}
        self.missing: list[str] = []
        if find_spec("hibari") is None:
            self.missing.append("three voices: pip install hibari-tts")
        else:
            self.voices |= _hibari()
        if shutil.which("flite") is None:
            self.missing.append("three voices: apt-get install flite")
        else:
            self.voices |= {f"flite {name}": _flite(name) for name in FLITE_VOICES}
        if not PROMPTS.exists():
            self.missing.append("a recorded speaker: apt-get install asterisk-core-sounds-en-g722")
        if not self.voices:
            raise ModuleNotFoundError("no voice but the bot's is installed: pip install hibari-tts")

    def say(self, voice: str, text: str) -> Samples:
        """A text, trimmed."""
        return trimmed(self.voices[voice](text))

    def askers(self) -> list[Voice]:
        """All speakers there are, recorded ones too, each with a question."""
        speakers = [
            Voice(name, self.say(name, question))
            for name, question in zip(self.voices, cycle(QUESTIONS), strict=False)
        ]
        speakers.append(Voice("reader", trimmed(load_recording(DATA / READER_QUESTION))))
        name, start, end = KENNEDY_QUESTION
        speakers.append(Voice("kennedy", trimmed(_cut(load_recording(DATA / name), start, end))))
        if PROMPTS.exists():
            speakers.append(Voice("allison", _prompt(PROMPT_QUESTION)))
        return speakers


def catalogue(speakers: Speakers, seed: int) -> list[Stimulus]:
    """All stimuli; of each kind and each text one half is to tune with and the other to test.

    The seed decides who says what, and how what is made sounds; the halves stay the same.
    """
    random = np.random.default_rng(seed)
    turn = (seed - 1) % len(speakers.voices)
    voices = [*speakers.voices][turn:] + [*speakers.voices][:turn]
    kinds = (
        [*_interruptions(speakers, voices)],
        [*_backchannels(speakers, voices, random)],
        [*_noises(random)],
        [*_background(speakers, voices, random)],
    )
    return [stimulus for kind in kinds for stimulus in _halved(kind)]


def trimmed(sound: Sound | Samples) -> Samples:
    """From the first 10 ms that are over -40 dB of the loudest to the last, at half of full scale."""
    scaled = sound.astype(np.float64) / (np.abs(sound).max() + 1e-12)
    block = RATE // 100
    peaks = np.abs(scaled[: len(scaled) // block * block]).reshape(-1, block).max(axis=1)
    loud = np.flatnonzero(peaks > 0.01)
    return np.asarray(scaled[loud[0] * block : (loud[-1] + 1) * block] * 16_000, np.int16)


def active_level(samples: Samples) -> float:
    """Loudness while there is sound, in dB of a full-scale square wave.

    That is the mean power of the 20 ms blocks that are at most 20 dB below the loudest one.
    """
    block = RATE // 50
    blocks = samples[: max(1, len(samples) // block) * block].astype(np.float64)
    power = np.square(blocks.reshape(-1, min(block, len(blocks))) / 32_768).mean(axis=1)
    return float(10 * np.log10(power[power >= power.max() / 100].mean() + 1e-12))


def at_level(samples: Samples, level_db: float) -> Samples:
    """The same so loud; what would clip stays as loud as it can be."""
    gain = min(10 ** ((level_db - active_level(samples)) / 20), 32_767 / np.abs(samples).max())
    return np.asarray(samples * gain, np.int16)


# The kinds ----------------------------------------------------------------------------------------------


def _interruptions(speakers: Speakers, voices: Sequence[str]) -> Iterator[Stimulus]:
    for text, voice in zip(INTERRUPTIONS, cycle(voices), strict=False):
        yield _said(Kind.INTERRUPTION, speakers, voice, text)
    for name, (voice, pieces) in PIECES.items():
        recording = load_recording(DATA / name)
        for start, end in pieces:
            samples = trimmed(_cut(recording, start, end))
            yield Stimulus(Kind.INTERRUPTION, f"{voice}: {name[-8:]} {start} s", voice, samples)
    if PROMPTS.exists():
        for name in PROMPT_INTERRUPTIONS:
            yield Stimulus(Kind.INTERRUPTION, f"allison: {name}", "allison", _prompt(name))


def _backchannels(speakers: Speakers, voices: Sequence[str], random: Random) -> Iterator[Stimulus]:
    for text, voice in zip(BACKCHANNELS, cycle(reversed(voices)), strict=False):
        yield _said(Kind.BACKCHANNEL, speakers, voice, text)
    for name, syllables in HUMS.items():
        for take in range(HUM_TAKES):
            samples = trimmed(hum(random, syllables))
            yield Stimulus(Kind.BACKCHANNEL, f"hum {take}: {name}", "", samples, name)
    samples = trimmed(hum(random, HUMS["mm-hmm"], nasal=False))
    yield Stimulus(Kind.BACKCHANNEL, "hum: uh-huh", "", samples, "uh-huh")


def _noises(random: Random) -> Iterator[Stimulus]:
    for make in NOISES:
        for take in range(TAKES):
            name = make.__name__.replace("_", " ")
            yield Stimulus(Kind.NOISE, f"{name} {take}", "", trimmed(make(random)))
    for name in ("car_horn.wav", "dog_bark.wav"):
        recording = load_recording(DATA / name)
        for start in (0.0, 1.3, 2.6):
            samples = trimmed(_cut(recording, start, start + 1.3))
            yield Stimulus(Kind.NOISE, f"{name} {start} s", "", samples)


def _background(speakers: Speakers, voices: Sequence[str], random: Random) -> Iterator[Stimulus]:
    people = load_recording(DATA / "people_talking.wav")
    for start in np.arange(0, len(people) / RATE - ELSEWHERE_S, ELSEWHERE_S):
        samples = trimmed(_cut(people, start, start + ELSEWHERE_S))
        yield Stimulus(Kind.BACKGROUND, f"people talking {start:.0f} s", "people", samples)
    turns = cycle(voices)
    for text in ELSEWHERE:
        for _ in range(2):
            near = _said(Kind.BACKGROUND, speakers, next(turns), text)
            yield replace(near, samples=trimmed(in_room(near.samples.astype(np.float64), random)))
    if PROMPTS.exists():
        for name in PROMPTS_ELSEWHERE:
            samples = trimmed(in_room(_prompt(name).astype(np.float64), random))[: int(ELSEWHERE_S * RATE)]
            yield Stimulus(Kind.BACKGROUND, f"allison: {name}", "allison", samples)


def _halved(stimuli: list[Stimulus]) -> Iterator[Stimulus]:
    """Each text falls into one half, whoever speaks it."""

    def text(stimulus: Stimulus) -> str:
        return stimulus.text or stimulus.name

    # By checksum: another text more or less leaves most of the others where they are.
    texts = sorted({text(s) for s in stimuli}, key=lambda text: crc32(f"1 {text}".encode()))
    tune = set(texts[: len(texts) // 2])
    for stimulus in stimuli:
        yield replace(stimulus, half=Half.TUNE if text(stimulus) in tune else Half.TEST)


def _said(kind: Kind, speakers: Speakers, voice: str, text: str) -> Stimulus:
    return Stimulus(kind, f"{voice}: {text}", voice, speakers.say(voice, text), text)


# Where sounds come from ---------------------------------------------------------------------------------


def _hibari() -> dict[str, Callable[[str], Sound]]:
    model: Any = import_module("hibari").Hibari()

    def speaker(pitch: float) -> Callable[[str], Sound]:
        def say(text: str) -> Sound:
            spoken = model(text, speed=1 / pitch, seed=0)
            return np.asarray(soxr.resample(spoken, 24_000 * pitch, RATE), np.float64)

        return say

    # Played back at another rate, the speech changes pitch and formants: other heads.
    return {"hibari": speaker(1), "hibari, low": speaker(0.82), "hibari, high": speaker(1.15)}


def _flite(name: str) -> Callable[[str], Sound]:
    def say(text: str) -> Sound:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "speech.wav"
            subprocess.run(["flite", "-voice", name, "-t", text, "-o", str(path)], check=True)
            return load_recording(path).astype(np.float64)

    return say


def _prompt(name: str) -> Samples:
    return trimmed(load_recording(PROMPTS / f"{name}.g722"))


def _cut(samples: Samples, start_s: float, end_s: float) -> Samples:
    return samples[int(start_s * RATE) : int(end_s * RATE)]
