"""The same cluster with kind, where a Docker daemon answers and `kind` is there: for machines without root or Debian.

Written from kind's documentation and not run by us: none of our machines has a Docker daemon.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Final

from localcluster import images, tools
from localcluster.controlplane import OUR_CRDS
from localcluster.kubectl import Kubectl
from localcluster.processes import Process
from localcluster.say import say
from localcluster.shell import run

NAME: Final = "sglang-operator"
SECONDS: Final = 1800.0
PROBE_SECONDS: Final = 10.0


def is_possible() -> bool:
    """Whether kind is installed and a Docker daemon answers."""
    if not shutil.which("kind") or not shutil.which("docker"):
        return False
    try:
        asked = subprocess.run(["docker", "info"], capture_output=True, timeout=PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


def is_used(directory: Path) -> bool:
    """Whether `up` has made the cluster of this directory."""
    return _config_file(directory).is_file()


def kubeconfig(directory: Path) -> Path:
    """The administrator's kubeconfig."""
    return directory / "kubeconfig"


def up(directory: Path, models: Path) -> Path:
    """Make the cluster unless it is there, give it our images, CRDs and KubeRay; return the kubeconfig."""
    directory.mkdir(parents=True, exist_ok=True)
    tools.build(["kubectl", "ray-operator"])
    if NAME not in run("kind", "get", "clusters").split():
        config = _config_file(directory)
        config.write_text(json.dumps(_config(models)), encoding="utf-8")
        run("kind", "create", "cluster", f"--name={NAME}", f"--config={config}", seconds=SECONDS)
    run("kind", "export", "kubeconfig", f"--name={NAME}", f"--kubeconfig={kubeconfig(directory)}")
    _bring_images()
    folders = [tools.crds("ray"), tools.crds("gateway-api"), OUR_CRDS]
    Kubectl(kubeconfig(directory))(
        "apply", "--server-side", "--force-conflicts", *(f"--filename={one}" for one in folders)
    )
    _kuberay(directory).start()
    return kubeconfig(directory)


def down(directory: Path) -> None:
    """Remove the cluster and KubeRay."""
    _kuberay(directory).kill()
    run("kind", "delete", "cluster", f"--name={NAME}", seconds=SECONDS)
    shutil.rmtree(directory, ignore_errors=True)


def _bring_images() -> None:
    for name, dockerfile in (
        (images.operator_name(), "operator/Dockerfile"),
        (images.serving_name(), "Dockerfile.cpu"),
    ):
        say(f"building {name} with Docker")
        where = str(images.ROOT)
        run("docker", "build", f"--tag={name}", f"--file={images.ROOT / dockerfile}", where, seconds=SECONDS)
        run("kind", "load", "docker-image", f"--name={NAME}", name, seconds=SECONDS)


def _kuberay(directory: Path) -> Process:
    command = [str(tools.program("ray-operator")), "-enable-leader-election=false", "-use-kubernetes-proxy"]
    return Process("ray-operator", command, directory, {"KUBECONFIG": str(kubeconfig(directory))}, outlives=True)


def _config_file(directory: Path) -> Path:
    return directory / "kind.json"


def _config(models: Path) -> dict[str, object]:
    """One node that has the models where ours have them."""
    mount = {"hostPath": str(models), "containerPath": "/run/models", "readOnly": True}
    node = {"role": "control-plane", "extraMounts": [mount]}
    return {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": [node]}
