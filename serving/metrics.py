"""Prometheus metrics of the API: requests, predictions, freshness of features, models served.

What every request counts is kept in plain numbers of this one event loop, which cost under 1 µs;
prometheus_client's own counters, made for threads and processes, took 6 µs a request (measured).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter

from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from serving.champions import Champions
from serving.feature_row import FeatureRow
from serving.models import ServedModel
from serving.overload import Gate
from serving.statuses import Statuses

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_MOST_PATTERNS = 1000
Labels = tuple[str, ...]


class Count:
    """A counter with labels.

    >>> count = Count("daima_events", "Events handed in", ("outcome",))
    >>> count.add(("accepted",), 3)
    >>> count.values
    {('accepted',): 3}
    """

    def __init__(self, name: str, meaning: str, labels: Labels) -> None:
        self.values: dict[Labels, int] = {}
        self._name, self._meaning, self._labels = name, meaning, labels

    def add(self, labels: Labels, count: int = 1) -> None:
        """Count; `labels` in the order of their names."""
        self.values[labels] = self.values.get(labels, 0) + count

    def family(self) -> CounterMetricFamily:
        """The samples."""
        family = CounterMetricFamily(self._name, self._meaning, labels=self._labels)
        for labels, count in list(self.values.items()):
            family.add_metric(labels, count)
        return family


class _Durations:
    """How long the requests of one route took: `_SECONDS` upper bounds, and what is longer."""

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(_SECONDS) + 1)
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(_SECONDS, seconds)] += 1
        self.total_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """(upper bound, how many took at most that long), as Prometheus has it."""
        found, so_far = [], 0
        for bound, count in zip((*map(str, _SECONDS), "+Inf"), self.counts, strict=True):
            so_far += count
            found.append((bound, float(so_far)))
        return found


class Metrics(Collector):
    """The metrics of one app, in a registry of their own. Counted on its event loop only."""

    def __init__(self, champions: Champions) -> None:
        self.registry = CollectorRegistry()
        self.events = Count("daima_events", "Events handed in", ("outcome",))
        self._champions = champions
        self._requests: dict[tuple[str, int], int] = {}
        self._durations: dict[str, _Durations] = {}
        self._predictions = Count("daima_predictions", "Predictions made", ("model", "version"))
        self._views = Count(
            "daima_feature_rows", "Rows read online by feature view and status", ("view", "status")
        )
        self._unreadable = Count(
            "daima_unreadable_values",
            "Values in the online store that are no value of their feature",
            ("feature",),
        )
        self._other_versions = Count(
            "daima_other_embedding_versions",
            "Predictions without the customer's vector, since it was of another embedding version "
            "than the model's",
            ("model", "version"),
        )
        self._patterns: dict[Statuses, int] = {}
        self._gauges: list[tuple[str, str, Callable[[], float]]] = []
        self._counters: list[tuple[str, str, Callable[[], float]]] = []
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    def watch(
        self, name: str, meaning: str, read: Callable[[], float], *, rising: bool = False
    ) -> None:
        """Add a number that is read at each scrape; `rising`: a count that only grows."""
        (self._counters if rising else self._gauges).append((name, meaning, read))

    def watch_gate(self, gate: Gate) -> None:
        """Add what is in flight, and what was turned away."""
        self.watch("daima_in_flight", "Requests in flight", lambda: gate.in_flight)
        self.watch(
            "daima_refused_requests",
            "Requests turned away since too many were in flight",
            lambda: gate.refused,
            rising=True,
        )

    def count_rows(self, rows: Sequence[FeatureRow]) -> None:
        """Count what was read, by view and status, and what could not be read."""
        tally = Tally(pair for row in rows for pair in row.views.items())
        for (view, status), count in tally.items():
            self._views.add((view, status.value), count)
        for ref, count in Tally(ref for row in rows for ref in row.unreadable).items():
            self._unreadable.add((ref,), count)

    def count_statuses(self, statuses: Sequence[Statuses]) -> None:
        """The same, of rows whose statuses are shared: a pattern is counted as a whole."""
        patterns = self._patterns
        for pattern in statuses:
            patterns[pattern] = patterns.get(pattern, 0) + 1
        if len(patterns) > _MOST_PATTERNS:
            self._count_patterns()

    def _count_patterns(self) -> None:
        patterns, self._patterns = self._patterns, {}
        for pattern, count in patterns.items():
            for view, status in pattern.views.items():
                self._views.add((view, status.value), count)
            for ref in pattern.unreadable:
                self._unreadable.add((ref,), count)

    def count_predictions(self, model: ServedModel, count: int) -> None:
        """Count predictions of one version."""
        self._predictions.add((model.name, model.version), count)

    def count_other_versions(self, model: ServedModel, count: int) -> None:
        """Count rows whose vector the version was not fed."""
        self._other_versions.add((model.name, model.version), count)

    def record(self, route: str, status: int, seconds: float) -> None:
        """Count one answer, and how long it took; under 1 µs."""
        key = route, status
        requests = self._requests
        requests[key] = requests.get(key, 0) + 1
        durations = self._durations.get(route)
        if durations is None:
            durations = self._durations[route] = _Durations()
        durations.observe(seconds)

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """Prometheus' question at a scrape."""
        self._count_patterns()
        requests = CounterMetricFamily(
            "daima_http_requests", "Requests", labels=["route", "status"]
        )
        for (route, status), count in self._requests.items():
            requests.add_metric([route, str(status)], count)
        yield requests
        seconds = HistogramMetricFamily(
            "daima_http_request_seconds",
            "Time from a request's arrival to its answer",
            labels=["route"],
        )
        for route, durations in self._durations.items():
            seconds.add_metric([route], durations.buckets(), durations.total_s)
        yield seconds
        for counted in (
            self._predictions,
            self._views,
            self._unreadable,
            self._other_versions,
            self.events,
        ):
            yield counted.family()
        for name, meaning, read in self._gauges:
            yield GaugeMetricFamily(name, meaning, value=read())
        for name, meaning, read in self._counters:
            yield CounterMetricFamily(name, meaning, value=read())
        serving = GaugeMetricFamily(
            "daima_model_serving",
            "1 for each version that serves",
            labels=["model", "version", "alias"],
        )
        for model in self._champions.line.served():
            serving.add_metric([model.name, model.version, model.alias], 1)
        yield serving

    def timed(self, app: ASGIApp) -> ASGIApp:
        """Middleware that notes when a request was routed."""

        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"]["started"] = perf_counter()
            await app(scope, receive, send)

        return call

    async def observe(self, message: Message, scope: Scope) -> None:
        """A `before_send` hook: counts each answer, also those that no route gave."""
        if message["type"] != "http.response.start":
            return
        # The template, not the path: paths are without number.
        route = scope.get("path_template") or "unknown"
        started = scope["state"].get("started")
        self.record(route, message["status"], 0.0 if started is None else perf_counter() - started)
