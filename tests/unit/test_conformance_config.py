"""What the conformance program starts is what the operator renders: the image cannot ask the renderer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sglang_operator.api import parse_endpoint
from sglang_operator.render import render_endpoint
from sglang_serve import args
from sglang_serve.conformance import config

# What a pod has and one machine does not, or has from the runner: places, output, cores, a load balancer to wait for,
# long streams.
ONLY_IN_PODS = {
    args.HAPROXY_THREADS,
    "RAY_LOG_TO_STDERR",
    "RAY_BACKEND_LOG_LEVEL",
    "BASH_ENV",
    "HF_HOME",
    "SGLANG_SERVE_PVC_ROOT",
    "SGLANG_SET_CPU_AFFINITY",
    "MAX_JOBS",
    "SGLANG_USE_CPU_ENGINE",
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S",
    "RAY_SERVE_HAPROXY_CLOSE_SPREAD_TIME_S",
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S",
    "RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT",
}
HERE_ON_PURPOSE = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"}
# Decided per endpoint, or longer in a pod.
ONLY_IN_ENDPOINTS = {"graceful_shutdown_timeout_s", "max_constructor_retry_count", "user_config", "ray_actor_options"}


def rendered(vendor: str, count: int) -> Mapping[str, Any]:
    manifest = {
        "apiVersion": "serve.sglang.io/v1alpha1",
        "kind": "SGLangEndpoint",
        "metadata": {"name": config.NAME},
        "spec": {
            "model": {"uri": "file:///model", "servedName": config.NAME},
            "accelerator": {"vendor": vendor, **({"count": count} if vendor != "cpu" else {})},
            "upgrade": {"drainSeconds": config.DRAIN_SECONDS},
        },
    }
    return next(one for one in render_endpoint(parse_endpoint(manifest)) if one["kind"] == "RayService")


def subject(vendor: Any, tensor: int) -> config.Subject:
    return config.Subject(model="file:///model", vendor=vendor, engine={}, cores=4, parallel=args.ParallelArgs(tensor))


@pytest.mark.parametrize(("vendor", "count"), [("cpu", 1), ("nvidia", 1), ("nvidia", 4), ("amd", 2)])
def test_application_is_the_rendered_one(vendor: str, count: int) -> None:
    (wanted,) = yaml.safe_load(rendered(vendor, count)["spec"]["serveConfigV2"])["applications"]
    (found,) = config.runner_spec(subject(vendor, count), 8000)["serve_config"]["applications"]
    wanted["args"]["revision"] = ""  # the operator's name for it
    assert found["args"] == wanted["args"]
    assert {**found, "deployments": []} == {**wanted, "deployments": []}
    (wanted_deployment,), (found_deployment,) = wanted["deployments"], found["deployments"]
    for name in wanted_deployment.keys() - ONLY_IN_ENDPOINTS:
        assert found_deployment[name] == wanted_deployment[name], name
    gpus = wanted_deployment["ray_actor_options"].get("num_gpus")
    assert found_deployment["ray_actor_options"].get("num_gpus") == gpus


@pytest.mark.parametrize("vendor", ["cpu", "nvidia", "amd"])
def test_environment_is_the_rendered_one(vendor: str) -> None:
    (group,) = rendered(vendor, 1)["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    wanted = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert {**config.ENVIRONMENT, **dict.fromkeys(ONLY_IN_PODS | HERE_ON_PURPOSE)} == {
        **{name: value for name, value in wanted.items() if name not in HERE_ON_PURPOSE},
        **dict.fromkeys(ONLY_IN_PODS | HERE_ON_PURPOSE),
    }


def test_adapters_reach_the_replica_as_they_are_rendered() -> None:
    found = config.runner_spec(replace(subject("nvidia", 1), adapters={"first": Path("/a")}), 8000)
    (application,) = json.loads(json.dumps(found["serve_config"]))["applications"]
    lora = args.serve_args(application["args"]).lora
    assert lora is not None
    assert (lora.max_rank, lora.max_loaded) == (config.ADAPTER_RANK, 1)
    (deployment,) = application["deployments"]
    assert args.live_args(deployment["user_config"]).adapters == (args.AdapterArgs("first", "file:///a"),)


def test_native_server_gets_the_arguments_of_the_replica() -> None:
    engine = {
        "trust_remote_code": True,
        "enable_metrics": False,
        "lora_paths": ["a", "b"],
        "json_model_override_args": {},
    }
    one = config.Subject(model="file:///m", vendor="nvidia", engine=engine, cores=4, parallel=args.ParallelArgs(2))
    flags = " ".join(config.native_command(one, Path("/m"), 8001)[3:])
    assert "--trust-remote-code" in flags
    assert "--enable-metrics" not in flags
    assert "--lora-paths a b" in flags
    assert "--json-model-override-args {}" in flags
    assert "--tp-size 2" in flags
    assert "--port 8001" in flags
    assert "--model-path /m" in flags
