"""The first process of a node: `python -m localcluster.machine <plan.json>`, in namespaces of its own.

It makes the node's view of the machine (network, directories that nobody else sees), starts the node's programs one
after another, starts them again when they end, as systemd does on other nodes, and collects orphans, as the first
process must. When it ends, the kernel ends all that runs on the node, and mounts, links and packet filter rules go with
its namespaces: that is all of the cleaning up. Root only.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from localcluster.shell import run

# Programs of a node want these for themselves, and other nodes and the host must not see what they put there.
# A kubelet's --root-dir does not move its socket for device plugins (1.36): it is in /var/lib/kubelet.
PRIVATE: Final = ("/run", "/var/lib/cni", "/var/lib/kubelet", "/var/log")
WAIT_SECONDS: Final = 60.0
STEP_SECONDS: Final = 0.05
# A kubelet ends if containerd listens and does not answer yet (containerd/containerd#8468), so one end is no failure.
ENDS: Final = 5  # of one program
AGAIN_SECONDS: Final = 1.0
LOG_LINES: Final = 20
_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_NO_INPUT: Final = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)


def main(plan: Mapping[str, Any]) -> int:
    """Make the node, then serve as its first process until a program of it ends too often or SIGTERM comes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    for directory in PRIVATE:
        Path(directory).mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory)
    for source, target in plan["binds"].items():
        Path(target).mkdir(parents=True)
        run("mount", "--bind", "-o", "ro", source, target)
    _make_network(plan)
    return _serve(plan["programs"])


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


def _serve(programs: Mapping[str, Any]) -> int:
    """Start all of them; wait for children, ours and adopted ones; return when one of ours has ended too often."""
    running = {_start(program): name for name, program in programs.items()}
    ends = Counter[str]()
    while max(ends.values(), default=0) < ENDS:
        pid, status = os.wait()
        if name := running.pop(pid, None):
            ends[name] += 1
            print(f"{name} has ended with status {status}: {_last_lines(programs[name]['log'])}", flush=True)
            time.sleep(AGAIN_SECONDS)
            running[_start(programs[name])] = name
    return 1


def _start(program: Mapping[str, Any]) -> int:
    """Its pid, once the file that it needs is there. Not by subprocess, which collects children behind our back."""
    if needed := program.get("after"):
        _wait(Path(needed).exists, needed)
    outputs = [(os.POSIX_SPAWN_OPEN, one, program["log"], _APPEND, 0o644) for one in (1, 2)]
    command = program["command"]
    return os.posix_spawnp(command[0], command, os.environ, file_actions=[_NO_INPUT, *outputs])


def _last_lines(log: str) -> str:
    lines = Path(log).read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
    return "\n  ".join(["the end of its log:", *lines])


def _wait(ready: Any, what: str) -> None:
    limit = time.monotonic() + WAIT_SECONDS
    while not ready():
        if time.monotonic() > limit:
            raise TimeoutError(f"waited {WAIT_SECONDS:.0f} s for {what}")
        time.sleep(STEP_SECONDS)


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
