"""`python -m sglang_serve.drain_head`: the preStop hook of the head pod. It goes last.

Whoever deletes a RayService deletes all its pods at once. Workers then drain (`sglang_serve.drain`), and that needs the
control store and Serve's controller, which are the head's: without them running streams break after a minute. So the
head stays while a worker drains. If the head alone is deleted, no worker drains, and it goes after the time that a
worker may take to say so; meanwhile everything serves.

The head may have clients itself (`sglang_serve.hold`): those whose answers go through its HAProxy. While there are
workers it stays for them as a worker does. What it holds while there is none is lost: its autoscaler ends with the
pod's first SIGTERM, so that nobody starts a replica, and KubeRay makes no other head before this one is gone.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sglang_serve import drain

ASK_SECONDS = drain.REQUEST_SECONDS + 5  # a worker that is deleted with the head has asked to be drained by then
RPC_SECONDS = 5
SILENT_SECONDS = 60  # as long as Ray itself lives without its control store


@dataclass(frozen=True)
class Workers:
    """The other nodes of the Ray cluster, by their ids."""

    alive: Collection[str]
    draining: Collection[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 when no worker and no client needs this head any more, 1 if one still does after `--seconds`."""
    parser = argparse.ArgumentParser(prog="python -m sglang_serve.drain_head", description="Let workers drain first.")
    parser.add_argument("--seconds", type=float, required=True, help="how long workers may take")
    seconds = parser.parse_args(argv).seconds
    node = drain.find_node(drain.PROC)
    if node is None:
        drain.say("no Ray here")
        return 0
    return wait(patient(ray_workers(node)), seconds)


def wait(look: Callable[[], Workers | None], seconds: float) -> int:
    """As `main`; `look` is asked every second, and gives None when there is nobody left to ask."""
    began = time.monotonic()
    while (workers := look()) is not None and needs_head(workers, waited := time.monotonic() - began):
        if waited > seconds:
            drain.say(f"it is still needed after {seconds:.0f} s")
            return 1
        time.sleep(drain.POLL_SECONDS)
    drain.say("nobody needs the head")
    return 0


def patient(look: Callable[[], Workers], clock: Callable[[], float] = time.monotonic) -> Callable[[], Workers | None]:
    """`look`, but with its last answer in place of an error; None once it has failed for SILENT_SECONDS on end."""
    last, heard = Workers((), ()), clock()

    def wrapped() -> Workers | None:
        nonlocal last, heard
        try:
            last, heard = look(), clock()
        except Exception as error:  # noqa: BLE001 - whatever Ray raises while its control store does not answer
            drain.say(f"the control store does not answer: {error}")
            return None if clock() - heard > SILENT_SECONDS else Workers(last.alive or {"unknown"}, last.draining)
        return last

    return wrapped


def needs_head(workers: Workers, waited: float) -> bool:
    """Whether a worker drains, or may be about to, or one answers a client through this pod."""
    if not workers.alive:
        return bool(workers.draining)
    return bool(workers.draining) or waited < ASK_SECONDS or drain.front_connections() > 0


def ray_workers(head: drain.Node) -> Callable[[], Workers]:
    """A function that asks the control store."""
    from ray._raylet import GcsClient  # noqa: PLC0415 - the workers' hook does without this import
    from ray.core.generated.gcs_pb2 import GcsNodeInfo  # noqa: PLC0415

    @cache
    def client() -> Any:  # it connects when it is made, which may fail
        return GcsClient(address=head.gcs_address)

    def look() -> Workers:
        nodes: Mapping[Any, Any] = client().get_all_node_info(timeout=RPC_SECONDS)
        alive = {key.hex() for key, node in nodes.items() if node.state == GcsNodeInfo.ALIVE} - {head.node_id}
        return Workers(alive, alive & client().get_draining_nodes(timeout=RPC_SECONDS).keys())

    return look


if __name__ == "__main__":
    sys.exit(main())
