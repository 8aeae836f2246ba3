"""Adapters are trained for one model: an edit of both takes none from the revision that still serves the other one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from unit.api_objects import endpoint
from unit.test_cluster_adapters import LEGAL, SQL, model
from unit.test_cluster_beginning import KEY
from unit.test_cluster_beginning import Cluster as Beginning
from unit.test_cluster_in_place import OWNER, deployment
from unit.test_cluster_records import stored
from unit.test_lifecycle_decide import A_LIVE

from sglang_operator.api import Endpoint, parse_endpoint
from sglang_operator.cluster.adapters import adapter_rows
from sglang_operator.cluster.in_place import IN_PLACE, InPlace, live_ray_service, written_values
from sglang_operator.cluster.metadata import owned
from sglang_operator.cluster.paths import POD, RAY_SERVICE, RECORD, SERVICE
from sglang_operator.cluster.probe import Adapter, Answers, Prober, Report
from sglang_operator.cluster.reconcile import Reconciler
from sglang_operator.cluster.records import StoredRevision, find_record, new_record
from sglang_operator.cluster.snapshot import Snapshot
from sglang_operator.cluster.told import told_of, values_of
from sglang_operator.lifecycle import decide, wanted_of
from sglang_operator.lifecycle.observed import Observed, Probe, Revision, Selection
from sglang_operator.lifecycle.plan import ApplyInPlace
from sglang_operator.render.serve_config import live_args
from sglang_serve.args import live_args as read_live_args

Json = dict[str, Any]
NEXT = {"name": "sql", "uri": "hf://org/sql-lora-of-n"}  # trained for another model, under the same name
BEFORE = {"model": model(SQL, maxLoaded=2)}
OTHER_MODELS: list[Json] = [
    {"model": {**model(NEXT, LEGAL, maxLoaded=2), "uri": "hf://org/n"}},
    {"model": {**model(NEXT, LEGAL, maxLoaded=2), "revision": "v2"}},
    {"model": model(NEXT, LEGAL, maxLoaded=4)},
    {"model": {"uri": "hf://org/n"}},
]


def parsed(spec: Json) -> Endpoint:
    return parse_endpoint(endpoint(**spec))


class One:
    """A revision that serves, and what passes make of edits."""

    def __init__(self, **spec: Any) -> None:
        self.record: StoredRevision = stored(**spec)
        self.live: Json
        first, _ = values_of(parsed(spec), wanted_of(parsed(spec)), {})
        self.live = live_ray_service(OWNER, self.record.ray_service, first)

    def snapshot(self) -> Snapshot:
        live = (self.live,) if self.live else ()
        notes = {"serve.sglang.io/serving": self.record.name}
        service = {"metadata": {"annotations": notes, "resourceVersion": "1"}}
        return Snapshot({}, records=(self.record,), ray_services=live, service=service)

    def told(self, spec: Json) -> dict[str, Endpoint]:
        found = find_record(parsed(spec), [self.record])
        return told_of(parsed(spec), self.snapshot(), found.name if found else "")

    def values(self, spec: Json) -> InPlace:
        told = self.told(spec)
        everyone, apart = values_of(parsed(spec), wanted_of(parsed(spec), told=told), told)
        return apart.get(self.record.name, everyone)

    def next_pass(self, spec: Json) -> bool:
        """Whether it writes to it in place."""
        written = written_values(self.live)
        live = replace(A_LIVE, target_replicas=1, ready_replicas=1, settings=written.settings if written else "")
        observed = Observed((Revision(self.record.name, self.record.record, live),), Selection(self.record.name))
        actions = decide(wanted_of(parsed(spec), told=self.told(spec)), observed, 100.0).actions
        found = [one for one in actions if isinstance(one, ApplyInPlace) and one.revision == self.record.name]
        for one in found:
            assert one.settings == self.values(spec).settings
            self.live = live_ray_service(OWNER, self.record.ray_service, self.values(spec))
        return bool(found)

    @property
    def adapters(self) -> list[str]:
        """What its replicas are told, by address."""
        return [one.uri for one in read_live_args(deployment(self.live)["user_config"]).adapters or ()]


@pytest.mark.parametrize("spec", OTHER_MODELS, ids=str)
def test_one_edit_of_model_and_adapters_leaves_what_serves_as_it_is(spec: Json) -> None:
    serves = One(**BEFORE)
    before = serves.live
    assert not serves.next_pass(spec)
    assert live_ray_service(OWNER, serves.record.ray_service, serves.values(spec)) == before


@pytest.mark.parametrize("spec", OTHER_MODELS, ids=str)
def test_the_rest_of_the_edit_reaches_it_once(spec: Json) -> None:
    serves = One(**BEFORE)
    more = {**spec, "replicas": 3, "api": {"unknownModel": "NotFound"}}
    assert serves.next_pass(more)
    assert not serves.next_pass(more)
    assert serves.adapters == [SQL["uri"]]
    config = deployment(serves.live)
    assert config["autoscaling_config"]["max_replicas"] == 3
    assert config["user_config"]["unknown_model"] == "NotFound"
    assert config["user_config"]["config_id"] == live_args(parsed({**more, **BEFORE})).config_id


def test_adapters_of_its_own_model_reach_it_in_place() -> None:
    serves = One(**BEFORE)
    longer = {"model": model(SQL, LEGAL, maxLoaded=2), "restartToken": "x"}
    assert serves.told(longer) == {}
    assert serves.next_pass(longer)
    assert serves.adapters == [SQL["uri"], LEGAL["uri"]]


def test_what_was_held_back_comes_when_the_model_comes_back() -> None:
    serves = One(**BEFORE)
    assert serves.next_pass({**OTHER_MODELS[0], "replicas": 3})
    back = {"model": model(NEXT, LEGAL, maxLoaded=2), "replicas": 3}
    assert serves.next_pass(back)
    assert not serves.next_pass(back)
    assert serves.adapters == [NEXT["uri"], LEGAL["uri"]]


def test_it_keeps_what_it_was_told_last_and_not_what_it_began_with() -> None:
    serves = One(**BEFORE)
    assert serves.next_pass({"model": model(LEGAL, maxLoaded=2)})
    assert not serves.next_pass(OTHER_MODELS[0])
    assert serves.adapters == [LEGAL["uri"]]


@pytest.mark.parametrize("note", [None, "{}", '{"adapters": [{"name": 1}]}', '{"adapters": 3}'], ids=str)
def test_where_the_memory_of_that_is_gone_the_record_has_its_own(note: str | None) -> None:
    """The RayService is to be made anew, or somebody has edited its annotation."""
    serves = One(**BEFORE)
    assert serves.next_pass({"model": model(LEGAL, maxLoaded=2)})
    if note is None:
        serves.live = {}
    else:
        said = f'{{"replicas": 1, "settings": "", "user_config": {note}}}'
        serves.live["metadata"]["annotations"][IN_PLACE] = said
    assert serves.values(OTHER_MODELS[0]).user_config["adapters"] == [{**SQL, "revision": "main"}]


def test_what_has_no_room_is_told_of_none_and_nothing_is_written() -> None:
    serves = One(model={"uri": "hf://org/m"})
    assert not serves.next_pass(BEFORE)
    assert serves.told(BEFORE)[serves.record.name].spec.model.adapters == ()
    earlier = {"replicas": 1, "settings": "s", "user_config": {"adapters": [SQL]}}  # an operator before this one
    serves.live["metadata"]["annotations"][IN_PLACE] = str(earlier).replace("'", '"')
    assert serves.told(BEFORE)[serves.record.name].spec.model.adapters == ()


def test_status_says_of_each_whether_it_waits_for_the_next_revision() -> None:
    """One that both have is there."""
    wanted = parsed({"model": model(SQL, LEGAL, NEXT | {"name": "next"}, maxLoaded=4)})
    serves = One(model=model(SQL, {**LEGAL, "uri": "s3://models/former"}, maxLoaded=2))
    (told,) = serves.told({"model": model(SQL, LEGAL, NEXT | {"name": "next"}, maxLoaded=4)}).values()
    loaded = tuple(Adapter(name, "Loaded", "") for name in ("sql", "legal"))
    rows = adapter_rows(wanted, [Report("r", "10.0.0.1", live_args(told).config_id, 0, 0.0, loaded)], told)
    assert rows is not None
    assert [(row["name"], row["state"], row["replicas"]) for row in rows] == [
        ("sql", "Loaded", "1/1"),
        ("legal", "Waiting", "0/1"),
        ("next", "Waiting", "0/1"),
    ]
    assert "next revision" in rows[1]["message"]


class Cluster(Beginning):
    """Where a revision serves whose pods nobody has seen yet; notes what is applied."""

    def __init__(self, serves: One, spec: Json) -> None:
        live, record = serves.live, serves.record
        selection = {"serve.sglang.io/serving": record.name}
        service = owned(OWNER, KEY.name) | {"annotations": selection, "resourceVersion": "1", "uid": "uid-2"}
        super().__init__({SERVICE.of(*KEY): {"metadata": service}}, spec=spec)
        self.lists = {
            RAY_SERVICE.of(KEY.namespace): [{**live, "metadata": {**live["metadata"], "uid": "uid-3"}}],
            RECORD.of(KEY.namespace): [new_record(OWNER, 1, parsed(BEFORE), record.ray_service)],
        }
        self.applied: dict[str, Json] = {}

    async def list(self, path: str, _labels: str = "") -> list[Json]:
        return self.lists.get(path, [])

    async def apply(self, path: str, body: Json) -> Json:
        self.applied[path] = body
        return await super().apply(path, body)


def test_a_pass_writes_and_says_so() -> None:
    serves, edit = One(**BEFORE), {**OTHER_MODELS[0], "replicas": 3}
    cluster = Cluster(serves, edit)
    asyncio.run(Reconciler(cluster, Prober(), lambda: 1000.0).reconcile(KEY))  # type: ignore[arg-type]
    assert RECORD.of(KEY.namespace) in cluster.created
    told = deployment(cluster.applied[RAY_SERVICE.of(KEY.namespace, serves.record.name)])
    assert told["autoscaling_config"]["max_replicas"] == 3
    assert [one["uri"] for one in told["user_config"]["adapters"]] == [SQL["uri"]]
    assert {row["state"] for row in cluster.said["adapters"]} == {"Waiting"}


class Loaded(Prober):
    """One replica answers, with the adapters that it was told of before the edit."""

    async def ask(self, addresses: Sequence[str], *, generate: bool) -> Answers:
        config = live_args(parsed(BEFORE)).config_id
        (address,) = addresses
        assert not generate
        report = Report("r", address, config, 0, 9.0, (Adapter("sql", "Loaded", ""),))
        return Answers(Probe.ANSWERED, (report,))


def test_adapters_that_wait_for_the_next_revision_are_not_looked_for() -> None:
    """A replica that does not have its adapters is looked at every other second."""
    serves, edit = One(**BEFORE), OTHER_MODELS[0]
    cluster = Cluster(serves, edit)
    labels = {"serve.sglang.io/revision": serves.record.name, "ray.io/node-type": "worker", "ray.io/serve": "true"}
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:00Z"}
    pod = {"metadata": {"name": "p", "labels": labels}, "status": {"podIP": "10.0.0.1", "conditions": [ready]}}
    cluster.lists[POD.of(KEY.namespace)] = [pod]
    done = asyncio.run(Reconciler(cluster, Loaded(), lambda: 1000.0).reconcile(KEY))  # type: ignore[arg-type]
    assert done.look_after is None
    assert [row["state"] for row in cluster.said["adapters"]] == ["Waiting", "Waiting"]
