"""Which pods Ray's autoscaler ends while the half of a replica is taken back (ADR 0017): never those of another one.
And for how long it lets one wait for a node.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from unit.rendered import cluster, render

SCRIPT: Final = Path(__file__).parent / "autoscaler_order.py"
ALL: Final = ["a", "b", "idle", "new"]
# Pods, bounds, and whether Serve still asks for the replica that it stops; then who goes.
CASES: Final[list[tuple[list[str], tuple[int, int], bool, list[str]]]] = [
    (ALL, (2, 4), True, []),  # the demand holds them: the lower bound alone frees nothing until the drain limit
    (ALL, (2, 3), True, ["new"]),  # the upper bound as it follows the pods that have nodes
    (["a", "b", "idle"], (2, 3), True, ["idle"]),  # the demand has no room, and holds nothing any more
    (["a", "b"], (2, 3), True, []),
    (["a", "b"], (2, 2), False, []),
    (ALL, (2, 2), False, ["idle", "new"]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{len(case[0])} pods, bounds {case[1]}, asked {case[2]}")
def test_it_ends_what_never_ran_and_then_what_is_idle(engine_python: Path, case: Any) -> None:
    names, (fewest, most), asked, gone = case
    question = [{"names": names, "fewest": fewest, "most": most, "asked": asked}]
    done = subprocess.run(
        [engine_python, SCRIPT, json.dumps(question)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-1500:]
    assert json.loads(done.stdout.splitlines()[-1]) == [{"go": gone, "come": 0}]


WAITS: Final = """
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig, InstanceReconcileConfig
print(InstanceReconcileConfig().allocate_status_timeout_s, AutoscalingConfig.get_pending_idle_timeout_s(None))
"""


def test_it_lets_a_pod_wait_for_a_node(engine_python: Path) -> None:
    """Each would be made anew after an hour, and the time that it has waited for would begin anew."""
    told = {one["name"]: one["value"] for one in cluster(render())["autoscalerOptions"]["env"]}
    del told["BASH_ENV"]
    done = subprocess.run(
        [engine_python, "-c", WAITS],
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == ["604800", "3600.0"], done.stderr[-1500:]
