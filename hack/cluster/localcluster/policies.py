"""A network that keeps to NetworkPolicies while a block lasts: kube-router's firewall on each node. Root only.

Our own network takes no notice of them, as many do. The firewall alone is started: pods, Services and routes stay as
they are. What it writes lies in the network namespaces of the nodes, and is removed at the end of the block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from localcluster import tools
from localcluster.cluster import REMEDY, LocalCluster
from localcluster.kubectl import until
from localcluster.missing import Missing, require
from localcluster.node import Node
from localcluster.processes import Process
from localcluster.shell import Broken, run

NAME: Final = "kube-router"
PARTS: Final = ("--run-firewall", "--run-router=false", "--run-service-proxy=false", "--health-port=0")
CHAIN: Final = "KUBE-ROUTER-FORWARD"
OURS: Final = "KUBE-(ROUTER|POD-FW|NWPLCY)"
BRIDGED: Final = "/proc/sys/net/bridge/bridge-nf-call-iptables"
SECONDS: Final = 60.0
# Its own `--cleanup-config` (2.1) leaves the rules. Sets go after the rules that use them.
TAKE_BACK: Final = f"""
iptables-save -t filter > /run/rules
grep -v -E '{OURS}' /run/rules | iptables-restore --wait
ipset destroy
! iptables-save -t filter | grep -q -E '{OURS}'
"""


@contextmanager
def enforced(cluster: LocalCluster) -> Iterator[None]:
    """While the body runs, pods hear only whom the NetworkPolicies that choose them let through, and their own node.
    Raises Missing if this machine cannot."""
    require(["iptables", "ipset"], REMEDY)
    tools.build([NAME])
    with ExitStack() as stack:
        for node in cluster.nodes:
            stack.enter_context(_firewall(cluster, node))
        yield


@contextmanager
def _firewall(cluster: LocalCluster, node: Node) -> Iterator[None]:
    _require_bridged(node)
    plane = cluster.control_plane
    command = [str(tools.program(NAME)), f"--kubeconfig={plane.kubeconfig}", f"--hostname-override={node.name}"]
    command += [f"--service-cluster-ip-range={plane.setting.services}", *PARTS]
    process = Process(f"{NAME}-{node.name}", node.inside(*command), plane.directory)
    try:
        process.start()
        process.wait_for(lambda: _succeeds(node, f"iptables --wait --list-rules {CHAIN}"), SECONDS)
        yield
    finally:
        process.stop()
        # A program that it has started may still write.
        until(lambda: _succeeds(node, TAKE_BACK), SECONDS, f"the rules of {NAME} to go from {node.name}")


def _require_bridged(node: Node) -> None:
    """The kernel shows its filter what goes from pod to pod over a node's bridge, as a new network namespace has it."""
    if not _succeeds(node, f"grep -q 1 {BRIDGED}"):
        raise Missing(
            f"packets of bridges are not filtered on {node.name}: run `modprobe br_netfilter`, start it again"
        )


def _succeeds(node: Node, script: str) -> bool:
    try:
        run(*node.inside("sh", "-e", "-c", script))
    except Broken:
        return False
    return True
