"""Reports as Prometheus metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ..frames import Reason
from ..session import Session
from .turns import InterruptionReport, Listener, PauseReport, TurnReport

# Upper bounds of the histograms, s. What people take for an answer at once lies below 1 s.
LATENCY_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
SILENCE_S = (0.001, 0.01, 0.05, 0.1, 0.15, 0.2, 0.35, 0.5, 1.0, 2.0)


class Prometheus(Listener):
    """A listener for `Turns` of any number of sessions; `text` is what a scrape gets."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._turns = self._counter("turns", "Turns of users, by what became of the answer", ["outcome"])
        self._latency = self._histogram(
            "stop_to_first_audio_seconds", "From the user's last sound to the bot's first", LATENCY_S, []
        )
        self._parts = self._histogram(
            "latency_part_seconds", "The parts of stop_to_first_audio", LATENCY_S, ["part"]
        )
        self._interruptions = self._counter("interruptions", "Interruptions", ["level", "reason"])
        self._silence = self._histogram(
            "interruption_silence_seconds", "From the cause to the voice being silent", SILENCE_S, ["level"]
        )
        self._decision = self._histogram(
            "interruption_decision_seconds", "From the cause to everything stopped", SILENCE_S, ["level"]
        )
        self._pauses = self._histogram(
            "pause_seconds", "The voice paused for a sound, and went on", SILENCE_S, ["reason"]
        )
        self._tokens = self._counter("tokens", "Pieces of text models made", [])
        self._saved = self._counter("tokens_saved", "Pieces not made thanks to interruptions, estimated", [])
        self._stale = self._counter("stale_frames_dropped", "Frames interrupted work still pushed", [])
        self._undead = self._counter("undead_work", "Interrupted work that did not end in time", [])
        self._sessions = Gauge("bargein_sessions", "Sessions that run", registry=self._registry)

    @property
    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def session_began(self) -> None:
        """A session begins."""
        self._sessions.inc()

    def session_ended(self, session: Session) -> None:
        """A session has ended: what it counted is added up."""
        self._sessions.dec()
        self._stale.inc(session.stats.stale_dropped)
        self._undead.inc(session.stats.undead)

    def turn(self, report: TurnReport) -> None:
        self._turns.labels(report.outcome).inc()
        self._tokens.inc(report.tokens)
        if report.latency.total is not None:
            self._latency.observe(report.latency.total / 1000)
        for part, ms in report.latency.parts.items():
            self._parts.labels(part).observe(ms / 1000)

    def interruption(self, report: InterruptionReport) -> None:
        # A client may give any reason: as a label each would be kept for ever.
        reason = report.reason if report.reason in set(Reason) else "other"
        self._interruptions.labels(report.level.value, reason).inc()
        self._silence.labels(report.level.value).observe(report.silence_ms / 1000)
        self._decision.labels(report.level.value).observe(report.decision_ms / 1000)
        self._saved.inc(report.saved_tokens)

    def pause(self, report: PauseReport) -> None:
        self._pauses.labels(report.reason).observe(report.ms / 1000)

    def _counter(self, name: str, meaning: str, labels: list[str]) -> Counter:
        return Counter(f"bargein_{name}", meaning, labels, registry=self._registry)

    def _histogram(self, name: str, meaning: str, bounds: tuple[float, ...], labels: list[str]) -> Histogram:
        return Histogram(f"bargein_{name}", meaning, labels, buckets=bounds, registry=self._registry)
