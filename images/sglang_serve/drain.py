"""`python -m sglang_serve.drain`: the preStop hook of worker pods. A pod that goes away first hands over its replica.
`sglang_serve.drain_head` is the head's.

The end of a pod says nothing to Ray Serve: the raylet dies at SIGTERM and running streams with it. So the hook declares
the node preempted, upon which Serve stops the replica in order (it leaves HAProxy, running streams finish), and waits
until the replica is gone. Only then the kubelet sends SIGTERM. Where a replica has several nodes its first one is the
one that drains, whichever of its pods is deleted: Serve knows of that one only, and the others end with it.

The pod's HAProxy may have more: it hands requests to any replica, and what it has handed to one on another pod is
waited for, too. Serve keeps HAProxy on a node without replicas until it has no more to do.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sglang_serve import args, leftovers

POLL_SECONDS = 1.0
REQUEST_SECONDS = 60  # for the `ray` command, which takes some seconds to import
PROC = Path("/proc")
REPLICA = "ray::ServeReplica:"  # how Ray titles a replica's process
FOLLOWER = "ray::Follower"  # and that of the actor on another node of a replica (sglang_serve.followers)
LEAD = "lead"  # a file of a follower's directory: the id of its replica's node


@dataclass(frozen=True)
class Node:
    """This pod's Ray node."""

    node_id: str
    gcs_address: str


def main(argv: Sequence[str] | None = None) -> int:
    """Drain this node; 0 when nothing is left here that a client waits for, 1 if something is after `--seconds`."""
    parser = argparse.ArgumentParser(prog="python -m sglang_serve.drain", description="Hand over this pod's replica.")
    parser.add_argument("--seconds", type=float, required=True, help="how long it may take")
    deadline = time.monotonic() + (seconds := parser.parse_args(argv).seconds)
    asked = False
    while what := left_here():
        if (left := deadline - time.monotonic()) < 0:
            say(f"after {seconds:.0f} s there is still {what}")
            return 1
        # Again until it is heard: the head may come back, with another address.
        if not asked and (nodes := to_drain(PROC)):
            asked = all(request_drain(node, left) for node in nodes)
        time.sleep(POLL_SECONDS)
    say("nothing is left here")
    return 0


def left_here() -> str:
    """What would be lost with this pod; "" if nothing, or if its Ray has ended already and all with it."""
    if find_node(PROC) is None:
        return ""
    if any(parts(PROC)):
        return "a replica"
    return f"{count} connections of clients" if (count := front_connections()) else ""


def front_connections() -> int:
    """Connections of clients to HAProxies of this pod, those that it has replaced included: each answer ends its own
    (ADR 0008), so that one is a request, or one that a client opened and has not used yet."""
    import psutil  # noqa: PLC0415 - a dependency of SGLang

    established = (one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_ESTABLISHED)
    return sum(getattr(one.laddr, "port", 0) == args.FRONT_PORT for one in established)


def to_drain(proc: Path) -> list[Node]:
    """This node if a replica is here, else those whose replicas have followers here."""
    if (here := find_node(proc)) is None:
        return []
    if any(command.startswith(REPLICA) for command in parts(proc)):
        return [here]
    state = Path(os.environ.get(args.ENV_STATE_DIR, args.DEFAULT_STATE_DIR))
    leads = [path / LEAD for path in leftovers.held(state)] if state.is_dir() else []
    return [replace(here, node_id=lead.read_text()) for lead in leads if lead.is_file()]


def request_drain(node: Node, seconds: float) -> bool:
    """Ask Ray to drain the node; whether it will. A failure is said: without its head the node ends within a minute.

    Serve stops a replica that it cannot place elsewhere when what is left until the deadline is the replica's
    graceful_shutdown_timeout_s. That is `seconds`, so without a spare worker it stops at once, with all its time.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", node.gcs_address]
    command += ["--node-id", node.node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    command += ["--reason-message", "the pod is deleted", "--deadline-remaining-seconds", str(round(seconds))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=REQUEST_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        say("ray drain-node: no answer")
        return False
    say("draining" if done.returncode == 0 else f"ray drain-node: {done.stderr.strip()[-500:]}")
    return done.returncode == 0


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


def parts(proc: Path) -> Iterator[str]:
    """Titles of the processes that are Serve replicas, or parts of them."""
    return (command[0] for _, command in _commands(proc) if command[0].startswith((REPLICA, FOLLOWER)))


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
