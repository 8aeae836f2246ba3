"""What upgrades and kills lose under streaming load: ours, and KubeRay's own blue/green on the same work.

    make soak        # 100 upgrades, 20 more with the operator killed all the time, 10 of KubeRay's own; half a day
    PYTHONPATH=tests:hack/cluster python bench/hitless.py --upgrades 4 --kills 2 --kuberay 4 --json hitless.json

On the cluster of `make cluster`, with a real engine in real pods and the operator as a process of this machine.
A part has one load of three kinds of clients: some keep a connection, some open new ones, some have streams of minutes.
It has ten events at most, and its counts are written when it ends: a run that is cut short has told what it saw, and
another with the same --json goes on with its counts.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from cluster.actors import Operator, User, killed_again_and_again, load, wait_until
from cluster.endpoints import administered, engine_of, put_tiny_model, tiny_endpoint
from cluster.load import Count
from localcluster import tools
from localcluster.cluster import LocalCluster

from sglang_operator.api import parse_endpoint
from sglang_operator.render import render_endpoint

Object = dict[str, Any]
PORT = 18099
SERVE_PORT = 8000  # of KubeRay's own Service
READY_SECONDS = 1800  # it includes the drain of the revision before
EVENTS = 10  # of one part
DRAIN_SECONDS = 900


@dataclass(frozen=True)
class Part:
    """One kind of event under one load."""

    what: str
    events: int
    count: Count
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())


def main() -> None:
    given = parse_options()
    cluster = LocalCluster(tools.cache() / "run", outlives=True)
    put_tiny_model(cluster.models)
    parts = read_parts(given.json)
    for part in chain(ours(cluster, given), kuberays(cluster, given)):  # hours lie between them
        print(f"{part.what}: {part.events} events, {part.count}", flush=True)
        parts.append(part)
        write_parts(given.json, parts)
    for what in dict.fromkeys(part.what for part in parts):
        of = [part for part in parts if part.what == what]
        print(f"in all, {what}: {sum(part.events for part in of)} events, {total(of)}")


def read_parts(file: Path | None) -> list[Part]:
    """Those of earlier runs; none without a file."""
    if file is None or not file.is_file():
        return []
    rows = json.loads(file.read_text())["parts"]
    return [Part(**{**row, "count": Count.read(row["count"])}) for row in rows]


def write_parts(file: Path | None, parts: Sequence[Part]) -> None:
    if file:
        file.write_text(json.dumps({"parts": [asdict(part) for part in parts]}, indent=1) + "\n")


def total(parts: Sequence[Part]) -> Count:
    """Of all their loads."""
    counts = [part.count for part in parts]
    return Count(
        requests=sum(one.requests for one in counts),
        longest_seconds=max(one.longest_seconds for one in counts),
        clients=max(one.clients for one in counts),
        lost=[lost for one in counts for lost in one.lost],
    )


def parse_options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--upgrades", type=int, default=4, help="of our endpoint")
    options.add_argument("--kills", type=int, default=2, help="upgrades in which the operator is killed all the time")
    options.add_argument("--kuberay", type=int, default=0, help="upgrades of the same RayService by KubeRay itself")
    options.add_argument("--clients", type=int, default=2, help="that keep a connection, and as many that do not")
    options.add_argument("--long", type=int, default=1, help="clients with long streams")
    options.add_argument("--long-tokens", type=int, default=2000, help="of each of their streams")
    options.add_argument("--json", type=Path, help="where the counts are kept, from one run to the next")
    return options.parse_args()


def ours(cluster: LocalCluster, given: argparse.Namespace) -> Iterator[Part]:
    """Upgrades of an SGLangEndpoint, in peace and with an operator that is killed again and again."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        endpoint(cluster, Path(scratch), patient()) as (user, operator),
    ):
        for numbers in batched(range(given.upgrades)):
            with under_load(user.url(), given) as count:
                for number in numbers:
                    upgrade(user, f"upgrade-{number}")
            yield Part("upgrade by the operator", len(numbers), count)
        for numbers in batched(range(given.kills)):
            with under_load(user.url(), given) as count:
                for number in numbers:
                    with killed_again_and_again(operator, number):
                        upgrade(user, f"kill-{number}")
            yield Part("upgrade with the operator killed every 2 to 12 s", len(numbers), count)


def patient() -> Object:
    """The tiny endpoint, which lets the longest stream end."""
    made = tiny_endpoint()
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


def upgrade(user: User, color: str) -> None:
    before = user.serving
    user.slow_down()
    user.edit("engine", engine_of({"env": [{"name": "COLOR", "value": color}]}))
    user.wait_for_rollout(before, READY_SECONDS)
    print(f"{color}: {before} -> {user.serving}", flush=True)


def kuberays(cluster: LocalCluster, given: argparse.Namespace) -> Iterator[Part]:
    """The baseline: the RayService that we render, with KubeRay's own upgrades and its own Service."""
    if not given.kuberay:
        return
    user = User(cluster.control_plane.kubectl, f"baseline-{os.getpid()}", "tiny-serve-svc")
    cluster.control_plane.make_namespace(user.namespace)
    try:
        user.make_admin_key()
        user.run("apply", "--filename=-", stdin=json.dumps(own_upgrades("first")))
        wait_until(lambda: serves(user), READY_SECONDS, "KubeRay's RayService to serve")
        with under_load(f"{user.url()}:{SERVE_PORT}", given) as count:
            for number in range(given.kuberay):
                upgrade_by_kuberay(user, f"own-{number}")
        yield Part("upgrade by KubeRay itself", given.kuberay, count)
    finally:
        user.run("delete", "namespace", user.namespace, "--wait=false")


def own_upgrades(color: str) -> Object:
    """Our RayService, but with `upgradeStrategy: NewCluster`."""
    manifest = administered(patient())
    manifest["spec"]["engine"] = engine_of({"env": [{"name": "COLOR", "value": color}]})
    objects = render_endpoint(parse_endpoint(manifest))
    made: Object = json.loads(json.dumps(next(one for one in objects if one["kind"] == "RayService")))
    made["metadata"] = {"name": "tiny"}
    made["spec"]["upgradeStrategy"] = {"type": "NewCluster"}
    return made


def upgrade_by_kuberay(user: User, color: str) -> None:
    before = active(user)
    user.slow_down(SERVE_PORT)
    user.run("apply", "--filename=-", stdin=json.dumps(own_upgrades(color)))
    wait_until(lambda: active(user) not in ("", before), READY_SECONDS, "KubeRay's switch")
    wait_until(lambda: len(user.read("rayclusters")["items"]) == 1, READY_SECONDS, f"{before} to be deleted")
    print(f"{color}: {before} -> {active(user)}", flush=True)


def active(user: User) -> str:
    status: Object = user.read("rayservice", "tiny").get("status", {})
    return str(status.get("activeServiceStatus", {}).get("rayClusterName", ""))


def serves(user: User) -> bool:
    return bool(user.read("rayservice", "tiny").get("status", {}).get("numServeEndpoints"))


@contextmanager
def under_load(url: str, given: argparse.Namespace) -> Iterator[Count]:
    """The count is complete after the block."""
    count = Count()
    with load(url, kept=given.clients, fresh=given.clients, long=given.long, long_tokens=given.long_tokens) as working:
        yield count
    count.__dict__.update(working.count.__dict__)


if __name__ == "__main__":
    main()
