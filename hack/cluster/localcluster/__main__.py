"""`python -m localcluster up|down|status|kubeconfig`: a cluster that stays until it is taken down."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from localcluster import kind, tools
from localcluster.cluster import LocalCluster
from localcluster.kubectl import Refused
from localcluster.missing import Missing
from localcluster.processes import Failed
from localcluster.say import say
from localcluster.shell import Broken

EXAMPLE = "tests/cluster/endpoint.yaml"
NEXT = """\
export KUBECONFIG={kubeconfig}
export PATH=$PWD/.venv/bin:{programs}:$PATH
kubectl get nodes
kubectl sglang render -f {example} | kubectl apply --server-side -f -
"""


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="localcluster", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "status", "kubeconfig"))
    parser.add_argument("--directory", type=Path, default=tools.cache() / "run", help="where its files are kept")
    parser.add_argument("--nodes", type=int, default=1, help="how many nodes (default 1)")
    options = parser.parse_args()
    try:
        cluster = LocalCluster(options.directory, nodes=options.nodes, outlives=True)
        if kind.is_used(options.directory) or (options.command == "up" and kind.is_possible()):
            return _with_kind(options.command, options.directory, cluster.models)
        return {"up": _up, "down": _down, "status": _status, "kubeconfig": _kubeconfig}[options.command](cluster)
    except (Missing, Failed, Broken, Refused) as error:
        say(str(error))
        return 1


def _up(cluster: LocalCluster) -> int:
    cluster.open()
    _say_next(cluster.control_plane.kubeconfig)
    return 0


def _down(cluster: LocalCluster) -> int:
    cluster.close()
    return 0


def _status(cluster: LocalCluster) -> int:
    """Exit code 1 unless all of it runs."""
    processes = list(cluster.processes())
    for process in processes:
        print(f"{process.name:26} {f'runs, pid {process.pid}' if process.pid else 'does not run'}  {process.log}")
    return 0 if processes and all(process.pid for process in processes) else 1


def _kubeconfig(cluster: LocalCluster) -> int:
    print(cluster.control_plane.kubeconfig)
    return 0


def _with_kind(command: str, directory: Path, models: Path) -> int:
    if command == "up":
        _say_next(kind.up(directory, models))
    elif command == "down":
        kind.down(directory)
    else:
        print(kind.kubeconfig(directory))
    return 0


def _say_next(kubeconfig: Path) -> None:
    print(NEXT.format(kubeconfig=kubeconfig, programs=tools.directory(), example=EXAMPLE), end="")


if __name__ == "__main__":
    sys.exit(main())
