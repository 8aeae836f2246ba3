"""Environment variables of a worker that `spec.engine.env` cannot set, because the platform's value wins.

The renderer sets them (render/environment.py); a test keeps both lists equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from sglang_operator.api.errors import FieldError
from sglang_operator.api.spec import EndpointSpec

ALWAYS: Final = frozenset(
    {
        "BASH_ENV",
        "HF_HOME",
        "RAY_BACKEND_LOG_LEVEL",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S",
        "RAY_LOG_TO_STDERR",
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S",
        "RAY_SERVE_ENABLE_HA_PROXY",
        "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS",
        "RAY_SERVE_HAPROXY_CLOSE_SPREAD_TIME_S",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_FALL",
        "RAY_SERVE_HAPROXY_NBTHREAD",
        "RAY_SERVE_HAPROXY_RETRY_ON",
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S",
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH",
        "RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT",
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD",
        "RAY_USAGE_STATS_ENABLED",
        "RAY_worker_niceness",
        "SGLANG_SERVE_PVC_ROOT",
    }
)
BY_VENDOR: Final[Mapping[str, frozenset[str]]] = {
    "nvidia": frozenset(),
    "amd": frozenset({"SGLANG_SET_CPU_AFFINITY"}),
    "cpu": frozenset({"SGLANG_USE_CPU_ENGINE"}),
}
_ROCR: Final = "ROCR_VISIBLE_DEVICES"
_DECOMPRESSION: Final = "SGLANG_ENABLE_REQUEST_DECOMPRESSION"
_UNBOUNDED: Final = (
    "compressed bodies pass spec.api.limits.maxBodyBytes: a few kilobytes become all of a replica's memory, and "
    "spec.api.unknownModel NotFound does not see their model"
)
_BOUNDED: Final = (
    "remove it, or give keys (spec.api.keysSecret) to those alone whom you trust with the replica's memory"
)
_OFF: Final = frozenset({"false", "0", "no", "n"})  # as SGLang reads it; what is neither this nor on, it refuses


def overridden(spec: EndpointSpec) -> Iterator[FieldError]:
    """A warning for each variable of the user that has no effect, or one that nobody wants."""
    vendor = spec.accelerator.vendor
    for index, variable in enumerate(spec.engine.env):
        path, name = f"spec.engine.env[{index}].name", variable.name
        if name in ALWAYS | BY_VENDOR[vendor] or (name == "HF_TOKEN" and spec.model.token_secret):
            yield FieldError(path, name, "has no effect: the platform sets this variable", "remove it")
        elif name == _ROCR and vendor == "amd":
            yield FieldError(path, name, "Ray refuses to start under it", "remove it: a replica sees its own devices")
        elif name == _DECOMPRESSION and variable.value.lower() not in _OFF:
            yield FieldError(path, name, _UNBOUNDED, _BOUNDED)
