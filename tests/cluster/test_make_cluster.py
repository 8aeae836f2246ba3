"""`make cluster` killed in the middle: a second call finishes it, and `make cluster-down` leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cluster.actors import wait_until
from localcluster import network, tools
from localcluster.cluster import LocalCluster

ROOT = Path(__file__).parents[2]
SECONDS = 600
pytestmark = pytest.mark.long


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Of a cluster of its own. Images and programs come from the cache of all."""
    made = tmp_path / "run"
    tools.build(["kubelet", "kube-proxy"])  # the tests measure no builds
    yield made
    run("down", made)


def command(name: str, directory: Path) -> subprocess.Popen[str]:
    """`make cluster` and the like, as a process that can be killed; what it says can be read."""
    call = [sys.executable, "-m", "localcluster", name, f"--directory={directory}"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "hack" / "cluster")}
    return subprocess.Popen(call, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(name: str, directory: Path) -> int:
    """Its exit code."""
    process = command(name, directory)
    said, _ = process.communicate(timeout=SECONDS)
    print(said)
    return process.returncode


def kill_after(line: str, directory: Path) -> None:
    """`make cluster`, killed by SIGKILL as soon as it has said this."""
    up = command("up", directory)
    assert up.stdout
    assert any(line in said for said in up.stdout), f"it never said {line!r}"
    up.send_signal(signal.SIGKILL)
    up.communicate()


@pytest.mark.parametrize("moment", ["network made", "DNS ready"])
def test_one_that_was_killed_is_taken_down_whole(directory: Path, moment: str) -> None:
    kill_after(moment, directory)
    bridge = bridge_of(directory)
    assert traces(directory, bridge) != []
    assert run("down", directory) == 0
    assert traces(directory, bridge) == []


def test_one_that_was_killed_while_its_node_starts_is_finished_and_taken_down(directory: Path) -> None:
    up = command("up", directory)
    wait_until(lambda: is_node_running(directory), SECONDS, "the node to start")
    up.send_signal(signal.SIGKILL)
    up.communicate()
    assert run("status", directory) == 0, "what it started outlives it"
    assert run("up", directory) == 0
    assert run("up", directory) == 0, "nothing to do"
    bridge = bridge_of(directory)
    assert run("down", directory) == 0
    assert traces(directory, bridge) == []
    assert run("down", directory) == 0, "nothing to do"
    assert run("status", directory) == 1


def is_node_running(directory: Path) -> bool:
    if not (directory / "number").is_file():
        return False
    return all(node.process.pid for node in LocalCluster(directory, outlives=True).nodes)


def bridge_of(directory: Path) -> str:
    return network.Network(int((directory / "number").read_text())).bridge


def traces(directory: Path, bridge: str) -> list[str]:
    """What this machine has of that cluster: files, links, mounts, cgroups and processes."""
    found = [str(directory)] if directory.exists() else []
    found += [name for name in map(str, Path("/sys/class/net").iterdir()) if bridge in name]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(directory) in line]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{bridge}*")]
    return found + [str(process) for process in psutil.process_iter() if str(directory) in commands_of(process)]


def commands_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
