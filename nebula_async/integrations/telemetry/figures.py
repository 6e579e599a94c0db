"""What calls count up to, as OpenTelemetry's metrics.

Each step of a call only adds to a number here; what a collection reads are the sums. So a call pays for one record,
that of its duration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import RLock
from typing import Protocol, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

from attrs import define, field
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation

from nebula_async.api.catalog import CATALOG
from nebula_async.events import Abandoned, Asked, Event, Failed, Generated, Resumed, Retrying
from nebula_async.integrations.telemetry import genai

SCOPE = "nebula_async"

MOST_MODELS = 32
"""So many models that are not in the catalogue are told apart; where users name them, there is no end to the names."""

DURATION_BUCKETS = (0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 120, 180, 300)
"""Upper bounds in seconds: a picture takes 1 to 120 s, and a call at most 300 unless that is changed."""

NO_SPAN = trace.set_span_in_context(trace.INVALID_SPAN, Context())
"""Durations have no exemplars: with one for each, a record costs twice as much."""

Attributes: TypeAlias = dict[str, str | int]
Reading: TypeAlias = Iterable[Observation]

Ending: TypeAlias = Generated | Failed | Abandoned

OPERATION: Attributes = {genai.OPERATION: genai.GENERATE_CONTENT, genai.PROVIDER: genai.NEBULA_BLOCK}


@define(eq=False)
class Sums:
    """What the calls for one model of one server came to."""

    attributes: Attributes
    span_name: str
    span_facts: Attributes
    server: ServerSums
    images: int = 0
    at_least: int = 0
    at_most: int = 0
    retries: Counter[str] = field(factory=Counter)
    known: dict[str, Attributes] = field(factory=dict)

    def of_duration(self, error_type: str | None) -> Attributes:
        """Return the attributes under which the duration of a call is recorded: few, they cost more than the rest."""
        name = error_type or ""
        found = self.known.get(name)
        if found is None:
            about_error: Attributes = {genai.ERROR_TYPE: name} if name else {}
            model: Attributes = {genai.REQUEST_MODEL: self.attributes[genai.REQUEST_MODEL]}
            found = self.known[name] = OPERATION | model | about_error
        return found


class Counted(Protocol):
    """A call that is counted among these sums."""

    sums: Sums


@define(eq=False)
class UnderWay:
    """The calls of one observer that began and have not ended."""

    calls: Mapping[str, Counted]


@define(eq=False)
class ServerSums:
    """What the calls to one server know of its limits, and how long it held everyone."""

    attributes: Attributes
    per_minute: float | None = None
    concurrency: int = 0
    waited: float = 0.0


@define(eq=False)
class Figures:
    """All sums that one meter reports. Calls of several event loops and threads add to them."""

    durations: Histogram
    under_way: WeakSet[UnderWay] = field(factory=WeakSet)
    lock: RLock = field(factory=RLock)
    _sums: dict[tuple[str, str, int], Sums] = field(factory=dict, init=False)
    _servers: dict[tuple[str, int], ServerSums] = field(factory=dict, init=False)
    _others: set[str] = field(factory=set, init=False)

    def sums_of(self, model: str, address: str, port: int) -> Sums:
        """Return the sums of a model at a server; models beyond the first ones share theirs."""
        model = self.label(model)
        found = self._sums.get((model, address, port))
        if found is None:
            attributes: Attributes = {
                genai.REQUEST_MODEL: model,
                genai.SERVER_ADDRESS: address,
                genai.SERVER_PORT: port,
            }
            found = self._sums.setdefault((model, address, port), make_sums(attributes, self.server_of(address, port)))
        return found

    def server_of(self, address: str, port: int) -> ServerSums:
        """Return the sums of a server."""
        found = self._servers.get((address, port))
        if found is None:
            attributes: Attributes = {genai.SERVER_ADDRESS: address, genai.SERVER_PORT: port}
            found = self._servers.setdefault((address, port), ServerSums(attributes))
        return found

    def begun(self, event: Asked) -> Sums:
        """Take note of the limits that a call which begins is kept to, and return the sums that it belongs to."""
        sums = self._sums.get((event.model, event.address, event.port)) or self.sums_of(
            event.model, event.address, event.port
        )
        server = sums.server
        server.per_minute, server.concurrency = event.per_minute, event.concurrency
        return sums

    def ended(
        self,
        sums: Sums,
        ending: Ending,
        steps: Iterable[tuple[int, Event]],
        error: str | None,
        seconds: float,
    ) -> None:
        """Count what a call came to, which took so many seconds."""
        with self.lock:
            sums.images += ending.pictures if isinstance(ending, Generated) else 0
            sums.at_least += ending.charges.at_least
            sums.at_most += ending.charges.at_most
            for _, event in steps:
                if isinstance(event, Retrying):
                    sums.retries[event.reason] += 1
                elif isinstance(event, Resumed):
                    sums.server.waited += event.seconds
        self.durations.record(seconds, sums.of_duration(error), NO_SPAN)

    def label(self, model: str) -> str:
        """Return the name under which a model is counted."""
        if model in CATALOG or model in self._others:
            return model
        if len(self._others) >= MOST_MODELS:
            return genai.OTHER
        self._others.add(model)
        return model

    def by_model(self, read: Callable[[Sums], float]) -> Callable[[CallbackOptions], Reading]:
        """Return what reads a sum of each model."""
        return lambda _: [Observation(read(sums), sums.attributes) for sums in list(self._sums.values())]

    def by_server(self, read: Callable[[ServerSums], float | None]) -> Callable[[CallbackOptions], Reading]:
        """Return what reads a sum of each server, where it is known."""

        def observe(_: CallbackOptions) -> Iterator[Observation]:
            for server in list(self._servers.values()):
                if (value := read(server)) is not None:
                    yield Observation(value, server.attributes)

        return observe

    def active(self, _: CallbackOptions) -> Reading:
        """Read how many calls are under way, of each model."""
        counts = Counter(id(call.sums) for each in list(self.under_way) for call in list(each.calls.values()))
        return [Observation(counts[id(sums)], sums.attributes) for sums in list(self._sums.values())]

    def retries(self, _: CallbackOptions) -> Reading:
        """Read the retries of each model, by reason."""
        return [
            Observation(count, {**sums.attributes, genai.RETRY_REASON: reason})
            for sums in list(self._sums.values())
            for reason, count in list(sums.retries.items())
        ]


def make_sums(attributes: Attributes, server: ServerSums) -> Sums:
    """Return sums of the model and server that these attributes name."""
    model = attributes[genai.REQUEST_MODEL]
    name = genai.GENERATE_CONTENT if model == genai.OTHER else f"{genai.GENERATE_CONTENT} {model}"
    return Sums(attributes, name, {**OPERATION, genai.OUTPUT_TYPE: genai.IMAGE, **attributes}, server)


def make_figures(meter: Meter) -> Figures:
    """Return sums that this meter reports."""
    figures = Figures(
        meter.create_histogram(
            genai.DURATION_METRIC,
            unit="s",
            description="How long calls for pictures took, waits and all attempts included.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
    )
    _observe_calls(meter, figures)
    _observe_limits(meter, figures)
    return figures


def _observe_calls(meter: Meter, figures: Figures) -> None:
    meter.create_observable_up_down_counter(
        genai.ACTIVE_METRIC,
        [figures.active],
        "{call}",
        "Calls that are under way.",
    )
    meter.create_observable_counter(
        genai.RETRIES_METRIC, [figures.retries], "{retry}", "Attempts that failed and were repeated, by reason."
    )
    meter.create_observable_counter(
        genai.IMAGES_METRIC, [figures.by_model(lambda sums: sums.images)], "{image}", "Pictures that came."
    )
    meter.create_observable_counter(
        genai.AT_LEAST_METRIC,
        [figures.by_model(lambda sums: sums.at_least)],
        "{image}",
        "Pictures that were charged for certain.",
    )
    meter.create_observable_counter(
        genai.AT_MOST_METRIC,
        [figures.by_model(lambda sums: sums.at_most)],
        "{image}",
        "Pictures that may have been charged, those that were included.",
    )


def _observe_limits(meter: Meter, figures: Figures) -> None:
    meter.create_observable_counter(
        genai.WAIT_METRIC, [figures.by_server(lambda server: server.waited)], "s", "How long refusals held everyone."
    )
    meter.create_observable_gauge(
        genai.RATE_METRIC,
        [figures.by_server(lambda server: server.per_minute)],
        "{request}/min",
        "The rate limit that the client keeps to.",
    )
    meter.create_observable_gauge(
        genai.CONCURRENCY_METRIC,
        [figures.by_server(lambda server: server.concurrency)],
        "{request}",
        "How many requests the client sends at a time.",
    )


_known: WeakKeyDictionary[MeterProvider, Figures] = WeakKeyDictionary()
_global: WeakSet[MeterProvider] = WeakSet()
"""What was the global provider when it was first asked for; one that is set later goes on with its instruments."""


def figures_of(provider: MeterProvider | None) -> Figures:
    """Return the sums that this provider reports, the same for all who ask: a meter takes each instrument once.

    `None` is the global one, and may be set later.
    """
    current = metrics.get_meter_provider()
    if provider is None or provider is current:
        provider = current if current in _known else next(iter(_global), current)
        _global.add(provider)
    found = _known.get(provider)
    if found is None:
        found = _known[provider] = make_figures(provider.get_meter(SCOPE))
    return found
