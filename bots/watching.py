"""What is measured and written of the sessions of a server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ..pipeline import Processor, Session
from ..pipeline.observing import Listener, Turns
from ..pipeline.observing.prometheus import Prometheus
from ..pipeline.observing.spans import Spans
from ..transports.events import EventLog
from ..transports.rtvi import RTVI


class Watch:
    """Observes sessions: as OpenTelemetry spans, and for clients that speak RTVI, always.

    Args:
        metrics: Adds them up.
        logs: A directory for a log of each session, with every word of it; it is made if it is not there.

    Raises:
        OSError: The directory cannot be made.
    """

    def __init__(self, metrics: Prometheus | None = None, logs: Path | None = None) -> None:
        self.metrics = metrics
        self._logs = logs
        if logs is not None:
            logs.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def session(self, session: Session, name: str, clients: Iterable[Processor] = ()) -> Iterator[None]:
        """Observe a session that is about to run inside the block.

        Args:
            session: Not running yet.
            name: A part of its log's name.
            clients: Those of its processors that tell a client what happens.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        spans = Spans(began)
        listeners: list[Listener] = [spans, *(client for client in clients if isinstance(client, RTVI))]
        with ExitStack() as stack:
            stack.enter_context(spans.session())
            if self.metrics is not None:
                listeners.append(self.metrics)
                self.metrics.session_began()
                stack.callback(self.metrics.session_ended, session)
            if self._logs is not None:
                path = self._logs / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}.jsonl"
                log = EventLog(stack.enter_context(path.open("w", encoding="utf-8")), lambda: clock() - began)
                session.observe(log)
                listeners.append(log)
            Turns(session, *listeners)
            yield
