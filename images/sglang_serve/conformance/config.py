"""What is started: our endpoint as the operator would render it, and the native server with the same arguments. Pure.

The image does not know the renderer; `tests/unit/test_conformance_config.py` holds this against what it renders.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sglang_serve import args
from sglang_serve.engine_args import Place, command_line, engine_args, engine_environment

NAME = "conformance"
DRAIN_SECONDS = 60
ADAPTER_RANK = 8
MOST_CPUS = 8  # of a GPU replica: its schedulers and tokenizer use no more

ENVIRONMENT: Mapping[str, str] = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_HAPROXY_RETRY_ON": args.HAPROXY_RETRY_ON,
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "131072",
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_FALL": "8",
    "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": args.SERVE_MIDDLEWARES,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    "RAY_worker_niceness": "0",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",  # nobody beyond this machine has to hear that a replica goes
}


@dataclass(frozen=True)
class Subject:
    """The endpoint under test."""

    model: str  # URI
    vendor: args.Vendor
    engine: Mapping[str, Any]
    cores: int
    parallel: args.ParallelArgs = field(default_factory=args.ParallelArgs)
    keys_dir: Path | None = None  # None: open, and admin routes closed
    admin_key_file: Path | None = None
    adapters: Mapping[str, Path] = field(default_factory=dict)  # name -> directory

    @property
    def serve_args(self) -> args.ServeArgs:
        """What the engine is started with."""
        return args.ServeArgs(
            endpoint=NAME,
            model=args.ModelArgs(uri=self.model, served_name=NAME),
            vendor=self.vendor,
            parallelism=self.parallel,
            engine=dict(self.engine),
            require_keys=self.keys_dir is not None,
            admin=self.admin_key_file is not None,
            drain_seconds=DRAIN_SECONDS,
            lora=args.LoraArgs(ADAPTER_RANK, ("all",), len(self.adapters)) if self.adapters else None,
        )

    @property
    def live_args(self) -> args.LiveArgs:
        """What a replica is told once it runs."""
        rows = tuple(args.AdapterArgs(name, f"file://{path}") for name, path in self.adapters.items())
        return args.LiveArgs(adapters=rows or None)


def runner_spec(subject: Subject, port: int) -> dict[str, Any]:
    """The JSON object of `sglang_serve.local`."""
    paths = {args.ENV_KEYS_DIR: subject.keys_dir, args.ENV_ADMIN_KEY_FILE: subject.admin_key_file}
    return {
        "serve_config": {"proxy_location": "EveryNode", "applications": [_application(subject)]},
        "env": {**ENVIRONMENT, **{name: str(path) for name, path in paths.items() if path}},
        "http_port": port,
        "grace_seconds": DRAIN_SECONDS,
    }


def _application(subject: Subject) -> dict[str, Any]:
    return {
        "name": NAME,
        "route_prefix": "/",
        "import_path": args.IMPORT_PATH,
        "args": args.to_wire(subject.serve_args),
        "deployments": [_deployment(subject)],
    }


def _deployment(subject: Subject) -> dict[str, Any]:
    gpu = subject.vendor != "cpu"
    cpus = min(subject.cores, MOST_CPUS) if gpu else subject.cores
    return {
        "name": args.DEPLOYMENT,
        "autoscaling_config": {"min_replicas": 1, "max_replicas": 1},
        "max_ongoing_requests": 100_000,
        "max_queued_requests": -1,
        "graceful_shutdown_timeout_s": DRAIN_SECONDS + 30,
        "health_check_period_s": 10,
        "health_check_timeout_s": 30,
        "ray_actor_options": {"num_cpus": cpus, **({"num_gpus": subject.parallel.ranks} if gpu else {})},
        "user_config": args.to_wire(subject.live_args),
    }


def native_command(subject: Subject, model_path: Path, port: int) -> list[str]:
    """`sglang.launch_server` with the arguments that our replica gives its engine."""
    settings = {**engine_args(subject.serve_args, model_path, Place(port)), "host": "127.0.0.1"}
    return [sys.executable, "-m", "sglang.launch_server", *command_line(settings)]


def native_environment(subject: Subject, cores: Sequence[int]) -> dict[str, str]:
    """What our replica sets before it imports SGLang; `cores` are the numbers of those that may be used."""
    return engine_environment(subject.serve_args, cores)
