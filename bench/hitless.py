"""What upgrades and kills lose under streaming load: ours, and KubeRay's own blue/green on the same work.

    make soak        # 100 upgrades, 20 more with the operator killed all the time, 10 of KubeRay's own; most of a day
    PYTHONPATH=tests:hack/cluster python bench/hitless.py --upgrades 4 --kills 2 --kuberay 4 --json hitless.json

On the cluster of `make cluster`, with a real engine in real pods and the operator as a process of this machine.
An upgrade edits an environment variable, an engine argument or the image, in turn: another name of the same one.
A part has one load of three kinds of clients: some would keep a connection, one of them back to back, some open new
ones, some have streams of minutes. One stream more lives from before each edit until the traffic has moved.
A part has ten events at most, and its counts are written when it ends: a run that is cut short has told what it saw,
and another with the same --json goes on with its counts, and edits what is next in turn. `make soak` keeps them in
docs/soak.json, and renews the table of docs/reliability.md.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from cluster.actors import Operator, User, Working, killed_again_and_again, load, wait_until
from cluster.endpoints import administered, put_tiny_model, tag_again, tiny_endpoint
from edits import engine_after, kind, tally
from localcluster import tools
from localcluster.cluster import LocalCluster
from localcluster.images import serving_name
from soak import Part, read_parts, renew, summary, write_parts

from sglang_operator.api import parse_endpoint
from sglang_operator.render import render_endpoint

Object = dict[str, Any]
PORT = 18099
SERVE_PORT = 8000  # of KubeRay's own Service
READY_SECONDS = 1800  # it includes the drain of the revision before
EVENTS = 10  # of one part
DRAIN_SECONDS = 900
BASELINE = "upgrade by KubeRay itself"


def main() -> None:
    given = parse_options()
    cluster = LocalCluster(tools.cache() / "run", outlives=True)
    put_tiny_model(cluster.models)
    parts = read_parts(given.json)
    theirs = sum(part.events for part in parts if part.what == BASELINE)
    mine = sum(part.events for part in parts) - theirs
    for part in chain(ours(cluster, given, mine), kuberays(cluster, given, theirs)):  # hours lie between them
        print(f"{part.what}: {part.events} events, {part.count}", flush=True)
        parts.append(part)
        write_parts(given.json, parts)
        renew(given.page, parts)
    print("\n".join(summary(parts)))


def parse_options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--upgrades", type=int, default=4, help="of our endpoint")
    options.add_argument("--kills", type=int, default=2, help="upgrades in which the operator is killed all the time")
    options.add_argument("--kuberay", type=int, default=0, help="upgrades of the same RayService by KubeRay itself")
    options.add_argument("--clients", type=int, default=2, help="that keep a connection, and as many that do not")
    options.add_argument("--long", type=int, default=1, help="clients with long streams")
    options.add_argument("--long-tokens", type=int, default=2000, help="of each of their streams")
    options.add_argument("--json", type=Path, help="where the counts are kept, from one run to the next")
    options.add_argument("--page", type=Path, help="the document whose table of these counts is renewed")
    return options.parse_args()


def ours(cluster: LocalCluster, given: argparse.Namespace, first: int) -> Iterator[Part]:
    """Upgrades of an SGLangEndpoint from number `first` on, in peace and with an operator that is killed all along."""
    images = serving_name(), tag_again(cluster)
    with (
        tempfile.TemporaryDirectory() as scratch,
        endpoint(cluster, Path(scratch), patient(engine_after(first - 1, images))) as (user, operator),
    ):
        for numbers in batched(range(first, first + given.upgrades)):
            with under_load(user.url(), given) as working:
                for number in numbers:
                    upgrade(user, number, images, working)
            yield Part("upgrade by the operator", len(numbers), working.count, tally(numbers))
        for numbers in batched(range(first + given.upgrades, first + given.upgrades + given.kills)):
            with under_load(user.url(), given) as working:
                for number in numbers:
                    with killed_again_and_again(operator) as kills:
                        upgrade(user, number, images, working)
                    print(f"{kills.number} kills", flush=True)
            yield Part("upgrade with the operator killed every 2 to 12 s", len(numbers), working.count, tally(numbers))


def patient(engine: Object) -> Object:
    """The tiny endpoint with this engine, which lets the longest stream end."""
    made = tiny_endpoint()
    made["spec"]["engine"] = engine
    made["spec"]["upgrade"]["drainSeconds"] = DRAIN_SECONDS
    return made


def batched(numbers: range) -> Iterator[range]:
    """Parts of them."""
    return (numbers[start : start + EVENTS] for start in range(0, len(numbers), EVENTS))


@contextmanager
def endpoint(cluster: LocalCluster, scratch: Path, manifest: Object) -> Iterator[tuple[User, Operator]]:
    """An endpoint that answers, and its operator; both are removed."""
    operator = Operator(cluster.control_plane.kubeconfig, scratch / "operator.log", PORT)
    user = User(cluster.control_plane.kubectl, f"hitless-{os.getpid()}")
    cluster.control_plane.make_namespace(user.namespace)
    operator.start()
    try:
        user.make_admin_key()
        user.apply(administered(manifest))
        user.wait_for("Ready", "True", seconds=READY_SECONDS)
        yield user, operator
    finally:
        operator.end()
        user.run("delete", "namespace", user.namespace, "--wait=false")


def upgrade(user: User, number: int, images: Sequence[str], working: Working) -> None:
    before = user.serving
    user.slow_down()
    with working.event():
        user.edit("engine", engine_after(number, images))
        user.wait_for_switch(before, READY_SECONDS)
    user.wait_for_rollout(before, READY_SECONDS)
    print(f"{number}, {kind(number)}: {before} -> {user.serving}", flush=True)


def kuberays(cluster: LocalCluster, given: argparse.Namespace, first: int) -> Iterator[Part]:
    """The baseline: the RayService that we render, with KubeRay's own upgrades and its own Service."""
    if not given.kuberay:
        return
    user = User(cluster.control_plane.kubectl, f"baseline-{os.getpid()}", "tiny-serve-svc")
    cluster.control_plane.make_namespace(user.namespace)
    numbers, images = range(first, first + given.kuberay), (serving_name(), tag_again(cluster))
    try:
        user.make_admin_key()
        user.run("apply", "--filename=-", stdin=json.dumps(own_upgrades(engine_after(first - 1, images))))
        wait_until(lambda: serves(user), READY_SECONDS, "KubeRay's RayService to serve")
        with under_load(f"{user.url()}:{SERVE_PORT}", given) as working:
            for number in numbers:
                upgrade_by_kuberay(user, number, images, working)
        yield Part(BASELINE, len(numbers), working.count, tally(numbers))
    finally:
        user.run("delete", "namespace", user.namespace, "--wait=false")


