"""serveConfigV2: the Serve application that KubeRay deploys and that `kubectl sglang run` deploys unchanged."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any

from sglang_operator.api import Endpoint
from sglang_operator.api.spec_model import Lora, ModelSource
from sglang_operator.api.spec_scaling import Scaling
from sglang_operator.render import names
from sglang_operator.render.environment import MIN_DRAINING_SECONDS
from sglang_operator.render.revision import short_hash
from sglang_operator.render.shape import shape_of
from sglang_operator.render.yaml_text import to_yaml
from sglang_serve.args import (
    COMMIT,
    DEPLOYMENT,
    IMPORT_PATH,
    AdapterArgs,
    LiveArgs,
    LoraArgs,
    ModelArgs,
    ServeArgs,
    to_wire,
)

NEVER_GIVE_UP = 1_000_000
SHUTDOWN_SECONDS = 30
"""What stopping takes besides the drain: engine shutdown, clean-up, and Serve's own loop."""
REMEMBERED = 1024  # texts of 2 kB
KEEP_ALIVE_SECONDS = 620
"""Idle connections outlive those of any load balancer in front (600 s for Google's), which would otherwise send a
request into a connection that is just being closed."""
WAKE_SECONDS = 1
"""How often Serve looks for requests that wait while there is no replica."""


def serve_config(endpoint: Endpoint, revision: str) -> str:
    """serveConfigV2 of this `revision_name` as YAML text. It holds no secret: KubeRay logs it in clear."""
    config = {
        "proxy_location": "EveryNode",
        "http_options": {
            "host": "0.0.0.0",  # noqa: S104 - a pod's own network
            "port": names.SERVE_PORT,
            "keep_alive_timeout_s": KEEP_ALIVE_SECONDS,
        },
        "logging_config": {"enable_access_log": False},  # the replica writes a better line for each request
        "applications": [_application(endpoint, revision)],
    }
    return _as_yaml(json.dumps(config))


@functools.lru_cache(REMEMBERED)
def _as_yaml(config: str) -> str:
    """Of JSON. Each pass asks again, and YAML takes a quarter of what rendering takes in all."""
    return to_yaml(json.loads(config))


def graceful_shutdown_seconds(endpoint: Endpoint) -> int:
    """How long a replica may take from being told to stop until it is gone."""
    return endpoint.spec.upgrade.drain_seconds + MIN_DRAINING_SECONDS + SHUTDOWN_SECONDS


def _application(endpoint: Endpoint, revision: str) -> dict[str, Any]:
    return {
        "name": endpoint.name,
        "route_prefix": "/",
        "import_path": IMPORT_PATH,
        "args": to_wire(serve_args(endpoint, revision)),
        "deployments": [_deployment(endpoint)],
    }


def _deployment(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "name": DEPLOYMENT,
        **replica_count(endpoint.spec.replicas, endpoint.spec.scaling),
        # The engine queues, as natively: what waits in front of it is invisible to its scheduler and to autoscaling.
        "max_ongoing_requests": 100_000,
        "max_queued_requests": -1,
        "graceful_shutdown_timeout_s": graceful_shutdown_seconds(endpoint),
        # Serve gives up after three failures in a row, for good: a hub that is away for a minute would be enough. The
        # replicas themselves wait longer and longer before they try again (sglang_serve.backoff).
        "max_constructor_retry_count": NEVER_GIVE_UP,
        "health_check_period_s": 10,
        "health_check_timeout_s": 30,  # above SGLang's own 20 s for a generated token under load
        **shape_of(endpoint).placement,
        "user_config": to_wire(dataclasses.replace(live_args(endpoint), model_commit=_no_commit(endpoint.spec.model))),
    }


def replica_count(replicas: int, scaling: Scaling | None = None, floor: int = 0) -> dict[str, Any]:
    """The key of a deployment that says how many replicas it has; `floor`: at least so many for now.

    Also a fixed count is autoscaling, between equal bounds: `num_replicas` beside it would be other code for Ray Serve,
    which restarts every replica over it when spec.scaling comes or goes (ADR 0020).
    """
    if scaling:
        return {"autoscaling_config": _autoscaling(scaling, floor)}
    if replicas > 0:
        return {"autoscaling_config": {"min_replicas": replicas, "max_replicas": replicas}}
    # Serve takes zero only as the lower bound. There is nobody to scale it up: no pod is in the Service.
    return {"autoscaling_config": {"min_replicas": 0, "initial_replicas": 0, "max_replicas": 1}}


def _autoscaling(scaling: Scaling, floor: int) -> dict[str, Any]:
    """Of Ray Serve. Without `initial_replicas`: Serve would go back to that number at each in-place change."""
    # Serve hears of waiting requests at this interval, by default after up to 16 s (its push for the case of no replica
    # sends what was measured before). The setting is deprecated, but the variable that shall replace it has no effect.
    to_zero = {"downscale_to_zero_delay_s": scaling.idle_seconds_before_zero, "metrics_interval_s": WAKE_SECONDS}
    return {
        "min_replicas": max(scaling.min, min(floor, scaling.max)),
        "max_replicas": scaling.max,
        "target_ongoing_requests": scaling.target_ongoing_requests,
        "upscale_delay_s": scaling.upscale_delay_seconds,
        "downscale_delay_s": scaling.downscale_delay_seconds,
        **(to_zero if scaling.min == 0 else {}),
    }


def serve_args(endpoint: Endpoint, revision: str) -> ServeArgs:
    """What the engine is started with."""
    spec = endpoint.spec
    return ServeArgs(
        endpoint=endpoint.name,
        model=ModelArgs(uri=spec.model.uri, revision=spec.model.revision, served_name=spec.model.served_name),
        revision=revision,
        task=spec.task,
        vendor=spec.accelerator.vendor,
        parallelism=shape_of(endpoint).parallelism,
        engine=dict(sorted(spec.engine.args.items())),
        require_keys=spec.api.keys_secret is not None,
        admin=spec.api.admin_key_secret is not None,
        drain_seconds=spec.upgrade.drain_seconds,
        lora=_lora(spec.model.lora),
    )


def _lora(lora: Lora | None) -> LoraArgs | None:
    return LoraArgs(lora.max_rank, lora.target_modules, lora.max_loaded) if lora else None


def live_args(endpoint: Endpoint) -> LiveArgs:
    """What changes without a restart, with an id that a replica reports back once it is in force."""
    api = endpoint.spec.api
    hold = endpoint.spec.scaling.hold_seconds if endpoint.spec.scaling else None
    live = LiveArgs(
        unknown_model=api.unknown_model,
        max_body_bytes=api.limits.max_body_bytes,
        hold_seconds=hold,
        adapters=_adapters(endpoint.spec.model),
    )
    return dataclasses.replace(live, config_id=short_hash(to_wire(live)))


def _no_commit(model: ModelSource) -> str | None:
    """The place for the commit that a branch turns out to be. It is no setting of the spec's, so that it enters no
    `config_id`."""
    is_branch = model.uri.startswith("hf://") and not COMMIT.fullmatch(model.revision)
    return "" if is_branch else None


def _adapters(model: ModelSource) -> tuple[AdapterArgs, ...] | None:
    return tuple(AdapterArgs(one.name, one.uri, one.revision) for one in model.adapters) if model.lora else None
