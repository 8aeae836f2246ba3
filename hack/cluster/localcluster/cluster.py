"""The node flavour: a control plane with nodes on which pods run, in one directory. Root only."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from localcluster import cgroups, images, imagestore, network, tools
from localcluster.components import COMPONENTS, answers
from localcluster.controlplane import ControlPlane
from localcluster.images import Image
from localcluster.missing import Missing, require, require_linux
from localcluster.network import Network
from localcluster.node import Node
from localcluster.nodefiles import CNI_PLUGINS, NodeFiles, node_name
from localcluster.processes import Process
from localcluster.say import step

NEEDED: Final = (
    "containerd",
    "ctr",
    "runc",
    "ip",
    "nft",
    "nsenter",
    "unshare",
    "buildah",
    "skopeo",
    "mmdebstrap",
    "busybox",
)
REMEDY: Final = "run `make cluster-tools` as root on Debian or Ubuntu"
DNS_SECONDS: Final = 60.0
COREFILE: Final = """\
.:53 {{
    bind {host}
    ready {host}:8181
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
    }}
}}
"""


@dataclass(frozen=True)
class _Parts:
    control_plane: ControlPlane
    dns: Process
    nodes: list[Node]


class LocalCluster:
    """A ControlPlane with scheduler and KubeRay, DNS, and nodes that have our images.

    Everything of it is in the directory, or named after the number in the directory's file `number`, which is written
    before anything is made: so `close` finds all of it, also in another process after a crash.
    """

    def __init__(self, directory: Path, *, nodes: int = 1, outlives: bool = False) -> None:
        require_linux()
        self._directory = directory
        self._outlives = outlives
        self._wanted = nodes
        self._made: _Parts | None = None

    @property
    def control_plane(self) -> ControlPlane:
        """API server, controllers and KubeRay."""
        return self._parts().control_plane

    @property
    def models(self) -> Path:
        """What `make model` makes: pods find it in /run/models of their node."""
        models = tools.cache().parent / "models"
        models.mkdir(parents=True, exist_ok=True)
        return models

    @property
    def host(self) -> str:
        """The address under which pods find this machine."""
        return self._network().host

    @property
    def nodes(self) -> list[Node]:
        """The nodes, to be killed and started again."""
        return self._parts().nodes

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
        """Build what is missing, start what does not run, wait until pods can run."""
        _require_all()
        tools.build([*COMPONENTS, "kubectl", "kubelet", "kube-proxy", "coredns"])
        with step("network made"):
            self._choose_network().make()
        self.control_plane.open()
        with step("DNS ready"):
            self._start_dns()
        self._start_nodes([images.pause(), images.operator(), images.serving()])
        with step("nodes ready"):
            for node in self.nodes:
                node.wait_until_ready(self.control_plane.kubectl)

    def close(self) -> None:
        """End and remove all of it. Images and programs stay in the cache."""
        images.release()
        if not self._number_file.is_file():
            return
        for node in self.nodes:
            node.kill()
        self._parts().dns.kill()
        self.control_plane.close()
        self._network().remove()
        for node in self.nodes:
            cgroups.remove(node.cgroup)
        shutil.rmtree(self._directory)
        self._made = None

    def processes(self) -> Iterator[Process]:
        """All of them, for a look."""
        if self._number_file.is_file():
            yield from (self.control_plane.process(name) for name in COMPONENTS)
            yield self._parts().dns
            yield from (node.process for node in self.nodes)

    @property
    def _number_file(self) -> Path:
        return self._directory / "number"

    def _choose_network(self) -> Network:
        """Under a lock, because two clusters that start at once must not take the same one."""
        tools.cache().mkdir(parents=True, exist_ok=True)
        with (tools.cache() / ".networks").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._number_file.is_file():
                self._directory.mkdir(parents=True, exist_ok=True)
                self._number_file.write_text(str(network.free_number()), encoding="ascii")
            found = self._network()
            found.make()
        return found

    def _network(self) -> Network:
        return Network(int(self._number_file.read_text(encoding="ascii")))

    def _parts(self) -> _Parts:
        if self._made is None:
            net = self._network()
            plane = ControlPlane(
                self._directory,
                scheduler=True,
                address=net.host,
                services=net.services,
                nodes=[node_name(number) for number in range(network.NODES)],
                outlives=self._outlives,
            )
            files = [NodeFiles(one, self._directory / node_name(one), net, plane.setting) for one in self._numbers()]
            command = [str(tools.program("coredns")), "-conf", str(self._directory / "Corefile")]
            dns = Process("coredns", command, self._directory, outlives=self._outlives)
            self._made = _Parts(plane, dns, [Node(one, self._outlives) for one in files])
        return self._made

    def _numbers(self) -> range:
        """Those wanted, and those that an earlier call has made."""
        return range(max(self._wanted, len(list(self._directory.glob(f"{node_name('[0-9]')}/")))))

    def _start_dns(self) -> None:
        host, kubeconfig = self._network().host, self.control_plane.setting.kubeconfig("coredns")
        text = COREFILE.format(host=host, kubeconfig=kubeconfig)
        (self._directory / "Corefile").write_text(text, encoding="utf-8")
        process = self._parts().dns
        process.start()
        process.wait_for(lambda: answers(f"http://{host}:8181/ready"), DNS_SECONDS)

    def _start_nodes(self, wanted: Sequence[Image]) -> None:
        """Those that run already are brought the images that have changed."""
        store = imagestore.prepare(wanted)
        for node in self.nodes:
            if not node.storage.is_dir():
                node.storage.parent.mkdir(exist_ok=True)
                imagestore.clone(store, node.storage)
            node.start(self.models)
            node.wait_for_runtime()
            imagestore.bring(wanted, node.storage, node.ctr)


def _require_all() -> None:
    if os.geteuid() != 0:
        raise Missing("nodes need root: run this as root")
    require(NEEDED, REMEDY)
    if not Path(CNI_PLUGINS, "bridge").is_file():
        raise Missing(f"the local cluster needs CNI plugins in {CNI_PLUGINS}: {REMEDY}")
