"""The configuration of a node's programs. Everything that is a choice says why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from localcluster.components import Setting
from localcluster.network import NODES, Network
from localcluster.tools import program

PAUSE: Final = "localhost/pause:local"
SOCKET: Final = "/run/containerd/containerd.sock"
CNI_PLUGINS: Final = "/usr/lib/cni"  # Debian's place
MAX_PODS: Final = 50
# restrict_oom_score_adj: where we lack CAP_SYS_RESOURCE, runc fails to start pods that ask for a lower score than ours.
CONTAINERD: Final = """\
version = 2
root = "{storage}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{registries}"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{directory}/cni"
"""


@dataclass(frozen=True)
class NodeFiles:
    """The files of the node with this number, in a directory of its own."""

    number: int
    directory: Path
    network: Network
    control: Setting

    @property
    def name(self) -> str:
        """As `kubectl get nodes` shows it."""
        return node_name(self.number)

    @property
    def cgroup(self) -> str:
        """Where its pods are."""
        return f"{self.network.bridge}-{self.name}"

    @property
    def plan(self) -> Path:
        """What its first process reads."""
        return self.directory / "plan.json"

    @property
    def storage(self) -> Path:
        """Of containerd: images and containers."""
        return self.directory / "containerd"

    @property
    def registries(self) -> Path:
        """Of containerd: `<host>/hosts.toml` says where a registry is, and is read for each image. None by default."""
        return self.directory / "registries"

    def write(self, models: Path) -> None:
        """All of them. `models` is what pods find in /run/models of the node."""
        (self.directory / "cni").mkdir(parents=True, exist_ok=True)
        credentials = self.control.credentials
        credentials.make_certificate(f"kubelet-{self.name}", f"/CN={self.name}", f"IP:{self._address}")
        texts = {
            "containerd.toml": CONTAINERD.format(
                directory=self.directory,
                storage=self.storage,
                socket=SOCKET,
                pause=PAUSE,
                plugins=CNI_PLUGINS,
                registries=self.registries,
            ),
            "cni/10-bridge.conflist": json.dumps(self._pod_network()),
            "kubelet.yaml": yaml.safe_dump(self._kubelet()),
            "resolv.conf": "",  # names outside of the cluster are none of the pods' business
            "plan.json": json.dumps(self._plan(models), indent=1),
        }
        for name, text in texts.items():
            (self.directory / name).write_text(text, encoding="utf-8")

    @property
    def _address(self) -> str:
        return self.network.node(self.number)

    def _plan(self, models: Path) -> dict[str, Any]:
        others = [other for other in range(NODES) if other != self.number]
        return {
            "address": self._address,
            "gateway": self.network.host,
            "routes": {self.network.pods_of(other): self.network.node(other) for other in others},
            "binds": {str(models): "/run/models"},
            "programs": {
                "containerd": self._program("containerd", ["containerd", f"--config={self.directory}/containerd.toml"]),
                "kubelet": self._program("kubelet", self._kubelet_command(), after=SOCKET),
                "kube-proxy": self._program("kube-proxy", self._proxy_command()),
            },
        }

    def _program(self, name: str, command: list[str], after: str = "") -> dict[str, Any]:
        return {"command": command, "log": f"{self.directory}/{name}.log", "after": after}

    def _kubelet_command(self) -> list[str]:
        return [
            str(program("kubelet")),
            f"--config={self.directory}/kubelet.yaml",
            f"--kubeconfig={self.control.kubeconfig(f'system:node:{self.name}')}",
            f"--root-dir={self.directory}/kubelet",
            f"--hostname-override={self.name}",
            f"--node-ip={self._address}",
        ]

    def _proxy_command(self) -> list[str]:
        """Connection tracking keeps the machine's own limits: they are not for a namespace to set."""
        limits = ("max-per-core=0", "tcp-timeout-established=0s", "tcp-timeout-close-wait=0s")
        return [
            str(program("kube-proxy")),
            f"--kubeconfig={self.control.kubeconfig('system:kube-proxy')}",
            f"--hostname-override={self.name}",
            "--proxy-mode=nftables",
            f"--cluster-cidr={self.network.pods}",
            *(f"--conntrack-{limit}" for limit in limits),
        ]

    def _kubelet(self) -> dict[str, Any]:
        certificate, key = self.control.credentials.certificate(f"kubelet-{self.name}")
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self._address,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": False},
                "x509": {"clientCAFile": str(self.control.credentials.authority)},
            },
            "authorization": {"mode": "AlwaysAllow"},  # the one client with a certificate is the API server
            "tlsCertFile": str(certificate),
            "tlsPrivateKeyFile": str(key),
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            # Two endpoints shall fit on two cores, and a start within half a core would take minutes.
            "cpuCFSQuota": False,
            "clusterDNS": [self.network.host],
            "clusterDomain": "cluster.local",
            "resolvConf": f"{self.directory}/resolv.conf",
            "podLogsDir": f"{self.directory}/pod-logs",
            "volumePluginDir": f"{self.directory}/volume-plugins",
            "maxPods": MAX_PODS,
            # A laptop's disk may be nearly full, and an image that is thrown away cannot be pulled again.
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
        }

    def _pod_network(self) -> dict[str, Any]:
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": self.network.pods_of(self.number)}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}


def node_name(number: int | str) -> str:
    """As `kubectl get nodes` shows it."""
    return f"node{number}"
