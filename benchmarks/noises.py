"""Sounds made of noise and pulses: what is heard beside a voice, and hums.

Each function makes one sound of its kind, different for each state of the generator it is given: mono at
16 kHz, floats of any scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

RATE = 16_000

Sound = npt.NDArray[np.float64]
Random = np.random.Generator

# Formants: frequency and width in Hz, weight. A nasal murmur has its energy below 400 Hz and little above.
NASAL = ((260, 60, 1.0), (1100, 150, 0.12), (2300, 250, 0.05))
OPEN = ((640, 90, 1.0), (1200, 110, 0.6), (2400, 170, 0.2))


def cough(random: Random) -> Sound:
    """Bursts of breath through an open throat, partly voiced."""
    bursts = []
    for _ in range(random.integers(1, 4)):
        seconds = random.uniform(0.18, 0.3)
        breath = _decay(_noise(random, seconds), 0.06, attack_s=0.008)
        voice = _decay(_pulses(random, random.uniform(150, 260), 100, seconds, jitter=0.15), 0.08)
        bursts.append(_throat(breath + random.uniform(1, 6) * voice / np.abs(voice).max(), OPEN))
    return _sequence(random, bursts, 0.2, 0.4)


def laughter(random: Random) -> Sound:
    """Ha-ha-ha."""
    pitch = float(random.choice([random.uniform(130, 180), random.uniform(220, 330)]))
    syllables = []
    for number in range(random.integers(3, 7)):
        breath = 0.3 * _rise(_noise(random, 0.05))
        voice = _pulses(random, pitch, pitch * 0.85, 0.11, jitter=0.03)
        voice = _decay(voice / np.abs(voice).max(), 0.08, attack_s=0.02) + 0.05 * _noise(random, 0.11)
        syllables.append(_throat(np.concatenate([breath, 3 * voice]), OPEN) * 0.9**number)
        pitch *= random.uniform(0.9, 1.02)
    return _sequence(random, syllables, 0.18, 0.24)


def throat_clearing(random: Random) -> Sound:
    """Rough, irregular voicing with breath."""
    seconds = random.uniform(0.3, 0.6)
    rough = _pulses(random, random.uniform(70, 110), 80, seconds, jitter=0.35)
    return _decay(_band(rough + 0.02 * _noise(random, seconds), 250, 1600), 0.25, attack_s=0.04)


def sneeze(random: Random) -> Sound:
    """A drawn breath, then a burst."""
    breath = _band(_rise(_noise(random, 0.35)), 800, 5000) * 0.15
    burst = _band(_decay(_noise(random, 0.4), 0.09, attack_s=0.01), 900, 7000)
    return np.concatenate([breath, burst])


def clap(random: Random) -> Sound:
    """One to four claps in a room."""
    hits = [
        _band(_decay(_noise(random, 0.12), 0.008) + 0.15 * _decay(_noise(random, 0.12), 0.04), 700, 5000)
        for _ in range(random.integers(1, 5))
    ]
    return _sequence(random, hits, 0.12, 0.35)


def keyboard(random: Random) -> Sound:
    """Somebody types for one to two seconds."""
    keys = [
        _band(_decay(_noise(random, 0.05), 0.004), 1500, 7500) * random.uniform(0.4, 1)
        + 0.5 * _band(_decay(_noise(random, 0.05), 0.012), 150, 700)
        for _ in range(random.integers(8, 16))
    ]
    return _sequence(random, keys, 0.04, 0.16)


def door(random: Random) -> Sound:
    """A door falls shut."""
    thump = _band(_decay(_noise(random, 0.8), 0.09), 40, 350) * 3
    latch = _band(_decay(_noise(random, 0.8), 0.02), 900, 4500)
    return thump + latch * 0.5 + 0.1 * _band(_decay(_noise(random, 0.8), 0.25), 100, 2500)


def dishes(random: Random) -> Sound:
    """A cup on a plate, more than once."""
    hits = [_struck(random, random.uniform(1800, 4200), 0.5) for _ in range(random.integers(2, 5))]
    return _sequence(random, hits, 0.02, 0.25)


def knocks(random: Random) -> Sound:
    """Knuckles on wood."""
    hits = [
        _band(_decay(_noise(random, 0.15), 0.018), 150, 1300) * random.uniform(0.7, 1)
        for _ in range(random.integers(2, 5))
    ]
    return _sequence(random, hits, 0.06, 0.15)


def paper(random: Random) -> Sound:
    """Paper is crumpled."""
    seconds = random.uniform(0.6, 1.4)
    crackle = _noise(random, seconds) * (random.random(int(seconds * RATE)) < 0.02) * 6
    return _band(crackle + 0.2 * _noise(random, seconds), 1200, 7500) * _wander(random, seconds, 8)


def breath_on_microphone(random: Random) -> Sound:
    """Wind or breath right on the microphone."""
    seconds = random.uniform(0.5, 1.2)
    return _band(_noise(random, seconds), 20, 350) * _wander(random, seconds, 5)


def touched_microphone(random: Random) -> Sound:
    """Fingers on the microphone or its cable."""
    hits = [_band(_decay(_noise(random, 0.12), 0.025), 30, 1200) for _ in range(random.integers(2, 6))]
    return _sequence(random, hits, 0.02, 0.2)


def telephone(random: Random) -> Sound:
    """An electronic ring tone."""
    low, high = sorted(random.uniform(600, 2200, 2))
    t = _time(random.uniform(0.8, 1.6))
    tone = np.where(np.mod(t, 0.08) < 0.04, np.sin(2 * np.pi * low * t), np.sin(2 * np.pi * high * t))
    return np.asarray(tone * (np.mod(t, 0.7) < 0.5))


def siren(random: Random) -> Sound:
    """A siren that goes up and down."""
    t = _time(random.uniform(1.2, 2.2))
    pitch = random.uniform(700, 1000) + 350 * np.sin(2 * np.pi * random.uniform(0.4, 1.5) * t)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    return np.asarray(np.sin(phase) + 0.4 * np.sin(2 * phase) + 0.2 * np.sin(3 * phase))


def creak(random: Random) -> Sound:
    """A chair or a hinge."""
    seconds = random.uniform(0.4, 0.9)
    pulses = _pulses(random, random.uniform(60, 150), random.uniform(150, 350), seconds, jitter=0.15)
    return _band(pulses, 900, 4000) * _wander(random, seconds, 6)


def vacuum_cleaner(random: Random) -> Sound:
    """A motor nearby, suddenly on."""
    t = _time(random.uniform(1.5, 2.5))
    hum = sum(np.sin(2 * np.pi * 120 * k * t + random.uniform(0, 6)) / k for k in range(1, 12))
    return np.asarray(hum * 0.3 + _band(random.standard_normal(len(t)), 200, 6000) * 2)


NOISES: tuple[Callable[[Random], Sound], ...] = (
    cough,
    laughter,
    throat_clearing,
    sneeze,
    clap,
    keyboard,
    door,
    dishes,
    knocks,
    paper,
    breath_on_microphone,
    touched_microphone,
    telephone,
    siren,
    creak,
    vacuum_cleaner,
)


def hum(random: Random, pitches: Sequence[tuple[float, float, float]], *, nasal: bool = True) -> Sound:
    """A hum: voice through a closed mouth, or through a half open one.

    Args:
        random: For pitch, tempo and roughness.
        pitches: For each syllable seconds, pitch at its start and at its end, both beside the speaker's own.
        nasal: "mm" rather than "uh".
    """
    own, tempo = random.choice([random.uniform(90, 140), random.uniform(170, 240)]), random.uniform(0.85, 1.2)
    parts: list[Sound] = []
    for number, (seconds, start, end) in enumerate(pitches):
        if number:
            parts.append(_band(_noise(random, 0.07 * tempo), 400, 3000) * 0.02)
        source = _pulses(random, own * start, own * end, seconds * tempo, jitter=0.01)
        source += 0.003 * random.standard_normal(len(source))
        voiced = _throat(source, NASAL if nasal else OPEN)
        syllable = voiced / np.abs(voiced).max()
        fade = np.minimum(1, np.minimum(np.arange(len(source)), np.arange(len(source))[::-1]) / (0.05 * RATE))
        parts.append(syllable * fade)
    return np.concatenate(parts)


# Syllables as `hum` takes them: seconds, pitch at the start and at the end. The rise on the second of two
# is what makes "mm-hmm" an agreement.
HUMS = {
    "mm-hmm": ((0.17, 1.0, 0.95), (0.26, 1.05, 1.3)),
    "mhm": ((0.12, 1.1, 1.0), (0.2, 1.0, 1.15)),
    "mm": ((0.35, 1.1, 0.85),),
    "hmm": ((0.5, 1.0, 0.9),),
    "mm-mm-mm": ((0.14, 1.1, 1.0), (0.14, 1.1, 1.0), (0.25, 1.05, 0.85)),
}


def in_room(sound: Sound, random: Random) -> Sound:
    """The same from a few metres away: duller, with the room's reverberation."""
    tail = _noise(random, 0.4) * np.exp(-_time(0.4) / 0.09) * 0.08
    tail[0] = 1.0
    size = len(sound) + len(tail)
    echoed = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(tail, size), size)
    return _band(echoed, 120, 3500)


