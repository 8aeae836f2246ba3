"""`python -m sglang_serve.drain`: the preStop hook of worker pods. A pod that goes away first hands over its replica.
`sglang_serve.drain_head` is the head's.

The end of a pod says nothing to Ray Serve: the raylet dies at SIGTERM and running streams with it. So the hook declares
the node preempted, upon which Serve stops the replica in order (it leaves HAProxy, running streams finish), and waits
until the replica is gone. Only then the kubelet sends SIGTERM.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 1.0
REQUEST_SECONDS = 60  # for the `ray` command, which takes some seconds to import
PROC = Path("/proc")
REPLICA = "ray::ServeReplica:"  # how Ray titles a replica's process


@dataclass(frozen=True)
class Node:
    """This pod's Ray node."""

    node_id: str
    gcs_address: str


def main(argv: Sequence[str] | None = None) -> int:
    """Drain this node; 0 when its replica is gone, 1 if it is still there after `--seconds`."""
    parser = argparse.ArgumentParser(prog="python -m sglang_serve.drain", description="Hand over this pod's replica.")
    parser.add_argument("--seconds", type=float, required=True, help="how long the replica may take to stop")
    deadline = time.monotonic() + (seconds := parser.parse_args(argv).seconds)
    node = find_node(PROC)
    if node is None or not any(replicas(PROC)):
        say("no replica here")
        return 0
    request_drain(node, seconds)
    while any(replicas(PROC)):
        if time.monotonic() > deadline:
            say(f"the replica is still there after {seconds:.0f} s")
            return 1
        time.sleep(POLL_SECONDS)
    say("the replica is gone")
    return 0


def request_drain(node: Node, seconds: float) -> None:
    """Ask Ray to drain the node. A failure is said, not raised: without its head the node ends by itself in a minute.

    Serve stops a replica that it cannot place elsewhere when what is left until the deadline is the replica's
    graceful_shutdown_timeout_s. That is `seconds`, so without a spare worker it stops at once, with all its time.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", node.gcs_address]
    command += ["--node-id", node.node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    command += ["--reason-message", "the pod is deleted", "--deadline-remaining-seconds", str(round(seconds))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=REQUEST_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        say("ray drain-node: no answer, waiting all the same")
    else:
        say("draining" if done.returncode == 0 else f"ray drain-node: {done.stderr.strip()[-500:]}")


def find_node(proc: Path) -> Node | None:
    """The Ray node of this PID namespace by its raylet's command line; None if there is no raylet."""
    for pid, command in _commands(proc):
        if Path(command[0]).name == "raylet":
            flags = dict(part.lstrip("-").split("=", 1) for part in command[1:] if "=" in part)
            return Node(flags["node_id"], connected_to(pid, flags["gcs-address"]))
    return None


def connected_to(pid: int, address: str) -> str:
    """`host:port`, with the IP address that process `pid` has a connection to, if it has one.

    The raylet was given the name of a Service. That goes at once with its RayCluster, while the pod of the head
    waits for its workers: connections stay, but the name is nobody's any more.
    """
    import psutil  # noqa: PLC0415 - a dependency of SGLang

    _, _, port = address.rpartition(":")
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return address
    peers = [each.raddr.ip for each in connections if each.raddr and each.raddr.port == int(port)]
    return next((f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip in peers), address)


def replicas(proc: Path) -> Iterator[str]:
    """Titles of the processes that are Serve replicas."""
    return (command[0] for _, command in _commands(proc) if command[0].startswith(REPLICA))


def say(message: str) -> None:
    """Where `kubectl logs` finds it: a hook's own output goes nowhere."""
    line = f"sglang_serve.drain: {message}\n"
    try:
        Path("/proc/1/fd/2").write_text(line, encoding="utf-8")
    except OSError:
        sys.stderr.write(line)


def _commands(proc: Path) -> Iterator[tuple[int, list[str]]]:
    for path in proc.glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        except OSError:  # it ended meanwhile
            continue
        if command[0]:
            yield int(path.parent.name), command


if __name__ == "__main__":
    sys.exit(main())
