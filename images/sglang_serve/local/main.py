"""Puts the parts together: one `with` for each thing that must be undone, undone in reverse order however it ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from sglang_serve.args import ENV_STATE_DIR
from sglang_serve.local.events import Events
from sglang_serve.local.ports import require_free, running_ray
from sglang_serve.local.processes import children, no_process_left, reap_adopted
from sglang_serve.local.rundir import QUIET, apply_environment, own_ray_environment, run_directory, run_environment
from sglang_serve.local.spec import Failed, Spec, read_spec

EXIT_STOPPED, EXIT_FAILED = 0, 3


class Stop(BaseException):
    """Raised in the main thread by a signal, wherever it is: the `with` blocks do the rest."""


def main() -> NoReturn:
    """Serve until told to stop; see the package's text."""
    events = Events()
    stop_on_signals()
    code = EXIT_STOPPED
    try:
        spec = read_spec(sys.stdin.readline())
        threading.Thread(target=stop_when_closed, daemon=True).start()
        serve(spec, events)
    except Stop:
        pass
    except Exception as error:  # noqa: BLE001 - whoever started us gets a reason, whatever broke
        report_failure(error, events)
        code = EXIT_FAILED
    sys.stderr.flush()
    os._exit(code)  # Ray's exit hooks would wait for processes that are gone


def report_failure(error: Exception, events: Events) -> None:
    """One event with a remedy; what nobody foresaw also gets its traceback into the log."""
    if not isinstance(error, Failed):
        traceback.print_exception(error)
        error = Failed("Unexpected", f"{type(error).__name__}: {error}", "read the log, and report this with it")
    events.send("failed", reason=error.reason, message=error.message, remedy=error.remedy)


def serve(spec: Spec, events: Events) -> None:
    """Everything between the spec and the stop; returns only by an exception."""
    require_free(spec.http_host, spec.http_port)
    address = running_ray()
    with run_directory() as run, no_process_left():
        env = {**spec.env, **run_environment(run)}
        if not address:
            env = {**QUIET, **env, **own_ray_environment(run)}
        apply_environment(env)
        with ray_of(address, spec, env, run, events):
            serve_on_ray(spec, Path(env[ENV_STATE_DIR]), events, shared=bool(address))


@contextmanager
def ray_of(address: str | None, spec: Spec, env: Mapping[str, str], run: Path, events: Events) -> Iterator[None]:
    """The running Ray at `address`, or one of our own. Ray takes SIGTERM for itself, so it is taken back."""
    events.progress("ray", f"using the Ray at {address}, leaving it running" if address else "starting Ray")
    from sglang_serve.local import cluster  # noqa: PLC0415 - importing Ray reads the environment set above

    with cluster.shared_ray(address, env, spec.application) if address else cluster.own_ray(spec, run):
        stop_on_signals()
        yield


def serve_on_ray(spec: Spec, state_dir: Path, events: Events, *, shared: bool) -> None:
    """Deploy and follow until stopped."""
    from sglang_serve.local.application import deployed, follow  # noqa: PLC0415 - as above

    with deployed(spec, events, shared=shared):
        own = children()
        follow(spec, state_dir, events, each_time=lambda: reap_adopted(own))


def stop_on_signals() -> None:
    """SIGINT and SIGTERM raise Stop in the main thread, once for each signal."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def stop_when_closed() -> None:
    """Wait for the end of stdin: whoever started us died or let us go."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Stop
