"""`python -m localcluster up|down|status|kubeconfig`: a control plane that stays until it is taken down."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from localcluster import tools
from localcluster.components import COMPONENTS
from localcluster.controlplane import ControlPlane
from localcluster.missing import Missing


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="localcluster", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "status", "kubeconfig"))
    parser.add_argument("--directory", type=Path, default=tools.cache() / "run", help="where its files are kept")
    options = parser.parse_args()
    plane = ControlPlane(options.directory, scheduler=True, outlives=True)
    try:
        {"up": _up, "down": _down, "status": _status, "kubeconfig": _kubeconfig}[options.command](plane)
    except Missing as missing:
        print(f"local cluster: {missing}", file=sys.stderr)
        return 1
    return 0


def _up(plane: ControlPlane) -> None:
    plane.open()
    print(f"export KUBECONFIG={plane.kubeconfig}")


def _down(plane: ControlPlane) -> None:
    plane.close()


def _status(plane: ControlPlane) -> None:
    for name in COMPONENTS:
        pid = plane.process(name).pid
        print(f"{name:26} {f'runs, pid {pid}' if pid else 'does not run'}")


def _kubeconfig(plane: ControlPlane) -> None:
    print(plane.kubeconfig)


if __name__ == "__main__":
    sys.exit(main())
