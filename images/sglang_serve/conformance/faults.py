"""What becomes of a replica whose engine is lost: the two ways in which accelerators lose one."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress

import httpx
import psutil

from sglang_serve.conformance import checks
from sglang_serve.conformance.client import Client
from sglang_serve.conformance.outcome import Failed
from sglang_serve.conformance.processes import Endpoint
from sglang_serve.report import PATH

ENGINE = "sglang::"  # what SGLang calls the processes of an engine
SCHEDULER = "sglang::scheduler"  # the one that has the accelerator
NOTICED_SECONDS = 120  # three health checks, of 20 s at most, ten apart


def replaced(endpoint: Endpoint, client: Client, start_seconds: float) -> str:
    """An engine that is killed, and one that hangs, are followed by one that answers; no process of theirs stays."""
    killed = _replaced_after(endpoint, client, signal.SIGKILL, start_seconds)
    hung = _replaced_after(endpoint, client, signal.SIGSTOP, NOTICED_SECONDS + start_seconds)
    return f"another answers {killed:.0f} s after the engine was killed, {hung:.0f} s after it was stopped"


def _replaced_after(endpoint: Endpoint, client: Client, what: signal.Signals, seconds: float) -> float:
    before, engine, schedulers = _replica(client), endpoint.processes(ENGINE), endpoint.processes(SCHEDULER)
    if not (before and schedulers):
        raise Failed(f"no replica, or no {SCHEDULER}, to send {what.name}", endpoint.tail())
    for one in schedulers:
        with suppress(psutil.NoSuchProcess):  # the end of one takes the others along
            one.send_signal(what)
    try:
        took = checks.wait_for(lambda: _replica(client) not in ("", before), seconds, f"{what.name}: no other replica")
    except Failed as failure:
        raise Failed(str(failure), endpoint.tail()) from None
    if left := _running(engine):
        raise Failed(f"pids {left} of the engine that got {what.name} live beside its replacement", endpoint.tail())
    checks.answers(client)
    return took


def _replica(client: Client) -> str:
    """The name of the replica that answers, "" while none does."""
    with suppress(httpx.TransportError):
        response = client.request("GET", PATH)
        if response.is_success:
            return str(response.json()["replica"])
    return ""


def _running(processes: Sequence[psutil.Process]) -> list[int]:
    """Pids of those that have not ended; a zombie has, and waits for its parent."""
    return [one.pid for one in processes if _status(one) not in ("", psutil.STATUS_ZOMBIE)]


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status()) if process.is_running() else ""  # its pid may be another's by now
    except psutil.NoSuchProcess:
        return ""
