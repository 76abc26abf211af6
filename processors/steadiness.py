"""How much a sound changes: a hum is one sound that is held, a word is several."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]

RATE = 16_000  # Hz
_WINDOW = 512  # samples
_HOP = 160
_BEFORE_S = 0.15  # has been heard when somebody notices that a stretch has begun
_LONGEST_S = 1.5  # of a stretch that is looked at; what comes later changes nothing

# Only windows this close to the loudest one are looked at, dB: what is quieter is silence or room.
_RANGE_DB = 20
_FEWEST = 10  # windows; before, there is nothing to tell

# Bands as wide as the ear's: wide enough that pitch does not matter, only the shape of mouth and nose.
_BANDS = 16
_LOWEST_HZ, _HIGHEST_HZ = 100, 6000
_FLOOR = 1e-4  # of the power, so that silence between formants says nothing


def _filters() -> _Floats:
    """Triangles on the mel scale, one a row."""
    lowest, highest = 2595 * np.log10(1 + np.array([_LOWEST_HZ, _HIGHEST_HZ]) / 700)
    edges = 700 * (10 ** (np.linspace(lowest, highest, _BANDS + 2) / 2595) - 1)
    f = np.fft.rfftfreq(_WINDOW, 1 / RATE)
    low, middle, high = (edges[i : i + _BANDS, None] for i in range(3))
    return np.asarray(np.clip(np.minimum((f - low) / (middle - low), (high - f) / (high - middle)), 0, None))


_FILTERS = _filters()
_SHAPE = np.hanning(_WINDOW)


class Steadiness:
    """The change in each stretch of speech. Free of I/O and of time; computes only when asked."""

    def __init__(self) -> None:
        self._audio = bytearray()  # not looked at yet
        self._power: list[float] = []  # of each window of this stretch
        self._spectra: list[_Floats] = []

    def hear(self, audio: bytes) -> None:
        """Take mono s16le audio at 16 kHz."""
        self._audio += audio
        del self._audio[: -2 * int(_LONGEST_S * RATE)]

    def begin(self) -> None:
        """A stretch of speech begins."""
        del self._audio[: -2 * int(_BEFORE_S * RATE)]
        self._power.clear()
        self._spectra.clear()

    @property
    def change(self) -> float | None:
        """How far the spectrum strays from its mean in this stretch, bels; None while too little was heard.

        Hums stay below 0.21, words above 0.3: measured on synthesised hums, and on 330 words and sentences
        of six synthesised voices and a recorded one.
        """
        self._look()
        power = np.array(self._power)
        loud = power > power.max(initial=0.0) / 10 ** (_RANGE_DB / 10)
        if loud.sum() < _FEWEST:
            return None
        spectra = np.array(self._spectra)[loud]
        strays = np.square(spectra - spectra.mean(axis=0)).mean(axis=1)
        return float(np.sqrt(strays).mean())

    def _look(self) -> None:
        if len(self._spectra) * _HOP > _LONGEST_S * RATE:
            return
        samples = np.frombuffer(bytes(self._audio), np.int16)
        count = (len(samples) - _WINDOW) // _HOP + 1
        if count <= 0:
            return
        windows = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP]
        power = np.square(np.abs(np.fft.rfft(windows / 32_768 * _SHAPE)))
        bands = power @ _FILTERS.T
        shares = bands / (bands.sum(axis=1, keepdims=True) + 1e-12)
        self._power += power.sum(axis=1).tolist()
        self._spectra += list(np.log10(shares + _FLOOR))
        del self._audio[: 2 * _HOP * count]
