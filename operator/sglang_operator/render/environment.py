"""The environment of head and worker containers. Each value that decides over loss has its reason beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sglang_operator.api import Endpoint
from sglang_operator.api.rules_address import BUCKETS
from sglang_operator.api.spec_model import EnvVar
from sglang_operator.render import names
from sglang_operator.render.quantity import whole_cores
from sglang_serve import args

Env = dict[str, Any]  # name -> literal text, or the `valueFrom` of a Kubernetes EnvVar

STREAM_SECONDS = 3600
"""Longest stream that a change of the replica set elsewhere lets live, in seconds; Ray's default is 120."""
MIN_DRAINING_SECONDS = 10
"""How long a stopping replica goes on accepting, so that every HAProxy has heard of it; Ray's default is 30."""

SGLANG_BY_VENDOR: Mapping[str, Mapping[str, str]] = {
    "nvidia": {},
    # The ROCm images pin processes to cores by GPU number, which fights the kubelet's cpusets. Ray knows AMD GPUs by
    # HIP_VISIBLE_DEVICES alone and refuses to start under ROCR_VISIBLE_DEVICES, so neither is set here.
    "amd": {"SGLANG_SET_CPU_AFFINITY": "0"},
    "cpu": {"SGLANG_USE_CPU_ENGINE": "1"},
}


HEAD_BY_VENDOR: Mapping[str, Mapping[str, str]] = {
    # CUDA bases say `all`: a head on a GPU node would see others' GPUs, where NVIDIA's runtime goes by this alone.
    "nvidia": {"NVIDIA_VISIBLE_DEVICES": "void"},
    "amd": {},
    "cpu": {},
}


def head_environment(endpoint: Endpoint) -> Env:
    """Literal environment of the head, which uses no accelerator."""
    return {**_ray_environment(endpoint), **HEAD_BY_VENDOR[endpoint.spec.accelerator.vendor]}


def _ray_environment(endpoint: Endpoint) -> Env:
    """Of heads and workers: the Serve controller reads the same settings as the workers' HAProxy.

    All but its threads, which are those of each pod's own cores."""
    return {
        **_serve_environment(endpoint.spec.upgrade.drain_seconds),
        args.HAPROXY_THREADS: args.haproxy_threads(whole_cores(endpoint.spec.head.cpu)),
        "RAY_USAGE_STATS_ENABLED": "0",  # no calls to the outside that nobody asked for
        # The preStop hooks have drained the node before Ray hears SIGTERM; Ray's own 30 s come on top of every end.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_worker_niceness": "0",  # Ray's 15 starves replica, engine and HAProxy beside anything else that runs
        # Else stdout of a replica is a file in /tmp/ray, which `kubectl logs` does not show; without the raylet's
        # statistics, a hundred lines a minute.
        "RAY_LOG_TO_STDERR": "1",
        "RAY_BACKEND_LOG_LEVEL": "warning",
        **_keys(endpoint),
    }


def worker_environment(endpoint: Endpoint) -> Env:
    """Environment of the workers. What the platform sets wins over `spec.engine.env`, but for a number of compilers."""
    user = {variable.name: _user_value(variable) for variable in endpoint.spec.engine.env}
    return {
        **_compilers(endpoint),
        **user,
        **_ray_environment(endpoint),
        args.HAPROXY_THREADS: args.haproxy_threads(whole_cores(endpoint.spec.resources.cpu)),
        **SGLANG_BY_VENDOR[endpoint.spec.accelerator.vendor],
        **_places(endpoint),
        # KubeRay's init container has the same environment: its shell hears SIGTERM then, and holds no node in vain.
        "BASH_ENV": names.WAIT_FOR_HEAD_SCRIPT,
    }


def env_list(env: Env) -> list[dict[str, Any]]:
    """As a Kubernetes container takes it."""
    return [
        {"name": name, "value": value} if isinstance(value, str) else {"name": name, "valueFrom": value}
        for name, value in env.items()
    ]


def _compilers(endpoint: Endpoint) -> Env:
    """How many at a time. AITER, which compiles kernels in AMD's pods, starts 0.8 for each core of the node."""
    if endpoint.spec.accelerator.vendor != "amd":
        return {}
    return {"MAX_JOBS": str(whole_cores(endpoint.spec.resources.cpu))}


def _serve_environment(drain_seconds: int) -> Env:
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        # Each change of the replica set starts a new HAProxy and ends the old one, streams of healthy replicas
        # included, after this time.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(max(STREAM_SECONDS, drain_seconds)),
        # At some moment within this time an old HAProxy answers 408 on a connection that has brought no request yet;
        # under `option httpclose` these are clients that have connected just now, so they should have time.
        "RAY_SERVE_HAPROXY_CLOSE_SPREAD_TIME_S": "600",
        # Whether a silent replica hangs or is busy is Serve's to say (health_check_timeout_s and its period); HAProxy
        # drops one after two checks of 5 s by default, and status misses it. One that refuses connections is out at
        # the third error as before.
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_FALL": "8",
        # An idle websocket ends here (default: one hour); a connection without a request earlier (HAPROXY_RETRY_ON).
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "86400",
        # `empty-response` repeats a request whose replica died before the first header; only what fits the buffer can
        # be repeated, hence 128 KiB instead of 16.
        "RAY_SERVE_HAPROXY_RETRY_ON": args.HAPROXY_RETRY_ON,
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "131072",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(MIN_DRAINING_SECONDS),
        # A hung engine must free its accelerator at once, or its replacement cannot be placed until the drain limit.
        "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
        # The app shares the event loop of Serve's HTTP server, as natively. Serve's default, a thread and a loop of its
        # own, hands each chunk from one to the other, and buffers without limit for a client that reads slowly.
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",  # at Serve's 0.1 the loop is a quarter of an idle head's work
        "RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT": "1000000",  # the other half of max_constructor_retry_count
        # Removes the request header that makes Serve stop watching whether the client is still there.
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": args.SERVE_MIDDLEWARES,
    }


def _places(endpoint: Endpoint) -> Env:
    """Where the pod mounts things, and the token of the hub."""
    model = endpoint.spec.model
    places: Env = {"HF_HOME": f"{names.CACHE_DIR}/huggingface", args.ENV_PVC_ROOT: names.PVC_ROOT}
    if model.uri.startswith(BUCKETS) or model.lora:
        places[args.ENV_OBJECTS_DIR] = names.OBJECTS_DIR
    if model.token_secret:
        places["HF_TOKEN"] = {"secretKeyRef": {"name": model.token_secret.name, "key": model.token_secret.key}}
    return places


def _keys(endpoint: Endpoint) -> Env:
    """Where the Secrets with keys are mounted."""
    api, places = endpoint.spec.api, Env()
    if api.keys_secret:
        places[args.ENV_KEYS_DIR] = names.KEYS_DIR
    if api.admin_key_secret:
        places[args.ENV_ADMIN_KEY_FILE] = f"{names.ADMIN_DIR}/{api.admin_key_secret.key}"
    return places


def _user_value(variable: EnvVar) -> str | dict[str, Any]:
    if variable.value_from is None:
        return variable.value
    return variable.value_from.model_dump(mode="json", by_alias=True, exclude_none=True)
