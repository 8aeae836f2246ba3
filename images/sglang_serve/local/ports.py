"""TCP ports of this machine, and who listens on them."""

from __future__ import annotations

import errno
import os
import random
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path

from sglang_serve.local.processes import listener
from sglang_serve.local.spec import Failed

# Above the engines' (sglang_serve.ports), below NCCL's choice (22000-29999), Serve's replicas (30000-31000) and what
# the kernel gives out (from 32768).
FIRST, LAST = 20_000, 21_999
CURRENT_CLUSTER = Path("/tmp/ray/ray_current_cluster")  # noqa: S108 - where `ray start` writes its address


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on now.

    Whoever asks listens seconds later, so they are none that the kernel gives out meanwhile; and they are drawn by lot,
    because others that start now draw too. Raises Failed if there are not as many.
    """
    with ExitStack() as stack:
        found = [one.getsockname()[1] for one in islice(_listeners(stack), count)]
    if len(found) < count:
        remedy = "end what listens there: ss -ltnp"
        raise Failed("NoFreePort", f"{count} free ports are needed, {FIRST} to {LAST} have {len(found)}", remedy)
    return found


def free_port() -> int:
    """One of `free_ports`."""
    return free_ports(1)[0]


def _listeners(held: ExitStack) -> Iterator[socket.socket]:
    """Sockets on all interfaces, each on a port of its own, for as long as `held` is open."""
    for port in random.sample(range(FIRST, LAST + 1), LAST + 1 - FIRST):
        with suppress(OSError):
            yield held.enter_context(socket.create_server(("", port)))


def require_free(host: str, port: int) -> None:
    """Raise Failed, saying who has it, unless `host:port` can be listened on."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise _unusable(host, port, error) from error


def _unusable(host: str, port: int, error: OSError) -> Failed:
    if error.errno == errno.EADDRINUSE:
        message, remedy = f"port {port} is in use by {listener(port)}", "end that process, or choose another --port"
        return Failed("PortInUse", message, remedy)
    message = f"cannot listen on {host}:{port}: {error.strerror}"
    return Failed("PortUnusable", message, "choose another --host, or a --port above 1023")


def running_ray() -> str | None:
    """Address of a Ray that listens already, as Ray itself looks for it: $RAY_ADDRESS, then the last `ray start`.

    Raises Failed if the address of $RAY_ADDRESS cannot be used: whoever set it does not want another one.
    """
    asked = os.environ.get("RAY_ADDRESS", "").removeprefix("auto")
    address = asked or (CURRENT_CLUSTER.read_text().strip() if _is_ours(CURRENT_CLUSTER) else "")
    if not address or not _listens(address):
        if asked:
            remedy = "start that Ray, or unset RAY_ADDRESS: this run then starts its own"
            raise Failed("RayUnusable", f"RAY_ADDRESS={asked}: no Ray listens there", remedy)
        return None
    if not _is_here(_host_port(address)[0]):
        message = f"RAY_ADDRESS={address} is another machine's Ray, where this machine's files are not"
        raise Failed("RemoteRay", message, "unset RAY_ADDRESS to get a Ray here")
    return address


def _is_ours(path: Path) -> bool:
    """The Ray of another user of this machine would be sent our tokens. One of root's is everybody's."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid in (0, os.getuid())


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    return host.strip("[]"), int(port)


def _listens(address: str) -> bool:
    try:
        socket.create_connection(_host_port(address), timeout=2).close()
    except (OSError, ValueError):
        return False
    return True


def _is_here(host: str) -> bool:
    """Only an address of this machine can be bound."""
    try:
        socket.create_server((host, 0)).close()
    except OSError:
        return False
    return True
