"""The Serve application of a run: deploy it, follow it until it answers, delete it so that streams finish."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve._private.api import serve_start
from ray.serve.schema import ServeDeploySchema

from sglang_serve.local import front
from sglang_serve.local.events import Events
from sglang_serve.local.spec import Failed, Spec

POLL_SECONDS = 0.3
REST_SECONDS = 2.0  # once it answers: three looks a second took a 25th of a core from an engine on two
FRONT_SECONDS = 60  # from RUNNING until the proxy has the first replica: normally under a second


@contextmanager
def deployed(spec: Spec, events: Events, *, shared: bool) -> Iterator[None]:
    """Deploy what `serve run config.yaml` would, listening on the spec's address; delete it at the end.

    What does not answer yet has nothing to finish: it ends with its Ray, or in a `shared` one at once. "Running" alone
    would not do: it is also called unhealthy while it lacks one of several replicas.
    """
    name = spec.application["name"]
    try:
        _deploy(spec)
        yield
    finally:
        if _status(name) == "RUNNING" or front.is_up(spec.url):
            events.progress("stop", "running requests may finish")
            _delete(name, spec.grace_seconds)
        if shared:
            _kill_replicas(name)
            serve.shutdown()


def _status(name: str) -> str:
    application = serve.status().applications.get(name)
    return str(application.status.value) if application else "NOT_STARTED"


def _delete(name: str, seconds: float) -> None:
    serve.delete(name, _blocking=False)
    deadline = time.monotonic() + seconds
    while _status(name) != "NOT_STARTED" and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _kill_replicas(name: str) -> None:
    """Serve itself would wait until a replica has loaded before it stops it."""
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["name"].startswith(f"SERVE_REPLICA::{name}#"):
            ray.kill(ray.get_actor(actor["name"], actor["namespace"]))


def _deploy(spec: Spec) -> None:
    """As `serve run` and the dashboard that KubeRay talks to do it; there is no public way for a whole config."""
    config = ServeDeploySchema.model_validate(spec.serve_config)
    config.http_options.host, config.http_options.port = spec.http_host, spec.http_port
    client = serve_start(
        http_options=config.http_options.model_dump(),
        proxy_location=config.proxy_location,
        grpc_options=config.grpc_options.model_dump(),
        global_logging_config=config.logging_config,
        controller_options=config.controller_options,
    )
    client.deploy_apps(config)


def follow(spec: Spec, state_dir: Path, events: Events, each_time: Callable[[], None]) -> None:
    """Report progress until the application answers, then its changes, for ever. Raises Failed if it cannot start.

    `each_time` is called between two looks. It ends by an exception only: the one that a signal raises.
    """
    replicas = _Replicas(state_dir, events)
    status = ""
    while True:
        replicas.report()
        status = _report_status(spec, events, status)
        each_time()
        time.sleep(REST_SECONDS if status == "RUNNING" else POLL_SECONDS)


def _report_status(spec: Spec, events: Events, before: str) -> str:
    name = spec.application["name"]
    status = _status(name)
    if status == before:
        return status
    if status == "DEPLOY_FAILED":
        raise Failed("DeployFailed", _last_line(name), "read the log")
    if status == "RUNNING" and before in {"", "DEPLOYING", "NOT_STARTED"}:
        _wait_for_front(spec)
        events.send("ready", url=spec.url)
    elif status not in {"DEPLOYING", "NOT_STARTED"}:
        events.send("status", status=status, message=_last_line(name))
    return status


def _last_line(name: str) -> str:
    """The end of the longest message, where a traceback has its error."""
    application = serve.status().applications[name]
    messages = [application.message, *(one.message for one in application.deployments.values())]
    lines = [line.strip() for line in max(messages, key=len).splitlines() if line.strip()]
    return lines[-1] if lines else "Ray Serve gave no reason"


def _wait_for_front(spec: Spec) -> None:
    """Wait until the HTTP front has a way to a replica: Serve's controller calls it running before the front knows."""
    deadline = time.monotonic() + FRONT_SECONDS
    while not front.is_up(spec.url):
        if time.monotonic() > deadline:
            raise Failed("NoFront", f"{spec.url} does not answer although the replica runs", "read the log")
        time.sleep(POLL_SECONDS)


class _Replicas:
    """The steps that each replica writes into its directory (`sglang_serve.progress`)."""

    def __init__(self, state_dir: Path, events: Events) -> None:
        self._state_dir = state_dir
        self._events = events
        self._seen: dict[Path, dict[str, Any]] = {}

    def report(self) -> None:
        """Send what is new. Raises Failed when a replica could not start: another try would fail the same way."""
        for path in sorted(self._state_dir.glob("*/progress.json")):
            with suppress(OSError, ValueError):  # removed, or not yet whole
                self._report_one(path, json.loads(path.read_text()))

    def _report_one(self, path: Path, state: dict[str, Any]) -> None:
        if self._seen.get(path) == state:
            return
        self._seen[path] = state
        if state["step"] == "failed":
            raise Failed(state.get("reason", "StartFailed"), state["message"], state.get("remedy", ""))
        self._events.progress(state["step"], state["message"], replica=path.parent.name)
