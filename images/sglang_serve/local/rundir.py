"""One directory for every file of a run, and the settings that move Ray's, HAProxy's and the engine's files into it.

Its name is short because sockets lie in it: AF_UNIX allows 107 bytes, and Ray appends 60 to 90.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from sglang_serve import leftovers
from sglang_serve.args import ENV_STATE_DIR, HAPROXY_THREADS, haproxy_threads
from sglang_serve.local.ports import free_ports

ROOT = Path("/tmp")  # noqa: S108 - directories below it are made 0700 by mkdtemp
PREFIX = "sgl-"
STATE = "s"  # of the replicas
# Of a Ray of this run alone, unless the endpoint says otherwise: its processes would say more than the engine does.
QUIET = {"RAY_LOGGER_LEVEL": "warning", "RAY_BACKEND_LOG_LEVEL": "warning"}
# Fixed by default, so that a second endpoint, or any other Ray on this machine, would collide.
PORT_SETTINGS = (
    "RAY_SERVE_HAPROXY_METRICS_PORT",
    "RAY_SERVE_HAPROXY_STATS_PORT",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT",
)


@contextmanager
def run_directory() -> Iterator[Path]:
    """A fresh directory, removed at the end. Those of runs that were killed are removed first."""
    sweep()
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=ROOT))
    with (path / "lock.new").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (path / "lock.new").rename(path / "lock")  # only now may others see it: it is already held
        try:
            yield path
        finally:
            _remove(path)


def sweep() -> None:
    """Remove directories whose owner is dead: the kernel released its lock. Pids would lie across containers."""
    for path in filter(_is_ours, ROOT.glob(f"{PREFIX}*")):
        with suppress(OSError), (path / "lock").open() as lock:  # held: BlockingIOError
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path)


def _is_ours(path: Path) -> bool:
    """Everybody may make what looks like one in /tmp, with links in it to what they want removed."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def _remove(run: Path) -> None:
    """With what replicas that were killed have left elsewhere, and no replica after them has swept."""
    if (run / STATE).is_dir():
        leftovers.sweep(run / STATE)
    shutil.rmtree(run, ignore_errors=True)


def run_environment(run: Path) -> dict[str, str]:
    """Settings that keep every file of this run below `run` and its ports apart from those of others."""
    haproxy, scratch, state = run / "h", run / "t", run / STATE
    for path in (haproxy, scratch, state):
        path.mkdir()
    ports = free_ports(len(PORT_SETTINGS))
    return {
        "TMPDIR": str(scratch),
        ENV_STATE_DIR: str(state),
        "RAY_COLOR_PREFIX": "0",  # the log is a file
        "RAY_DEDUP_LOGS": "0",  # each request has its line
        HAPROXY_THREADS: haproxy_threads(os.cpu_count() or 1),  # a pod's are those of its spec.resources
        # A busy laptop starts slowly; Serve would kill its proxy after 5 s and try again.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "60",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "metrics.sock"),
        **{name: str(port) for name, port in zip(PORT_SETTINGS, ports, strict=True)},
    }


def own_ray_environment(run: Path) -> dict[str, str]:
    """Settings of a Ray of this run alone. The token locks other users of this machine out: Ray runs any code that is
    sent to it. Its processes write to our log, as in a pod; by way of files, log monitor and driver each line of a
    request costs as much as a tenth of the request does in the replica.
    """
    token = run / "ray-token"  # the directory is 0700
    token.write_text(secrets.token_hex(32))
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_LOG_TO_STDERR": "1",
    }


def apply_environment(settings: Mapping[str, str]) -> None:
    """Put `settings` into this process before Ray is imported: it reads them then, and its children inherit them."""
    os.environ.update(settings)
    tempfile.tempdir = None  # read TMPDIR again