# What sounds are made of --------------------------------------------------------------------------------


def _time(seconds: float) -> Sound:
    return np.arange(int(seconds * RATE)) / RATE


def _noise(random: Random, seconds: float) -> Sound:
    return random.standard_normal(int(seconds * RATE))


def _decay(sound: Sound, constant_s: float, attack_s: float = 0.001) -> Sound:
    t = np.arange(len(sound)) / RATE
    return np.asarray(sound * np.minimum(1, t / attack_s) * np.exp(-t / constant_s))


def _rise(sound: Sound) -> Sound:
    return sound * np.linspace(0, 1, len(sound)) ** 2


def _wander(random: Random, seconds: float, per_s: float) -> Sound:
    """A loudness that comes and goes."""
    points = random.uniform(0.1, 1, max(3, int(seconds * per_s)))
    points[-1] = 0
    size = int(seconds * RATE)
    return np.interp(np.arange(size), np.linspace(0, size, len(points)), points)


def _band(sound: Sound, low: float, high: float) -> Sound:
    """Only frequencies between `low` and `high` Hz, with slopes of a third of an octave or so."""
    spectrum = np.fft.rfft(sound)
    frequencies = np.fft.rfftfreq(len(sound), 1 / RATE)
    gain = 1 / (1 + (low / np.maximum(frequencies, 1)) ** 6) / (1 + (frequencies / high) ** 6)
    return np.asarray(np.fft.irfft(spectrum * gain, len(sound)))


