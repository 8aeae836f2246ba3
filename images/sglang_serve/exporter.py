"""One page of metrics for each pod: SGLang's series of every replica that lives in it, on a fixed port.

`/metrics` behind the front reaches one replica or another; here each has its labels. The replica that gets the port
first answers for all of its pod, and when it goes another one takes its place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from sglang_serve import leftovers

AGAIN_SECONDS: Final = 5.0
Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class AllReplicas(Collector):
    """What the replicas that live in the state directory `state` count, with `labels` and the replica's name."""

    def __init__(self, state: Path, labels: Mapping[str, str]) -> None:
        self._state = state
        self._labels = labels

    def collect(self) -> Iterable[Metric]:
        """One family for each name, with the samples of all replicas."""
        families: dict[str, Metric] = {}
        for directory in leftovers.held(self._state):
            for one in _metrics(directory):
                family = families.setdefault(one.name, Metric(one.name, one.documentation, one.type))
                labels = {**self._labels, "replica": directory.name}
                family.samples += [sample._replace(labels=_joined(sample.labels, labels)) for sample in one.samples]
        return families.values()


def _joined(own: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """A label of SGLang's that is called as one of ours gets the name that Prometheus gives it: its requests have an
    `endpoint`, which is the path."""
    return {f"exported_{name}" if name in ours else name: value for name, value in own.items()} | dict(ours)


def _metrics(directory: Path) -> Iterable[Metric]:
    """None of a replica that still fetches its model, or ends while its files are read: those of the others count."""
    try:
        collector = MultiProcessCollector(None, path=str(directory / leftovers.METRICS))  # type: ignore[no-untyped-call]
        found: Iterable[Metric] = collector.collect()  # type: ignore[no-untyped-call]  # the library's
    except (ValueError, FileNotFoundError):  # no such directory, or not any more
        return ()
    return found


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """A scrape each half minute is no news."""


def _plain(collector: Collector) -> Application:
    """The page in Prometheus' own text format, whatever is asked for: in OpenMetrics the library (0.26) turns the colon
    of SGLang's names into an underscore for every Prometheus before version 3."""
    registry = CollectorRegistry()
    registry.register(collector)
    page = make_wsgi_app(registry)
    return lambda environ, start: page({**environ, "HTTP_ACCEPT": "text/plain"}, start)


def serve(port: int, collector: Collector, sleep: Callable[[float], None] = time.sleep) -> threading.Thread:
    """Answer on `port`, from a daemon thread, as soon as nobody else does; it ends when it has the port."""

    app = _plain(collector)

    def take() -> None:
        while True:
            try:
                server = make_server("", port, app, _Server, _Quiet)
            except OSError:  # another replica of this pod has it
                sleep(AGAIN_SECONDS)
            else:
                threading.Thread(target=server.serve_forever, name="metrics-page", daemon=True).start()
                return

    thread = threading.Thread(target=take, name="metrics", daemon=True)
    thread.start()
    return thread
