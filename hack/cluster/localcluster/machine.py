"""The first process of a node: `python -m localcluster.machine <plan.json>`, in namespaces of its own.

It makes the node's view of the machine (network, directories that nobody else sees), starts the node's programs one
after another, and collects orphans, as the first process must. When it ends, the kernel ends all that runs on the node,
and mounts, links and packet filter rules go with its namespaces: that is all of the cleaning up. Root only.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from localcluster.shell import run

# Programs of a node want these for themselves, and other nodes and the host must not see what they put there.
PRIVATE: Final = ("/run", "/var/lib/cni", "/var/log")
WAIT_SECONDS: Final = 60.0
STEP_SECONDS: Final = 0.05


def main(plan: Mapping[str, Any]) -> int:
    """Make the node, then serve as its first process until a program of it ends or SIGTERM comes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    for directory in PRIVATE:
        Path(directory).mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory)
    for source, target in plan["binds"].items():
        Path(target).mkdir(parents=True)
        run("mount", "--bind", "-o", "ro", source, target)
    _make_network(plan)
    return _collect(_start(plan))


def _make_network(plan: Mapping[str, Any]) -> None:
    """The cable comes from outside, once we are there."""
    run("ip", "link", "set", "lo", "up")
    _wait(lambda: "eth0" in {name for _, name in socket.if_nameindex()}, "the link eth0")
    run("ip", "address", "add", f"{plan['address']}/24", "dev", "eth0")
    run("ip", "link", "set", "eth0", "up")
    run("ip", "route", "add", "default", "via", plan["gateway"])
    for pods, node in plan["routes"].items():
        run("ip", "route", "add", pods, "via", node)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _start(plan: Mapping[str, Any]) -> dict[int, str]:
    """The programs by their pids; each when the file that it needs is there."""
    running = {}
    for name, program in plan["programs"].items():
        if needed := program.get("after"):
            _wait(Path(needed).exists, needed)
        with Path(program["log"]).open("ab") as log:
            started = subprocess.Popen(program["command"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        running[started.pid] = name
    return running


def _collect(running: Mapping[int, str]) -> int:
    """Wait for children, ours and adopted ones; return when one of ours has ended."""
    while True:
        pid, status = os.wait()
        if pid in running:
            print(f"{running[pid]} has ended with status {status}", flush=True)
            return 1


def _wait(ready: Any, what: str) -> None:
    limit = time.monotonic() + WAIT_SECONDS
    while not ready():
        if time.monotonic() > limit:
            raise TimeoutError(f"waited {WAIT_SECONDS:.0f} s for {what}")
        time.sleep(STEP_SECONDS)


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
