"""Prometheus metrics of the API: requests, predictions, freshness of features, models served."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from time import perf_counter

from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from serving.champions import Champions
from serving.feature_row import FeatureRow
from serving.models import ServedModel

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class _ServingVersions(Collector):
    """The versions that serve at the moment of the scrape."""

    def __init__(self, champions: Champions) -> None:
        self._champions = champions

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "daima_model_serving",
            "1 for each version that serves",
            labels=["model", "version", "alias"],
        )
        for model in self._champions.line.models.values():
            family.add_metric([model.name, model.version, model.alias], 1)
        yield family


class Metrics:
    """The metrics of one app, in a registry of their own."""

    def __init__(self, champions: Champions) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "daima_http_requests", "Requests", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "daima_http_request_seconds",
            "Time from a request's routing to the start of its answer",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._predictions = Counter(
            "daima_predictions", "Predictions made", ["model", "version"], registry=self.registry
        )
        self._views = Counter(
            "daima_feature_rows",
            "Rows read online by feature view and status",
            ["view", "status"],
            registry=self.registry,
        )
        self._unreadable = Counter(
            "daima_unreadable_values",
            "Values in the online store that are no value of their feature",
            ["feature"],
            registry=self.registry,
        )
        self.registry.register(_ServingVersions(champions))

    def count_rows(self, rows: Sequence[FeatureRow]) -> None:
        """Count what was read, by view and status, and what could not be read."""
        tally = Tally(pair for row in rows for pair in row.views.items())
        for (view, status), count in tally.items():
            self._views.labels(view, status.value).inc(count)
        for ref, count in Tally(ref for row in rows for ref in row.unreadable).items():
            self._unreadable.labels(ref).inc(count)

    def count_predictions(self, model: ServedModel, count: int) -> None:
        """Count predictions of one version."""
        self._predictions.labels(model.name, model.version).inc(count)

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)

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
        self._requests.labels(route, message["status"]).inc()
        started = scope["state"].get("started")
        if started is not None:
            self._seconds.labels(route).observe(perf_counter() - started)
