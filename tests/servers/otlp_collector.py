"""A local OpenTelemetry collector: takes spans over OTLP/HTTP."""

from __future__ import annotations

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from .provider import Provider


class Collector(Provider):
    """Serves /v1/traces.

    Attributes:
        bodies: What came, unpacked.
        spans: All spans, in the order in which they came.
        resources: Who sent them, one for each request's part.
        scopes: The names of the tracers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes] = []
        self.spans: list[Span] = []
        self.resources: list[Resource] = []
        self.scopes: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/traces", self._take)]

    async def _take(self, request: web.Request) -> web.Response:
        if (status := self.refusal(request)) is not None:
            return web.Response(status=status)
        assert request.content_type == "application/x-protobuf"
        self.bodies.append(await request.read())
        export = ExportTraceServiceRequest.FromString(self.bodies[-1])
        for sender in export.resource_spans:
            self.resources.append(sender.resource)
            for scope in sender.scope_spans:
                self.scopes.add(scope.scope.name)
                self.spans.extend(scope.spans)
        self.note()
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")

    def named(self, name: str) -> list[Span]:
        """Spans of this name, in the order of their beginnings."""
        return sorted((s for s in self.spans if s.name == name), key=lambda span: span.start_time_unix_nano)

    def below(self, parent: Span) -> list[Span]:
        """Its children, in the order of their beginnings."""
        children = (s for s in self.spans if s.parent_span_id == parent.span_id)
        return sorted(children, key=lambda span: (span.start_time_unix_nano, span.end_time_unix_nano))


def plain(attributes: list[KeyValue]) -> dict[str, str | int | float | bool]:
    """Attributes as Python values."""
    values = ((a.key, a.value, a.value.WhichOneof("value")) for a in attributes)
    return {key: getattr(value, kind) for key, value, kind in values if kind is not None}
