"""A Ray of a head and two workers on this machine, until stdin closes. Run by the engine environment's Python.

    python tests/engine/two_raylets.py CORES

Out: the address of its control store, in one line. Each node has an address of its own, as a pod has.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

STORE_BYTES = 128 * 2**20
NODES = ("127.0.0.2", "127.0.0.3")


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES})
    try:
        for address in NODES:
            cluster.add_node(
                num_cpus=int(sys.argv[1]), node_ip_address=address, object_store_memory=STORE_BYTES, num_gpus=0
            )
        print(cluster.address, flush=True)
        sys.stdin.read()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
