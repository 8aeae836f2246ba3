"""A network of our own on this machine: a bridge, on it the host and the nodes, each with a range for its pods.

Nodes have their own network namespaces, so bridge and routes are all that the host gets, and both go with the bridge.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from localcluster.shell import Broken, run

CLUSTERS: Final = range(10)  # so many fit on one machine, each with its number
NODES: Final = 4  # so many fit into one cluster
PODS_PER_NODE: Final = 64


@dataclass(frozen=True)
class Network:
    """The names and addresses of the cluster with this number."""

    number: int

    @property
    def bridge(self) -> str:
        """The host's link."""
        return f"sglc{self.number}"

    @property
    def host(self) -> str:
        """The host's address: API server and DNS."""
        return f"10.99.{self.number}.1"

    @property
    def services(self) -> str:
        """The range of ClusterIPs."""
        return f"10.97.{self.number}.0/24"

    @property
    def pods(self) -> str:
        """The range of all pods."""
        return f"10.98.{self.number}.0/24"

    def link(self, node: int) -> str:
        """The host's end of the cable to the node with this number, from 0."""
        return f"{self.bridge}n{node}"

    def node(self, node: int) -> str:
        """The address of a node."""
        return f"10.99.{self.number}.{node + 2}"

    def pods_of(self, node: int) -> str:
        """The range of a node's pods."""
        return f"10.98.{self.number}.{node * PODS_PER_NODE}/26"

    def make(self) -> None:
        """The bridge with the host's address, unless it is there."""
        if not is_link(self.bridge):
            run("ip", "link", "add", self.bridge, "type", "bridge")
            run("ip", "address", "add", f"{self.host}/24", "dev", self.bridge)
            run("ip", "link", "set", self.bridge, "up")

    def connect(self, node: int, pid: int) -> None:
        """A cable from the bridge to `eth0` in the network namespace of `pid`; it goes with that namespace."""
        link = self.link(node)
        if is_link(link):  # of a namespace that the kernel is still taking down
            _delete(link)
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        run("ip", "link", "set", link, "master", self.bridge, "up")
        run("ip", "route", "replace", self.pods_of(node), "via", self.node(node))
        if node == 0:  # its kube-proxy serves ClusterIPs to the host too
            run("ip", "route", "replace", self.services, "via", self.node(node))

    def remove(self) -> None:
        """Everything that `make` and `connect` left; routes go with the bridge."""
        links = [self.link(node) for node in range(NODES)]
        for link in [*links, self.bridge]:
            if is_link(link):
                _delete(link)


def _delete(link: str) -> None:
    """The kernel may be faster."""
    try:
        run("ip", "link", "delete", link)
    except Broken:
        if is_link(link):
            raise


def is_link(name: str) -> bool:
    """Whether the host has this link."""
    return name in {found for _, found in socket.if_nameindex()}


def free_number() -> int:
    """The number of a network that nobody on this machine has."""
    routes = Path("/proc/net/fib_trie").read_text(encoding="ascii")
    for number in CLUSTERS:
        if not is_link(Network(number).bridge) and f"10.99.{number}." not in routes:
            return number
    raise RuntimeError("all networks of local clusters are in use on this machine: take one down")
