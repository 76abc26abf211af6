"""Reports as OpenTelemetry spans: a trace for each session, a span for each turn and each of its parts.

They go to the tracer provider the application has set; without one, nowhere. No words are in them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, StatusCode, Tracer, set_span_in_context

from .turns import InterruptionReport, Listener, PauseReport, TurnReport


class Spans(Listener):
    """A listener for the `Turns` of one session.

    Args:
        tracer: Where the spans go.
        clock_s: Loop time of this moment, s: what the reports' times count from.
    """

    def __init__(self, clock_s: float, tracer: Tracer | None = None) -> None:
        self._tracer = tracer or trace.get_tracer("bargein")
        self._offset_ns = time.time_ns() - int(clock_s * 1e9)  # from loop time to the time of day
        self._session: Span = trace.INVALID_SPAN

    @contextmanager
    def session(self) -> Iterator[None]:
        """The span of the session, around all others."""
        self._session = self._tracer.start_span("bargein.session")
        try:
            yield
        finally:
            self._session.end()

    def turn(self, report: TurnReport) -> None:
        span = self._span(
            "bargein.turn",
            report.began,
            self._session,
            {
                "bargein.turn.number": report.number,
                "bargein.turn.outcome": report.outcome,
                "bargein.response.id": report.response_id,
                "bargein.tokens": report.tokens,
            },
        )
        if report.latency.total is not None:
            span.set_attribute("bargein.stop_to_first_audio_ms", report.latency.total)
        if report.outcome == "failed":
            span.set_status(StatusCode.ERROR)
        at = report.began
        for part, ms in report.latency.parts.items():
            self._span(f"bargein.{part}", at, span, {}).end(self._ns(at + ms / 1000))
            at += ms / 1000
        span.end(self._ns(report.ended))

    def interruption(self, report: InterruptionReport) -> None:
        began = report.at - report.decision_ms / 1000
        attributes: dict[str, str | int | float] = {
            "bargein.level": report.level.value,
            "bargein.reason": report.reason,
            "bargein.response.id": report.response_id or "",
            "bargein.silence_ms": report.silence_ms,
            "bargein.decision_ms": report.decision_ms,
            "bargein.tokens_saved": report.saved_tokens,
        }
        self._span("bargein.interruption", began, self._session, attributes).end(self._ns(report.at))

    def pause(self, report: PauseReport) -> None:
        began = report.at - report.ms / 1000
        attributes: dict[str, str | int | float] = {
            "bargein.reason": report.reason,
            "bargein.resumed": report.resumed,
        }
        self._span("bargein.pause", began, self._session, attributes).end(self._ns(report.at))

    def _span(self, name: str, began: float, parent: Span, attributes: dict[str, str | int | float]) -> Span:
        return self._tracer.start_span(
            name, set_span_in_context(parent), attributes=attributes, start_time=self._ns(began)
        )

    def _ns(self, loop_s: float) -> int:
        return int(loop_s * 1e9) + self._offset_ns
