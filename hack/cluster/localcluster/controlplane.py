"""The fast flavour: a control plane as plain processes, of one user, in one directory."""

from __future__ import annotations

import ipaddress
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from localcluster import components, ports, tools
from localcluster.components import COMPONENTS, Component, Setting
from localcluster.credentials import USERS
from localcluster.kubectl import Kubectl, Refused, until
from localcluster.missing import require, require_linux
from localcluster.processes import Process
from localcluster.say import say

START_SECONDS: Final = 300.0  # a few on an idle machine; on one with many processes for each core, minutes
OUR_CRDS: Final = Path(__file__).resolve().parents[3] / "crds"
WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})


class ControlPlane:
    """etcd, kube-apiserver, kube-controller-manager and KubeRay, with the CRDs of KubeRay, Gateway API and ours.

    A context manager; several may run at once, each in its own directory. Nothing of it outlives the process that made
    it, unless `outlives`: then another ControlPlane of the same directory finds it, and `close` ends it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        kuberay: bool = True,
        scheduler: bool = False,
        crds: bool = True,
        address: str = components.LOOPBACK,
        services: str = components.SERVICES,
        nodes: Sequence[str] = (),
        outlives: bool = False,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        chosen = ports.choose(directory, components.PORTS)
        self.setting = Setting(directory, chosen, address, services)
        self.kubectl = Kubectl(self.kubeconfig)
        self._crds = crds
        self._nodes = nodes
        self._outlives = outlives
        self._optional = {"kube-scheduler": scheduler, "ray-operator": kuberay}
        self._made: dict[str, tuple[Component, Process]] = {}

    @property
    def directory(self) -> Path:
        """Its files: logs, credentials, the data of etcd."""
        return self.setting.directory

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, also for a host process."""
        return self.setting.kubeconfig()

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self.setting.server

    @property
    def audit_log(self) -> Path:
        """The file behind `requests`."""
        return self.setting.audit_log

    def __enter__(self) -> Self:
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Build what is missing, start what does not run, wait until all of it is ready."""
        require_linux()
        require(["openssl", "setpriv"], "install them, on Debian with `apt-get install openssl util-linux`")
        names = [name for name in COMPONENTS if self._optional.get(name, True)]
        tools.build([*names, "kubectl"])
        self._make_credentials()
        began = time.monotonic()
        for name in names:
            self.start(name)
            if self._crds and name == "kube-apiserver":  # KubeRay ends if it does not find its own
                self._install_crds()
        say(f"control plane in {self.directory}: ready after {time.monotonic() - began:.1f} s")

    def close(self) -> None:
        """End all of it at once, the users of the API server first."""
        for name in reversed(tuple(COMPONENTS)):
            self.kill(name)

    def start(self, name: str) -> None:
        """Start the component `name` if it does not run, and wait until it is ready."""
        component, process = self._make(name)
        process.start()
        process.wait_for(component.ready, START_SECONDS)

    def stop(self, name: str) -> None:
        """Ask the component `name` to end, as a pod's deletion would, and wait for it."""
        self.process(name).stop()

    def kill(self, name: str) -> None:
        """End the component `name` as a crash would."""
        self.process(name).kill()

    def restart(self, name: str) -> None:
        """Stop and start the component `name`: same port, same data."""
        self.stop(name)
        self.start(name)

    def process(self, name: str) -> Process:
        """The process of the component `name`, with its log; its signals SIGSTOP and SIGCONT make it hang and go on."""
        return self._make(name)[1]

    def make_namespace(self, name: str) -> None:
        """A namespace in which pods can be created: it has its service account."""
        self.kubectl("create", "namespace", name)
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        until(lambda: components.exists(self.setting, account), START_SECONDS, f"the service account of {name}")

    def wait_for_crds(self, *names: str) -> None:
        """Wait until the API server serves these CRDs, or all that there are."""
        until(lambda: self._are_established(names), START_SECONDS, "the CRDs to be established")

    def _are_established(self, names: Sequence[str]) -> bool:
        """`kubectl wait` does the waiting. It fails on a CRD that has no conditions yet (1.36)."""
        which = ("crd", *(names or ["--all"]))
        waiting = ("wait", "--for=condition=Established", *which, f"--timeout={START_SECONDS:.0f}s")
        try:
            self.kubectl(*waiting, seconds=2 * START_SECONDS)
        except Refused as refused:
            if "accessor error" not in str(refused):
                raise
            return False
        return True

    def kubeconfig_of(self, namespace: str, account: str, seconds: int = 86400) -> Path:
        """A kubeconfig with the rights of a service account, and its name in the audit log."""
        token = self.kubectl("create", "token", account, f"--namespace={namespace}", f"--duration={seconds}s").strip()
        path = self.directory / f"kubeconfig-{namespace}-{account}"
        self.setting.credentials.write_kubeconfig(path, self.server, token)
        return path

    def requests(self, user: str = "", writes: bool = False) -> Iterator[dict[str, Any]]:
        """The requests answered so far, oldest first: those of a user (part of the name), or writes only."""
        self._catch_up()
        with self.audit_log.open(encoding="utf-8") as lines:
            for line in takewhile(_is_whole, lines):
                event: dict[str, Any] = json.loads(line)
                if user in event["user"].get("username", "") and (not writes or event["verb"] in WRITES):
                    yield event

    def _catch_up(self) -> None:
        """The log is written after the answer: wait for the line of a request that comes after all others."""
        marker = f"/version?marker={uuid.uuid4()}"
        self.kubectl("get", "--raw", marker)
        until(lambda: marker in self.audit_log.read_text(encoding="utf-8"), START_SECONDS, f"{marker} in the audit log")

    def _make(self, name: str) -> tuple[Component, Process]:
        if name not in self._made:
            component = COMPONENTS[name](self.setting)
            environment, outlives = component.environment, self._outlives
            process = Process(name, component.command, self.directory, environment, outlives=outlives)
            self._made[name] = component, process
        return self._made[name]

    def _make_credentials(self) -> None:
        credentials = self.setting.credentials
        # Pods reach the API server by the first address of the Services.
        inside = str(ipaddress.ip_network(self.setting.services)[1])
        credentials.make(sorted({components.LOOPBACK, self.setting.address, inside}), self._nodes)
        for user in [*USERS, *(f"system:node:{node}" for node in self._nodes)]:
            credentials.write_kubeconfig(self.setting.kubeconfig(user), self.server, credentials.token(user))

    def _install_crds(self) -> None:
        """Ours, KubeRay's and the Gateway API's."""
        folders = [tools.crds("ray"), tools.crds("gateway-api"), OUR_CRDS]
        there = self.kubectl("get", "crd", "-o", "name")
        verb = ["apply", "--server-side", "--force-conflicts"] if there else ["create"]  # which takes half of the time
        files = [f"--filename={folder}" for folder in folders]
        self.kubectl(*verb, "--validate=false", *files, seconds=START_SECONDS)
        self.wait_for_crds()


def _is_whole(line: str) -> bool:
    """The last one may be in the writing: it is of a request that came later."""
    return line.endswith("\n")
