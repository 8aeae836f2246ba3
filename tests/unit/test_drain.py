"""The preStop hook: finds its Ray node, waits for the replica, ends in time."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from sglang_serve import args, drain, leftovers

RAYLET = [
    "/opt/ray/raylet/raylet",
    "--store_socket_name=/tmp/s",
    "--node_id=abc",
    "--gcs-address=10.0.0.1:6379",
    "--head",
]
REPLICA = ["ray::ServeReplica:qwen3:SGLangServer"]


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(drain, "PROC", tmp_path)
    monkeypatch.setattr(drain, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(drain, "front_connections", lambda: 0)
    return tmp_path


def start(proc: Path, pid: int, command: list[str]) -> Path:
    (proc / str(pid)).mkdir()
    path = proc / str(pid) / "cmdline"
    path.write_bytes("\0".join(command).encode() + b"\0")
    return path


def test_the_node_is_that_of_the_raylet(proc: Path) -> None:
    start(proc, 1, ["bash", "-c", "ray start --node_id=no"])
    start(proc, 2, RAYLET)
    assert drain.find_node(proc) == drain.Node("abc", "10.0.0.1:6379")


def test_the_control_store_is_where_the_raylet_is_connected_to() -> None:
    """Its name may be gone: it is a Service of the RayCluster that is being deleted."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assert drain.connected_to(os.getpid(), f"gone.ns.svc:{port}") == f"127.0.0.1:{port}"
        assert drain.connected_to(os.getpid(), "gone.ns.svc:1") == "gone.ns.svc:1"


def test_no_raylet_no_node(proc: Path) -> None:
    start(proc, 1, ["sleep", "1"])
    start(proc, 2, [""])  # a kernel thread, or a process that just ended
    assert drain.find_node(proc) is None


def test_a_pod_without_replica_ends_at_once(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(proc, 1, RAYLET)
    monkeypatch.setattr(drain, "request_drain", lambda *_: pytest.fail("drained"))
    assert drain.main(["--seconds", "60"]) == 0


def test_it_waits_until_the_replica_is_gone(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(proc, 1, RAYLET)
    replica = start(proc, 2, REPLICA)
    asked = []

    def request(node: drain.Node, seconds: float) -> bool:
        asked.append((node.node_id, round(seconds)))
        replica.unlink()
        return True

    monkeypatch.setattr(drain, "request_drain", request)
    assert drain.main(["--seconds", "60"]) == 0
    assert asked == [("abc", 60)]


def test_it_waits_for_what_came_in_here_and_is_answered_elsewhere(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With or without a replica of its own, for which alone the node is drained."""
    start(proc, 1, RAYLET)
    replica = start(proc, 2, REPLICA)
    connections, asked = iter([2, 1, 0]), []

    def request(node: drain.Node, _: float) -> bool:
        asked.append(node.node_id)
        replica.unlink()
        return True

    monkeypatch.setattr(drain, "request_drain", request)
    monkeypatch.setattr(drain, "front_connections", lambda: next(connections))
    assert drain.main(["--seconds", "60"]) == 0
    assert (list(connections), asked) == ([], ["abc"])
    connections = iter([1, 0])
    assert drain.main(["--seconds", "60"]) == 0
    assert (list(connections), asked) == ([], ["abc"])


def test_a_replica_that_comes_while_it_waits_is_drained(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve does not know that the pod goes."""
    start(proc, 1, RAYLET)
    connections = iter([1, 0])
    replica: list[Path] = []

    def look() -> int:
        if not replica:
            replica.append(start(proc, 2, REPLICA))
        return next(connections)

    def request(*_: object) -> bool:
        replica[0].unlink()
        return True

    monkeypatch.setattr(drain, "request_drain", request)
    monkeypatch.setattr(drain, "front_connections", look)
    assert drain.main(["--seconds", "60"]) == 0
    assert not replica[0].exists()


def test_clients_that_stay_are_left_to_sigterm(
    proc: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start(proc, 1, RAYLET)
    monkeypatch.setattr(drain, "front_connections", lambda: 3)
    monkeypatch.setattr(drain, "say", print)
    assert drain.main(["--seconds", "0.05"]) == 1
    assert "3 connections of clients" in capsys.readouterr().out


def test_connections_of_clients_are_those_to_the_front(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(args, "FRONT_PORT", listener.getsockname()[1])
        assert drain.front_connections() == 0
        with socket.create_connection(("127.0.0.1", args.FRONT_PORT)):
            assert drain.front_connections() == 1  # the client's end has another port


def test_it_asks_until_it_is_heard(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the replica takes new requests for all of its time, and loses them."""
    raylet, replica = start(proc, 1, RAYLET), start(proc, 2, REPLICA)
    asked = []

    def request(node: drain.Node, seconds: float) -> bool:
        asked.append(node.gcs_address)
        if len(asked) == 2:
            replica.unlink()
            return True
        raylet.write_bytes(raylet.read_bytes().replace(b"10.0.0.1", b"10.0.0.2"))  # another head has come
        return False

    monkeypatch.setattr(drain, "request_drain", request)
    assert drain.main(["--seconds", "60"]) == 0
    assert asked == ["10.0.0.1:6379", "10.0.0.2:6379"]


def test_a_pod_with_a_follower_drains_the_node_of_its_replica_and_waits(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serve knows of that node only. The follower ends with its replica, which may have streams."""
    start(proc, 1, RAYLET)
    follower = start(proc, 2, ["ray::Follower.wait"])
    monkeypatch.setenv("SGLANG_SERVE_STATE_DIR", str(proc / "state"))
    directory = leftovers.claim(proc / "state", "r-1")
    (directory.path / drain.LEAD).write_text("first-node")
    asked = []

    def request(node: drain.Node, seconds: float) -> bool:
        asked.append(node)
        follower.unlink()
        return True

    monkeypatch.setattr(drain, "request_drain", request)
    assert drain.main(["--seconds", "60"]) == 0
    assert asked == [drain.Node("first-node", "10.0.0.1:6379")]
    directory.remove()


def test_a_replica_that_stays_is_left_to_sigterm(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(proc, 1, RAYLET)
    start(proc, 2, REPLICA)
    monkeypatch.setattr(drain, "request_drain", lambda *_: False)
    assert drain.main(["--seconds", "0.05"]) == 1


def test_a_refusal_is_said_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(drain, "say", said.append)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert not drain.request_drain(drain.Node("abc", "10.0.0.1:6379"), 60)
    assert said == ["ray drain-node: "]
