"""When the bot's audio leaves for a client, and what of it the client has played. No I/O, no clock."""

from __future__ import annotations

from collections import deque

from ..playout import Playout

# How far the client is kept ahead of what it plays: enough for a late event loop and the jitter of a
# network, and all that `clear` has to drop. A hold is heard so much later.
LEAD_S = 0.08
POLL_S = 0.02  # how often to look whether the bot has begun to speak
MARK_S = 0.1  # a mark is sent each so often: the grain of what is known as played
MAX_BEHIND_S = 2.0  # a client that acknowledges later than this is not waited for


class Pace:
    """Takes blocks out of a playout as a client is due to get them.

    From the first sound of a stretch of speech to its last everything is sent without a gap, pauses and
    holds as silence, so that a client only has to play what it gets. Between stretches nothing is sent.

    A client that acknowledges marks has heard what it has acknowledged; of others it is assumed that they
    play at once what they get.

    Args:
        playout: What the bot says. Its `delay_ms` is written here.
        block_ms: How much audio makes a block.

    Attributes:
        sent: Samples sent so far.
        play_until: Loop time in s at which a client that plays at once will have played all of it.
    """

    def __init__(self, playout: Playout, block_ms: int) -> None:
        self._playout = playout
        self._samples = playout.sample_rate * block_ms // 1000
        self._block_s = self._samples / playout.sample_rate
        self._lead_s = max(LEAD_S, 2 * self._block_s)
        self.sent = 0
        self.play_until = 0.0
        self._protected_until = 0.0  # the same, of what no interruption cuts
        self._marks = 0  # sent so far
        self._marked = 0  # samples sent before the last of them
        # Marks that are not acknowledged, with the samples sent before each. Older ones than these are
        # farther behind than a client may be.
        self._unplayed: deque[tuple[int, int]] = deque(maxlen=int(MAX_BEHIND_S / MARK_S) + 1)
        self._played: int | None = None  # samples acknowledged; None for a client that does not

    def take(self, now: float) -> tuple[bytes, int | None] | None:
        """The block that is due, and the number of the mark to send behind it, if any."""
        if not self._playout.busy:
            return None
        begins = max(self.play_until, now)
        if begins + self._block_s > now + self._lead_s:
            return None
        self.play_until = begins + self._block_s
        self.sent += self._samples
        self._playout.delay_ms = 1000 * self._behind(now)
        pcm = self._playout.read(self._samples)
        if self._playout.protected:
            self._protected_until = self.play_until
        return pcm, self._next_mark()

    def wait_s(self, now: float) -> float:
        """How long to wait before the next `take`, in s."""
        due = self.play_until + self._block_s - self._lead_s - now
        return due if due > 0 else POLL_S

    def acknowledge(self, mark: int, now: float) -> None:
        """The client has played everything up to this mark; one that was never sent is ignored."""
        while mark <= self._marks and self._unplayed and self._unplayed[0][0] <= mark:
            self._played = self._unplayed.popleft()[1]
        self._playout.delay_ms = 1000 * self._behind(now)
        self._playout.note_heard()

    def clear(self, now: float) -> bool:
        """The playout was cut: whether the client is to drop what it has not played.

        It is not while it plays something that no interruption cuts.
        """
        if self._protected_until > now:
            return False
        self._playout.drop_fade()
        self.play_until = now
        self._unplayed.clear()  # a telephone company acknowledges what it drops
        if self._played is not None:
            self._played = self.sent
        return True

    def _behind(self, now: float) -> float:
        """Seconds of what was sent that the client has not played."""
        ahead = self.play_until - now
        if self._played is None:
            return ahead
        return max(ahead, min((self.sent - self._played) / self._playout.sample_rate, MAX_BEHIND_S))

    def _next_mark(self) -> int | None:
        if self.sent - self._marked < MARK_S * self._playout.sample_rate:
            return None
        self._marks += 1
        self._marked = self.sent
        self._unplayed.append((self._marks, self.sent))
        return self._marks

    def __repr__(self) -> str:
        return f"<Pace {self.sent} sent, {self._played} played, {len(self._unplayed)} marks open>"
