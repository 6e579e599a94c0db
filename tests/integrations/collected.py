"""What OpenTelemetry's own SDK collects in memory of a test."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from nebula_async import AsyncNebula, Config, RetryPolicy
from nebula_async.integrations.opentelemetry import Telemetry

SCHNELL = "black-forest-labs/FLUX.1-schnell"
SMALL = {"model": SCHNELL, "width": 16, "height": 16}


@frozen
class Collected:
    """An SDK of a test's own, and what came there."""

    exporter: InMemorySpanExporter = field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(factory=InMemoryMetricReader)
    tracers: TracerProvider = field(factory=TracerProvider)
    meters: MeterProvider = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        object.__setattr__(self, "meters", MeterProvider([self.reader]))

    def telemetry(self, **options: Any) -> Telemetry:
        """Return an observer that tells it."""
        return Telemetry(self.tracers, self.meters, **options)

    @property
    def tracer(self) -> Tracer:
        """What the application makes spans of its own with."""
        return self.tracers.get_tracer("application")

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended, in that order."""
        return self.exporter.get_finished_spans()

    def calls(self) -> list[ReadableSpan]:
        """Return those of calls."""
        return [span for span in self.spans if span.name.startswith("generate_content")]

    def numbers(self, name: str, *by: str) -> dict[Any, Any]:
        """Return a metric's values by these attributes; of a histogram the points themselves."""
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        found = [metric for scope in scopes for metric in scope.metrics if metric.name == name]
        points = [point for metric in found for point in metric.data.data_points]
        return {tuple(point.attributes.get(each) for each in by): getattr(point, "value", point) for point in points}


def client(emulator, collected: Collected, **options: Any) -> AsyncNebula:
    """Return a client that tells what is collected, without waits of its own."""
    config = Config(retry=RetryPolicy(backoff=0), allowed_image_hosts=(emulator.storage_host,))
    options.setdefault("observer", collected.telemetry())
    urls = {"base_url": emulator.base_url}
    return AsyncNebula(emulator.key, config=options.pop("config", config), **urls, **options)


def steps(span: ReadableSpan) -> list[tuple[str, dict[str, Any]]]:
    """Return the events of a span, with their attributes."""
    return [(event.name, dict(event.attributes)) for event in span.events]
