"""A network that keeps to NetworkPolicies while a block lasts: kube-router's firewall on each node. Root only.

Our own network takes no notice of them, as many do. The firewall alone is started: pods, Services and routes stay as
they are. What it writes lies in the network namespaces of the nodes, and is removed at the end of the block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from localcluster import tools
from localcluster.cluster import LocalCluster
from localcluster.missing import require
from localcluster.node import Node
from localcluster.processes import Process
from localcluster.shell import Broken, run

NAME: Final = "kube-router"
REMEDY: Final = "run `make cluster-tools` as root on Debian or Ubuntu"
PARTS: Final = ("--run-firewall", "--run-router=false", "--run-service-proxy=false", "--health-port=0")
CHAIN: Final = "KUBE-ROUTER-FORWARD"
BRIDGED: Final = "/proc/sys/net/bridge/bridge-nf-call-iptables"  # or what pods of one node say to another passes unseen
SECONDS: Final = 60.0
# Its own `--cleanup-config` (2.1) leaves the rules.
TAKE_BACK: Final = f"""
iptables-save -t filter | grep -v -E 'KUBE-(ROUTER|POD-FW|NWPLCY)' | iptables-restore
ipset destroy
echo 0 > {BRIDGED}
"""


@contextmanager
def enforced(cluster: LocalCluster) -> Iterator[None]:
    """While the body runs, pods hear only whom the NetworkPolicies that choose them let through, and their own node."""
    require(["iptables", "ipset"], REMEDY)
    tools.build([NAME])
    with ExitStack() as stack:
        for node in cluster.nodes:
            stack.enter_context(_firewall(cluster, node))
        yield


@contextmanager
def _firewall(cluster: LocalCluster, node: Node) -> Iterator[None]:
    plane = cluster.control_plane
    command = [str(tools.program(NAME)), f"--kubeconfig={plane.kubeconfig}", f"--hostname-override={node.name}"]
    command += [f"--service-cluster-ip-range={plane.setting.services}", *PARTS]
    process = Process(f"{NAME}-{node.name}", node.inside(*command), plane.directory)
    run(*node.inside("sh", "-c", f"echo 1 > {BRIDGED}"))
    try:
        process.start()
        process.wait_for(lambda: _filters(node), SECONDS)
        yield
    finally:
        process.stop()
        run(*node.inside("sh", "-e", "-c", TAKE_BACK))


def _filters(node: Node) -> bool:
    try:
        run(*node.inside("iptables", "--wait", "--list-rules", CHAIN))
    except Broken:
        return False
    return True
