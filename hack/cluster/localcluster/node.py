"""A node: containerd, kubelet and kube-proxy in namespaces of their own, as on a machine of its own. Root only."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from localcluster import cgroups
from localcluster.kubectl import Kubectl
from localcluster.network import Network
from localcluster.nodefiles import SOCKET, NodeFiles
from localcluster.processes import Failed, Process, ended, pidfd_of
from localcluster.shell import Broken, run

PACKAGES: Final = Path(__file__).resolve().parents[1]
SECONDS: Final = 300.0
# --kill-child: the node ends with the process that we know, and --pid: all that runs on it ends with its first one.
NAMESPACES: Final = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private")


class Node:
    """One node, which can be started again after it was killed."""

    def __init__(self, files: NodeFiles, outlives: bool) -> None:
        self._files = files
        environment = {"PYTHONPATH": str(PACKAGES)}
        machine = [sys.executable, "-m", "localcluster.machine", str(files.plan)]
        command = ["unshare", *NAMESPACES, "--", *machine]
        self.process = Process(files.name, command, files.directory, environment, outlives=outlives)

    @property
    def name(self) -> str:
        """As `kubectl get nodes` shows it."""
        return self._files.name

    @property
    def cgroup(self) -> str:
        """Where its pods are."""
        return self._files.cgroup

    @property
    def storage(self) -> Path:
        """Of its containerd; images can be laid there before it starts."""
        return self._files.storage

    @property
    def registries(self) -> Path:
        """Where `<host>/hosts.toml` tells its containerd of a registry."""
        return self._files.registries

    def start(self, models: Path) -> None:
        """Start it, unless it runs; its kubelet then registers itself."""
        if self.process.pid is not None:
            return
        cgroups.make(self._files.cgroup)
        self._files.write(models)
        self.process.start()
        self.process.wait_for(lambda: bool(self._first_process()), SECONDS)
        self._network.connect(self._files.number, int(self._first_process()))

    def wait_until_ready(self, kubectl: Kubectl) -> None:
        """Wait until its kubelet says that pods can run."""
        self.process.wait_for(lambda: self._is_ready(kubectl), SECONDS)

    def kill(self) -> None:
        """End it with all that runs on it, as a power cut would."""
        first = self._first_process()
        watched = pidfd_of(int(first)) if first else None
        self.process.kill()
        if watched is not None and not ended(watched, SECONDS):  # the first process is the last to go
            raise Failed(f"{self.name}: something on it does not end, although it was killed")

    def wait_for_runtime(self) -> None:
        """Wait until images can be brought."""
        self.process.wait_for(self._has_runtime, SECONDS)

    @property
    def ctr(self) -> Sequence[str]:
        """How to call containerd's client on it."""
        return *self._entering(), "ctr", f"--address={SOCKET}", "--namespace=k8s.io"

    def inside(self, *command: str) -> Sequence[str]:
        """How to call a command in its namespaces, which ends with whoever called it."""
        entered = ("--net", "--mount", "--pid", "--", "setpriv", "--pdeathsig", "KILL", "--")
        return "nsenter", f"--target={self._first_process()}", *entered, *command

    @property
    def _network(self) -> Network:
        return self._files.network

    def _is_ready(self, kubectl: Kubectl) -> bool:
        found = kubectl.objects("node", self.name)
        conditions: list[Mapping[str, str]] = found[0]["status"].get("conditions", []) if found else []
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def _first_process(self) -> str:
        """The pid, as we see it, of the one child of unshare, once it has a network of its own."""
        pid = self.process.pid
        try:
            child = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").strip()
            ours, its = (Path(f"/proc/{one}/ns/net").readlink() for one in ("self", child))
        except OSError:
            return ""
        return child if ours != its else ""

    def _has_runtime(self) -> bool:
        try:
            run(*self.ctr, "version")
        except Broken:
            return False
        return True

    def _entering(self) -> Sequence[str]:
        return "nsenter", f"--target={self._first_process()}", "--mount", "--"
