"""The Ray of a run: one that is running is used and left; otherwise one is started for this run alone, and stopped.

Its own Ray is not found by other programs (theirs look in /tmp/ray), and its ports are free ones. Importing this module
imports Ray, which reads its settings then: the environment comes first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import serve

from sglang_serve.local.processes import kill_descendants
from sglang_serve.local.spec import Failed, Spec, needed_cpus, needed_gpus

OBJECT_STORE_BYTES = 128 * 2**20  # requests do not pass through it; Ray's default takes 30 % of the memory
ATTEMPTS = 3
_COMMON: dict[str, Any] = {"namespace": "serve", "logging_level": "warning"}


@contextmanager
def own_ray(spec: Spec, run: Path) -> Iterator[None]:
    """A Ray head in `run` with as many logical CPUs as the replicas ask for; its processes are children of this one."""
    try:
        _start_ray(int(needed_cpus(spec.application)), run)
        _require_gpus(spec.application)
        yield
    finally:
        ray.shutdown()


def _start_ray(cpus: int, run: Path) -> None:
    """Start it, with several tries: Ray gives its own processes 30 s, which a busy machine with cold caches exceeds."""
    for attempt in range(ATTEMPTS):
        try:
            return _init_own(cpus, run / f"r{attempt}")
        except Exception as error:  # noqa: BLE001 - Ray raises a plain Exception here
            reason = error
            ray.shutdown()
            kill_descendants()
    raise Failed("RayFailed", f"Ray does not start here: {reason}", "read the log; if the machine is busy, try again")


def _init_own(cpus: int, directory: Path) -> None:
    ray.init(
        address="local",
        num_cpus=max(os.cpu_count() or 1, cpus + 1),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(directory),
        log_to_driver=False,  # they write to our log themselves: rundir.own_ray_environment
        **_COMMON,
    )


@contextmanager
def shared_ray(address: str, env: Mapping[str, str], application: Mapping[str, Any]) -> Iterator[None]:
    """The Ray at `address`; `env` goes to our job's processes only. Refused if it serves: a deploy replaces that."""
    try:
        ray.init(address=address, runtime_env={"env_vars": dict(env)}, log_to_driver=True, **_COMMON)
    except (ConnectionError, RuntimeError) as error:  # another version of Ray or Python is a RuntimeError
        remedy = "stop it (ray stop) to get one for this run alone; if it wants a token, set RAY_AUTH_MODE=token"
        raise Failed("RayUnusable", f"cannot use the Ray at {address}: {error}", remedy) from error
    try:
        _require_no_serve(address)
        _require(application, address)
        yield
    finally:
        ray.shutdown()


def _require_no_serve(address: str) -> None:
    status = serve.status()
    if status.applications or status.proxies:
        raise Failed(
            "ServeInUse",
            f"the Ray at {address} already runs Ray Serve, and deploying there would replace its applications",
            "stop it (serve shutdown), or stop that Ray (ray stop): without one, this run starts its own",
        )


def _require(application: Mapping[str, Any], address: str) -> None:
    """What is lacking would be waited for without end."""
    _require_gpus(application)
    needed, found = needed_cpus(application), ray.cluster_resources().get("CPU", 0)
    if found < needed:
        raise Failed(
            "NotEnoughCpus",
            f"the endpoint needs {needed:g} logical CPUs, the Ray at {address} has {found:g}",
            "lower spec.replicas or spec.resources.cpu, or stop that Ray (ray stop): a run starts its own as needed",
        )


def _require_gpus(application: Mapping[str, Any]) -> None:
    needed, found = needed_gpus(application), ray.cluster_resources().get("GPU", 0)
    if found < needed:
        raise Failed(
            "NotEnoughAccelerators",
            f"the endpoint needs {needed:g} GPUs on this machine, Ray finds {found:g}",
            "lower spec.accelerator.count or spec.replicas, or use spec.accelerator.vendor: cpu",
        )
