"""From rendered objects to what `sglang_serve.local` serves on this machine. Pure: nothing is read but its arguments.

The Serve config is taken as it is. Of the worker's environment the literal values are taken, except those that say
where a pod mounts things: on this machine they are elsewhere, or absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sglang_serve import args

# For what a pod alone has, by the renderer or spec.engine.env: mount points, and a container's output that somebody
# collects.
POD_PATHS = frozenset(
    {
        args.ENV_KEYS_DIR,
        args.ENV_ADMIN_KEY_FILE,
        args.ENV_STATE_DIR,
        args.ENV_MODEL_MIRROR,
        args.ENV_PVC_ROOT,
        args.ENV_OBJECTS_DIR,
        "BASH_ENV",
        "HF_HOME",
        "RAY_LOG_TO_STDERR",
    }
)
# No load balancer beyond this machine has to hear that a replica goes, so stopping does not wait for one.
# And no Prometheus comes; several endpoints on one machine would want the same port.
LOCAL_ENV = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1", args.ENV_METRICS_PORT: "0"}


class NotLocal(Exception):  # noqa: N818 - what the endpoint is
    """The endpoint cannot be served on this machine as it is: `what` and `remedy`."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n  remedy: {self.remedy}"


@dataclass(frozen=True)
class Machine:
    """Where this machine has what a pod would mount, and where it shall listen."""

    http_port: int = 8000
    http_host: str = "127.0.0.1"
    keys_dir: Path | None = None  # one file per API key, in place of spec.api.keysSecret
    admin_key_file: Path | None = None  # in place of spec.api.adminKeySecret
    model_mirror: Path | None = None  # <dir>/<org>/<name>, asked before the hub
    pvc_root: Path | None = None  # pvc://claim/path is <dir>/claim/path
    environ: Mapping[str, str] | None = None  # for values that a pod takes from Secrets


def local_spec(objects: Iterable[Mapping[str, Any]], machine: Machine) -> dict[str, Any]:
    """The JSON object of `sglang_serve.local` for the RayService among `objects`. Raises NotLocal."""
    (service,) = (one for one in objects if one["kind"] == "RayService")
    serve_config = yaml.safe_load(service["spec"]["serveConfigV2"])
    (application,) = serve_config["applications"]
    live = [one.get("user_config", {}) for one in application.get("deployments", ())]
    require_paths(application["args"], [row for one in live for row in one.get("adapters", ())], machine)
    return {
        "serve_config": serve_config,
        "env": {**pod_env(service, machine.environ or {}), **LOCAL_ENV, **machine_env(machine)},
        "http_port": machine.http_port,
        "http_host": machine.http_host,
    }


def pod_env(service: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """The worker container's environment; what it takes from Secrets is taken from `environ`, or raises NotLocal."""
    (group, *_) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    (container, *_) = group["template"]["spec"]["containers"]
    values: dict[str, str] = {}
    for variable in container.get("env", []):
        name = variable["name"]
        if name not in POD_PATHS:
            values[name] = environ[name] if _elsewhere(variable, environ) else variable.get("value", "")
    return values


def _elsewhere(variable: Mapping[str, Any], environ: Mapping[str, str]) -> bool:
    """True if a Secret holds the value in a cluster, and this machine's environment has it."""
    if "valueFrom" not in variable:
        return False
    name = variable["name"]
    if name not in environ:
        source = next(iter(variable["valueFrom"].values())).get("name", "the cluster")
        raise NotLocal(
            f"environment variable {name}: its value is in {source!r} of the cluster, which is not read here",
            f"set it in this shell: export {name}=…",
        )
    return True


def machine_env(machine: Machine) -> dict[str, str]:
    """Where this machine has what a pod mounts."""
    paths = {
        args.ENV_KEYS_DIR: machine.keys_dir,
        args.ENV_ADMIN_KEY_FILE: machine.admin_key_file,
        args.ENV_MODEL_MIRROR: machine.model_mirror,
        args.ENV_PVC_ROOT: machine.pvc_root,
    }
    return {name: str(path.absolute()) for name, path in paths.items() if path is not None}


def require_paths(serve_args: Mapping[str, Any], adapters: Iterable[Mapping[str, Any]], machine: Machine) -> None:
    """Raise NotLocal if the endpoint needs a Secret or claim for which no path was given."""
    if serve_args.get("require_keys") and machine.keys_dir is None:
        raise NotLocal(
            "spec.api.keysSecret: Secrets are not read here, so nobody could call this endpoint",
            "give a directory with one file per key: --keys-dir DIR",
        )
    if serve_args.get("admin") and machine.admin_key_file is None:
        raise NotLocal("spec.api.adminKeySecret: Secrets are not read here", "give the key: --admin-key-file FILE")
    addresses = {f"spec.model.adapters {one['name']}": one["uri"] for one in adapters}
    for field, uri in {"spec.model.uri": serve_args["model"]["uri"], **addresses}.items():
        require_claim(field, uri, machine)


def require_claim(field: str, uri: str, machine: Machine) -> None:
    """Raise NotLocal if this is an address on a claim and no path was given for claims."""
    if uri.startswith("pvc://") and machine.pvc_root is None:
        raise NotLocal(
            f"{field}: {uri} is a claim of the cluster",
            "give a directory in its place: --pvc-root DIR, where pvc://claim/path is DIR/claim/path",
        )
