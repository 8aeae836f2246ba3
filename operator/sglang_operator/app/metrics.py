"""Prometheus metrics. docs/operations/operator.md lists them; a test keeps both equal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from sglang_operator.app.endpoint_metrics import EndpointMetrics
from sglang_operator.cluster.types import Key
from sglang_operator.cluster.workers import CONFLICT, ERROR, RESULTS

PREFIX: Final = "sglang_operator_"
OTHER: Final = "other"  # what is about no kind: discovery
# A pass asks some pods and the API server: from a few requests to many with slow answers.
PASS_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, of no use here
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._passes = self._counter("reconcile", "Passes by how they ended.", ["result"])
        self._pass_seconds = Histogram(
            f"{PREFIX}reconcile_seconds", "Duration of passes.", buckets=PASS_BUCKETS, registry=self.registry
        )
        self._depth = self._gauge("queue_depth", "Endpoints that wait for a worker.")
        self._retries = self._counter("queue_retries", "Passes that are tried again after a failure or a conflict.")
        self._longest = self._gauge("longest_running_seconds", "Age of the oldest pass that runs now.")
        self._lag = self._gauge("event_loop_lag_seconds", "How late the event loop woke up last.")
        self._requests = self._counter("api_requests", "Requests to the API server.", ["verb", "kind", "code"])
        self._endpoints = EndpointMetrics(PREFIX, self.registry)
        self._leader = self._gauge("leader", "1 if this process holds the lease.")
        self._build = self._gauge("build_info", "1, with the version of the operator.", ["version"])
        self._build.labels(version("sglang-operator")).set(1)
        for result in RESULTS:
            self._passes.labels(result)  # a series that starts at 0 shows its first error to rate()

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)

    def passed(self, result: str, seconds: float) -> None:
        """A pass has ended."""
        self._passes.labels(result).inc()
        self._pass_seconds.observe(seconds)
        if result in (CONFLICT, ERROR):
            self._retries.inc()

    def asked(self, verb: str, path: str, status: int) -> None:
        """A request to the API server has ended; `status` 0: without an answer."""
        self._requests.labels(verb, kind_of(path), str(status)).inc()

    def watch(self, depth: Callable[[], float], longest: Callable[[], float], lag: Callable[[], float]) -> None:
        """Ask these whenever somebody reads the metrics."""
        self._depth.set_function(depth)
        self._longest.set_function(longest)
        self._lag.set_function(lag)

    def leads(self, yes: bool) -> None:
        """Whether this process holds the lease."""
        self._leader.set(yes)

    def report(self, key: Key, status: Mapping[str, Any] | None) -> None:
        """The status of an endpoint after a pass; None: it is gone."""
        self._endpoints.report(key, status)

    def keep_only(self, keys: Iterable[Key]) -> None:
        """Drop the series of endpoints that are gone, also of those whose deletion no watch has told."""
        self._endpoints.keep_only(keys)

    def _counter(self, name: str, text: str, labels: Iterable[str] = ()) -> Counter:
        return Counter(f"{PREFIX}{name}_total", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
        return Gauge(f"{PREFIX}{name}", text, labels, registry=self.registry)


def kind_of(path: str) -> str:
    """Plural of the kind that a path is about, with its subresource: never a name, so that the series stay few."""
    match path.strip("/").split("/"):
        case ["api", _, *rest] | ["apis", _, _, *rest] if rest:
            pass
        case _:
            return OTHER
    match rest:
        case ["namespaces", _, plural, _, subresource, *_]:
            return f"{plural}/{subresource}"
        case ["namespaces", _, plural, *_]:
            return plural
        case [plural, *_]:
            return plural
    return OTHER