def own_upgrades(engine: Object) -> Object:
    """Our RayService, but with `upgradeStrategy: NewCluster`."""
    objects = render_endpoint(parse_endpoint(administered(patient(engine))))
    made: Object = json.loads(json.dumps(next(one for one in objects if one["kind"] == "RayService")))
    made["metadata"] = {"name": "tiny"}
    made["spec"]["upgradeStrategy"] = {"type": "NewCluster"}
    return made


def upgrade_by_kuberay(user: User, number: int, images: Sequence[str], working: Working) -> None:
    before = active(user)
    user.slow_down(SERVE_PORT)
    with working.event():
        user.run("apply", "--filename=-", stdin=json.dumps(own_upgrades(engine_after(number, images))))
        wait_until(lambda: active(user) not in ("", before), READY_SECONDS, "KubeRay's switch")
    wait_until(lambda: len(user.read("rayclusters")["items"]) == 1, READY_SECONDS, f"{before} to be deleted")
    print(f"{number}, {kind(number)}: {before} -> {active(user)}", flush=True)


def active(user: User) -> str:
    status: Object = user.read("rayservice", "tiny").get("status", {})
    return str(status.get("activeServiceStatus", {}).get("rayClusterName", ""))


def serves(user: User) -> bool:
    return bool(user.read("rayservice", "tiny").get("status", {}).get("numServeEndpoints"))


def under_load(url: str, given: argparse.Namespace) -> AbstractContextManager[Working]:
    """Clients as many as were asked for."""
    return load(url, kept=given.clients, fresh=given.clients, long=given.long, long_tokens=given.long_tokens)


if __name__ == "__main__":
    main()
