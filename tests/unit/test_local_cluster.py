"""The parts of the local cluster that can be wrong without anybody starting one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from localcluster import images, ports, tools
from localcluster.network import NODES, Network
from localcluster.processes import Failed, Process
from waiting import wait_until

from sglang_operator.api.versions import versions

SECONDS = 20
SERVES = """
import json, sys
from localcluster import machine
machine.AGAIN_SECONDS = 0
sys.exit(machine._serve(json.loads(sys.argv[1])))
"""
STARTS_ONE = """
import sys, time
from pathlib import Path
from localcluster.processes import Process
Process("child", ["sleep", "600"], Path(sys.argv[1])).start()
time.sleep(600)
"""


def test_built_programs_are_of_the_versions_that_we_support() -> None:
    kuberay = tools.version(tools.KUBERAY, "github.com/ray-project/kuberay/ray-operator")
    kubernetes = tools.version(tools.KUBERNETES, "k8s.io/kubernetes")
    gateway = tools.version(tools.KUBERAY, "sigs.k8s.io/gateway-api")
    assert kuberay == f"v{versions()['kuberay']}"
    assert kubernetes.removeprefix("v").rpartition(".")[0] in versions()["kubernetes"]
    assert gateway.rpartition(".")[0] == f"v{versions()['gateway_api']}".rpartition(".")[0]


def test_kubernetes_modules_are_all_of_one_release() -> None:
    text = (tools.MODULES / tools.KUBERNETES / "go.mod").read_text(encoding="utf-8")
    replaced = [line.split()[-1] for line in text.splitlines() if "=> k8s.io/" in line]
    assert len(replaced) > 30
    assert set(replaced) == {"v0." + tools.version(tools.KUBERNETES, "k8s.io/kubernetes").partition(".")[2]}


def test_unused_kinds_of_kuberay_take_anything() -> None:
    crd = {"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"type": "object", "properties": {}}}}]}}
    bare = yaml.safe_load(tools._bare(yaml.safe_dump(crd)))
    assert bare["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-preserve-unknown-fields"]


def test_ports_stay_those_of_the_directory(tmp_path: Path) -> None:
    first = ports.choose(tmp_path, ["a", "b"])
    assert len(set(first.values())) == 2
    assert ports.choose(tmp_path, ["a", "b"]) == first


def test_networks_do_not_overlap() -> None:
    networks = [Network(number) for number in range(3)]
    ranges = [one.pods_of(node) for one in networks for node in range(NODES)] + [one.services for one in networks]
    assert len(set(ranges)) == len(ranges)
    assert all(len(one.link(NODES - 1)) <= 15 for one in networks)  # the kernel's limit


@pytest.fixture
def sleeper(tmp_path: Path) -> Process:
    return Process("sleeper", ["sleep", "600"], tmp_path)


def test_process_is_started_once_and_found_by_another_object(sleeper: Process) -> None:
    sleeper.start()
    pid = sleeper.pid
    sleeper.start()
    found = Process(sleeper.name, sleeper.command, sleeper.directory)
    assert found.pid == sleeper.pid == pid
    found.kill()
    assert sleeper.pid is None


def test_recorded_pid_that_is_now_another_process_is_not_touched(sleeper: Process) -> None:
    (sleeper.directory / "sleeper.pid").write_text(f"{os.getpid()} 1\n")
    assert sleeper.pid is None
    sleeper.kill()


def test_process_that_ignores_the_end_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    stubborn = Process("stubborn", ["sh", "-c", f"trap '' TERM; touch {ready}; exec sleep 600"], tmp_path)
    stubborn.start()
    stubborn.wait_for(ready.exists, SECONDS)
    stubborn.stop(seconds=0.2)
    assert stubborn.pid is None


def test_process_that_ends_by_itself_is_told_with_its_log(tmp_path: Path) -> None:
    failing = Process("failing", ["sh", "-c", "echo no room; exit 3"], tmp_path)
    failing.start()
    with pytest.raises(Failed, match="no room"):
        failing.wait_for(lambda: False, SECONDS)
    failing.kill()


def test_nothing_survives_a_killed_parent(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(tools.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", STARTS_ONE, str(tmp_path)], env=environment) as parent:
        child = Process("child", [], tmp_path)
        wait_until(lambda: child.pid is not None, SECONDS, "the child to run")
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: child.pid is None, SECONDS, "the child to end")


def test_a_program_of_a_node_that_ends_is_started_again_and_told_with_its_log(tmp_path: Path) -> None:
    """A kubelet whose containerd does not answer yet ends once; one that cannot start ends the node."""
    marks = tmp_path / "marks"
    scripts = {
        "flaky": f"test -e {marks} && exec sleep 600; echo not yet; touch {marks}; exit 1",
        "broken": f"test -e {marks} && echo no room && exit 3; exec sleep 0.05",
    }
    shell = ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c"]
    plan = {name: {"command": [*shell, one], "log": f"{tmp_path}/{name}"} for name, one in scripts.items()}
    environment = {**os.environ, "PYTHONPATH": str(Path(tools.__file__).parents[1])}
    serving = [sys.executable, "-c", SERVES, json.dumps(plan)]
    done = subprocess.run(serving, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("flaky has ended with status 256: the end of its log:\n  not yet") == 1
    assert done.stdout.count("broken has ended") == 5
    assert "broken has ended with status 768: the end of its log:\n  no room" in done.stdout


def test_a_layout_is_written_over_the_one_before(tmp_path: Path) -> None:
    """Gigabytes of layers stay; what no manifest names goes, also if a build was killed in between."""
    layouts = tmp_path / "layouts"
    for name in ("oldest", "before.partial"):
        write_layout(layouts / name, config="c1", layers=["large", f"small-{name}"])
        os.utime(layouts / name, (name != "oldest", name != "oldest"))
    partial = images.taken_over(layouts / "now")
    assert partial == layouts / "now.partial"
    assert list(layouts.iterdir()) == [partial]
    write_layout(partial, config="c2", layers=["large", "small-now"])
    images.prune(partial)
    assert {blob.name for blob in (partial / images.BLOBS).iterdir()} == {"manifest-c2", "c2", "large", "small-now"}


def test_a_first_layout_has_nothing_to_take_over(tmp_path: Path) -> None:
    assert not images.taken_over(tmp_path / "layouts" / "now").exists()


def write_layout(path: Path, config: str, layers: list[str]) -> None:
    """As skopeo does: beside the manifests that its index has already."""
    blobs = path / images.BLOBS
    blobs.mkdir(parents=True, exist_ok=True)
    for name in (config, *layers):
        (blobs / name).touch()
    parts = [{"digest": f"sha256:{name}"} for name in (config, *layers)]
    (blobs / f"manifest-{config}").write_text(json.dumps({"config": parts[0], "layers": parts[1:]}))
    index = path / "index.json"
    known = json.loads(index.read_text())["manifests"] if index.is_file() else []
    index.write_text(json.dumps({"manifests": [*known, {"digest": f"sha256:manifest-{config}"}]}))
