"""The providers of OpenTelemetry in this process, which keep in memory what is reported to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

__all__ = ["Traced", "traced"]


@dataclass(frozen=True)
class Traced:
    """What was reported."""

    provider: TracerProvider
    meters: MeterProvider
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    def spans(self) -> list[ReadableSpan]:
        """The spans that ended since they were taken last."""
        spans = list(self.exporter.get_finished_spans())
        self.exporter.clear()
        return spans

    def points(self, *names: str) -> dict[str, dict[tuple[str, ...], Any]]:
        """The points of metrics since the beginning of the process, by the values of their attributes.

        A point of a histogram is its count and its sum.
        """
        data = self.reader.get_metrics_data()
        found: dict[str, dict[tuple[str, ...], Any]] = {}
        for resource in [] if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if not names or metric.name in names:
                        found[metric.name] = {
                            tuple(map(str, (point.attributes or {}).values())): _value(point)
                            for point in metric.data.data_points
                        }
        return found


@cache
def traced() -> Traced:
    """Set the providers, which a process can do once."""
    provider, exporter, reader = TracerProvider(), InMemorySpanExporter(), InMemoryMetricReader()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider([reader])
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(meters)
    return Traced(provider, meters, exporter, reader)


def marks(span: ReadableSpan) -> Mapping[str, Any]:
    """The attributes of a span that are Musubito's, by the ends of their names."""
    names = span.attributes or {}
    return {name.removeprefix("musubito."): value for name, value in names.items() if name.startswith("musubito.")}


def linked(span: ReadableSpan) -> Sequence[tuple[int, int]]:
    """The traces and spans that a span links to."""
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def _value(point: Any) -> Any:
    return point.value if hasattr(point, "value") else (point.count, point.sum)
