"""README's way from an empty cluster to the first token, with the operator in pods; then upgrade and uninstall."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cluster.actors import wait_until
from cluster.endpoints import ENDPOINT
from helm import VERSIONS, binary, set_values
from localcluster import tools
from localcluster.cluster import LocalCluster

ROOT = Path(__file__).parents[2]
SYSTEM = "sglang-system"
CRD = "sglangendpoints.serve.sglang.io"
COMMAND_SECONDS = 1000
pytestmark = [pytest.mark.timeout(1800), pytest.mark.long]


class Shell:
    """Runs what a reader of the docs types."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    def __call__(self, command: str) -> str:
        """What it prints. Fails the test with what it said."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture(scope="module", params=VERSIONS)
def shell(
    cluster: LocalCluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shell]:
    """A shell with `kubectl` and `helm`, in a namespace of its own."""
    cluster.control_plane.kubectl("delete", "crd", CRD, "--ignore-not-found")  # an empty cluster has none of ours
    namespace = f"install-{request.param.replace('.', '-')}-{os.getpid()}"
    cluster.control_plane.make_namespace(namespace)
    kubeconfig = tmp_path_factory.mktemp("shell") / "kubeconfig"
    kubeconfig.write_text(cluster.control_plane.kubeconfig.read_text())
    path = f"{binary(request.param).parent}:{tools.program('kubectl').parent}:{os.environ['PATH']}"
    made = Shell({**os.environ, "KUBECONFIG": str(kubeconfig), "PATH": path, "HELM_CACHE_HOME": str(kubeconfig.parent)})
    made(f"kubectl config set-context --current --namespace={namespace}")
    yield made
    made(f"helm uninstall sglang-operator --namespace {SYSTEM} --ignore-not-found --wait")
    made(f"kubectl delete namespace {namespace} --wait=false; kubectl delete crd {CRD}")
    made("kubectl apply --server-side --filename crds")


def test_from_readme_to_a_first_token_and_back(shell: Shell, tmp_path: Path) -> None:
    _, install, apply, ask = readme_commands()  # KubeRay is part of this cluster
    install += f" --values {platform(tmp_path)}"
    shell(install)
    shell(apply)
    assert "Paris" in answer(shell, ask)
    made = uids(shell)
    new_platform_moves_nothing(shell, install, made)
    shell(f"helm uninstall sglang-operator --namespace {SYSTEM} --wait")
    assert "Paris" in answer(shell, ask), "what serves goes on without the operator"
    shell("kubectl delete sgl smollm2")
    wait_until(lambda: not shell("kubectl get pods,rayservices -o name"), 600, "the endpoint to go without an operator")


def platform(directory: Path) -> Path:
    """A file of values: what small nodes without a model hub want of every endpoint, README's as it is included."""
    spec = yaml.safe_load(ENDPOINT.read_text(encoding="utf-8"))["spec"]
    defaults = {name: value for name, value in spec.items() if name not in ("model", "accelerator")}
    path = directory / "values.yaml"
    set_values(path, {"defaults": defaults})
    return path


def new_platform_moves_nothing(shell: Shell, install: str, made: str) -> None:
    """An upgrade with another default says so in the status, and restarts no model."""
    upgrade = install.replace("helm install", "helm upgrade").replace(" --create-namespace", "")
    shell(f"{upgrade} --set defaults.serviceAccountName=models --wait")
    shell("kubectl wait --for=condition=UpdateAvailable sglangendpoint/smollm2 --timeout=120s")
    assert uids(shell) == made


def answer(shell: Shell, ask: str) -> str:
    """The text that README's last command prints; its port-forward is ended."""
    printed = shell(f"{ask}; code=$?; kill $!; exit $code")
    reply = json.loads(printed[printed.index("{") :])  # kubectl says what it forwards
    return str(reply["choices"][0]["message"]["content"])


def uids(shell: Shell) -> str:
    """Who serves: the same text means that nothing was made anew."""
    return shell("kubectl get rayservices,pods -o jsonpath='{.items[*].metadata.uid}'")


def readme_commands() -> list[str]:
    """The commands of README's "Install on a cluster"."""
    section = (ROOT / "README.md").read_text().split("## Install on a cluster")[1].split("\n## ")[0]
    block = re.search(r"```console\n(.*?)```", section, re.DOTALL)
    assert block
    return [command.replace("\\\n", " ").strip() for command in re.split(r"^\$ ", block[1], flags=re.MULTILINE)[1:]]
