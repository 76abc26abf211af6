"""The playout buffer: what the bot says, how far it has been played, and what of it was heard.

Free of I/O and of time: a transport reads it at the pace at which it plays, so the buffer always knows
what was played. All of it runs in the event loop's thread.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from ..pipeline import Response

Samples = npt.NDArray[np.int16]

# A voice that has nothing to say for this long, while more is to come, has stopped speaking, ms. Longer
# than the pauses between sentences; Pipecat's output takes 350.
DRY_MS = 350

# A fade short enough to be no syllable and long enough to be no click.
FADE_MS = 15


@dataclass(slots=True, eq=False)
class Segment:
    """A stretch of audio of one response."""

    samples: Samples
    response: Response | None
    marks: deque[tuple[int, int]]  # to come: (sample of this segment, character of the response heard then)
    interruptible: bool
    read: int = 0  # samples


@dataclass(slots=True, eq=False)
class Mark:
    """A point in the stream; `reached` is called once everything before it has been heard."""

    reached: Callable[[], None]
    interruptible: bool


@dataclass(slots=True, eq=False)
class Arrival:
    """What happens when the listener has heard everything up to stream position `at` (samples)."""

    at: int
    interruptible: bool
    reached: Callable[[], None] | None = None
    response: Response | None = None
    character: int = 0


class Playout:
    """A queue of mono 16-bit audio at one rate.

    Args:
        sample_rate: In Hz.
        on_heard: Called as `on_heard(response, start, end)` when the user has heard more characters of a
            response. An interruption does not call it: its report says what was heard.
        on_dry: Called when nothing has been left to play or hear for `DRY_MS`.

    Attributes:
        delay_ms: How long what was read takes to reach the listener's ear (network, jitter buffer), as
            the client last reported it. What is still on the way counts as unheard.
        protected: Whether the last read held audio that no interruption cuts.
    """

    def __init__(
        self,
        sample_rate: int,
        on_heard: Callable[[Response, int, int], None] | None = None,
        on_dry: Callable[[], None] | None = None,
    ) -> None:
        self.sample_rate = sample_rate
        self.delay_ms = 0.0
        self.protected = False
        self._on_heard = on_heard
        self._on_dry = on_dry
        self._dry_at: int | None = None  # stream position at which it will have been dry for long
        self._queue: deque[Segment | Mark] = deque()
        self._on_the_way: deque[Arrival] = deque()  # read, perhaps not heard yet; ascending
        self._position = 0  # samples read since the beginning, silence included
        self._sounding = False  # the last read ended inside audio
        self._held = False
        self._gain = 1.0  # of the last sample read; moves towards `_wanted_gain` as samples are read
        self._wanted_gain = 1.0
        self._tail: Samples = np.empty(0, np.int16)  # audio that fades out after a hold or a cut

    @property
    def busy(self) -> bool:
        """Whether anything is left to be played or heard."""
        return bool(self._queue or self._on_the_way)

    @property
    def queued_ms(self) -> float:
        """How much audio waits to be read, in ms."""
        waiting = sum(len(s.samples) - s.read for s in self._queue if isinstance(s, Segment))
        return 1000 * waiting / self.sample_rate

    def write(
        self,
        audio: bytes,
        response: Response | None = None,
        marks: tuple[tuple[int, int], ...] = (),
        *,
        interruptible: bool = True,
    ) -> None:
        """Append mono s16le audio at the playout's rate, with the text marks of `SpokenAudioFrame`."""
        samples = np.frombuffer(audio, np.int16)
        for sample, character in marks:
            if sample < 0:
                self._mark_back(-sample, response, character, interruptible)
        kept = deque(mark for mark in marks if mark[0] >= 0)
        self._queue.append(Segment(samples, response, kept, interruptible))

    def mark(self, reached: Callable[[], None], *, interruptible: bool = True) -> None:
        """Have a function called once the user has heard all that was written so far."""
        self._queue.append(Mark(reached, interruptible))

    def read(self, samples: int) -> bytes:
        """The next `samples` samples to play, silence where there is nothing, as mono s16le bytes."""
        out = np.zeros(samples, np.int16)
        self.protected = False
        filled = self._read_tail(out)
        while self._queue and not self._held:
            part = self._queue[0]
            if isinstance(part, Mark):
                arrival = Arrival(self._position + filled, part.interruptible, part.reached)
                self._on_the_way.append(arrival)
            elif filled == samples and len(part.samples):
                break
            else:
                filled += self._read_segment(part, out, filled)
                if part.read < len(part.samples):
                    break
            self._queue.popleft()
        self._sounding = not self._held and filled == samples
        self._position += samples
        self.note_heard()
        self._note_dryness(filled > 0)
        return out.tobytes()

    def note_heard(self) -> None:
        """Note what has reached the listener by now: after a read, or when less of it is on the way."""
        for arrival in self._arrived():
            self._hear(arrival)
            if arrival.reached is not None:
                arrival.reached()

    def hold(self, gain: float = 0.0) -> None:
        """Pause the voice where it is, or play on at this gain (0 to 1), with a short fade."""
        if gain > 0:
            self._wanted_gain = gain
        elif not self._held:
            self._held = True
            if self._fade_out():
                self._gain = 0.0

    def release(self) -> None:
        """Go on from where it was held: no word lost, none twice."""
        self._held = False
        self._wanted_gain = 1.0

    def cut(self) -> None:
        """Drop all interruptible audio, what sounds now with a short fade.

        `read` has already written how far each response was heard.
        """
        if not self._held and self._queue and self._queue[0].interruptible:
            self._fade_out()
        self._held = False
        self._gain = self._wanted_gain = 1.0
        self._on_the_way = deque(a for a in self._on_the_way if not a.interruptible)
        self._queue = deque(p for p in self._queue if not p.interruptible)

    def drop_fade(self) -> None:
        """Leave out what fades away: the listener drops what was played before it."""
        self._tail = np.empty(0, np.int16)

    def _mark_back(
        self, distance: int, response: Response | None, character: int, interruptible: bool
    ) -> None:
        """Set a text mark this many samples before the end of what was written."""
        for segment in reversed(self._queue):
            if isinstance(segment, Mark) or segment.response is not response:
                continue
            if distance <= len(segment.samples) - segment.read:
                insort(segment.marks, (len(segment.samples) - distance, character))
                return
            distance -= len(segment.samples) - segment.read
        arrival = Arrival(self._position - distance, interruptible, None, response, character)
        insort(self._on_the_way, arrival, key=attrgetter("at"))

    def _read_segment(self, segment: Segment, out: Samples, filled: int) -> int:
        count = min(len(segment.samples) - segment.read, len(out) - filled)
        end = segment.read + count
        piece = segment.samples[segment.read : end]
        out[filled : filled + count] = self._at_gain(piece)
        while segment.marks and segment.marks[0][0] <= end:
            sample, character = segment.marks.popleft()
            at = self._position + filled + sample - segment.read
            arrival = Arrival(at, segment.interruptible, None, segment.response, character)
            self._on_the_way.append(arrival)
        segment.read = end
        self.protected = self.protected or (count > 0 and not segment.interruptible)
        return count

    def _arrived(self) -> list[Arrival]:
        """Take out what has left network and jitter buffer by now."""
        heard = self._position - int(self.delay_ms * self.sample_rate / 1000)
        arrived: list[Arrival] = []
        while self._on_the_way and self._on_the_way[0].at <= heard:
            arrived.append(self._on_the_way.popleft())
        return arrived

    def _note_dryness(self, sounded: bool) -> None:
        if sounded or self.busy:
            self._dry_at = self._position + self.sample_rate * DRY_MS // 1000
        elif self._dry_at is not None and self._position >= self._dry_at:
            self._dry_at = None
            if self._on_dry is not None:
                self._on_dry()

    def _hear(self, arrival: Arrival) -> None:
        response = arrival.response
        if response is not None and arrival.character > response.heard_to:
            start, response.heard_to = response.heard_to, arrival.character
            if self._on_heard is not None:
                self._on_heard(response, start, arrival.character)

    def _fade_out(self) -> bool:
        """Let what sounds now, if anything, end in a tail instead of a click; the queue is left as it is."""
        if not self._sounding:
            return False
        length = self._fade_length()
        pieces: list[Samples] = []
        for part in self._queue:
            if isinstance(part, Mark) or sum(map(len, pieces)) >= length:
                break
            pieces.append(part.samples[part.read : part.read + length])
        if pieces:
            samples = np.concatenate(pieces)[:length]
            ramp = self._gain * np.linspace(1.0, 0.0, length, dtype=np.float32)[: len(samples)]
            self._tail = (samples * ramp).astype(np.int16)
        return bool(pieces)

    def _at_gain(self, samples: Samples) -> Samples:
        """The samples at the gain wanted, which is reached at the pace of a fade."""
        if self._gain == self._wanted_gain == 1.0 or not len(samples):
            return samples
        away = self._wanted_gain - self._gain
        steps = np.arange(1, len(samples) + 1, dtype=np.float32) / self._fade_length()
        gains = self._gain + np.sign(away) * np.minimum(steps, abs(away))
        self._gain = self._wanted_gain if steps[-1] >= abs(away) else float(gains[-1])
        scaled: Samples = np.rint(samples * gains).astype(np.int16)
        return scaled

    def _read_tail(self, out: Samples) -> int:
        count = min(len(self._tail), len(out))
        out[:count] = self._tail[:count]
        self._tail = self._tail[count:]
        return count

    def _fade_length(self) -> int:
        return self.sample_rate * FADE_MS // 1000
