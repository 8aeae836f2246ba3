"""What the head's preStop hook sees of the other nodes, on a real Ray of two nodes. No engine."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The worker's own hook asks for the drain; an actor on the node keeps Ray from ending it at once.
SCRIPT = """
import json, time
import ray
from ray.cluster_utils import Cluster
from sglang_serve import drain, drain_head

told = []


def main(cluster):
    worker = cluster.add_node(num_cpus=1)
    cluster.connect()
    busy = Busy.remote()
    assert ray.get(busy.here.remote()) == worker.node_id
    look = drain_head.ray_workers(drain.Node(cluster.head_node.node_id, cluster.address))
    note(look, (1, 0))
    drain.request_drain(drain.Node(worker.node_id, cluster.address), 600)
    note(look, (1, 1))
    cluster.remove_node(worker)
    note(look, (0, 0))


@ray.remote(num_cpus=1)
class Busy:
    def here(self):
        return ray.get_runtime_context().get_node_id()


def note(look, wanted):
    deadline = time.monotonic() + 60
    while (seen := (len(look().alive), len(look().draining))) != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    told.append(seen)


cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
try:
    main(cluster)
finally:
    ray.shutdown()
    cluster.shutdown()
print(json.dumps(told))
"""


def test_a_worker_is_seen_alive_then_draining_then_gone(engine_python: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="d-") as scratch:  # the path of a socket must be short
        env = {**os.environ, "PYTHONPATH": f"{ROOT}/images", "RAY_TMPDIR": scratch, "RAY_USAGE_STATS_ENABLED": "0"}
        done = subprocess.run([engine_python, "-c", SCRIPT], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [[1, 0], [1, 1], [0, 0]], done.stderr[-3000:]