def _throat(sound: Sound, formants: Sequence[tuple[float, float, float]]) -> Sound:
    """What throat and mouth make of a source."""
    spectrum = np.fft.rfft(sound)
    f = np.fft.rfftfreq(len(sound), 1 / RATE)
    gain = sum(
        weight * frequency**2 / (frequency**2 - f**2 + 1j * f * width)
        for frequency, width, weight in formants
    )
    return np.asarray(np.fft.irfft(spectrum * gain, len(sound)))


def _pulses(random: Random, start_hz: float, end_hz: float, seconds: float, *, jitter: float) -> Sound:
    """Pulses of a glottis, softened; their pitch goes from one to the other and is unsteady by `jitter`."""
    sound = np.zeros(int(seconds * RATE))
    at = 0.0
    while at < len(sound):
        sound[int(at)] = random.uniform(1 - jitter, 1)
        pitch = start_hz + (end_hz - start_hz) * at / len(sound)
        at += RATE / pitch * random.uniform(1 - jitter, 1 + jitter)
    # 12 dB an octave above 200 Hz, as glottal flow has.
    f = np.fft.rfftfreq(len(sound), 1 / RATE)
    return np.asarray(np.fft.irfft(np.fft.rfft(sound) / (1 + (f / 200) ** 2), len(sound)))


def _struck(random: Random, pitch: float, seconds: float) -> Sound:
    t = _time(seconds)
    partials = (1.0, 1.51, 2.36, 3.1)
    return np.asarray(
        sum(
            np.sin(2 * np.pi * pitch * ratio * t)
            * np.exp(-t / random.uniform(0.02, 0.12))
            * random.uniform(0.3, 1)
            for ratio in partials
            if pitch * ratio < RATE / 2
        )
    )


def _sequence(random: Random, hits: list[Sound], shortest_s: float, longest_s: float) -> Sound:
    """One after the other, so long from start to start."""
    starts = np.cumsum([0.0, *(random.uniform(shortest_s, longest_s) for _ in hits[1:])])
    size = math.ceil(float(starts[-1]) * RATE) + max(map(len, hits)) + 1
    sound = np.zeros(size)
    for start, hit in zip(starts, hits, strict=True):
        begin = int(start * RATE)
        sound[begin : begin + len(hit)] += hit
    return sound
