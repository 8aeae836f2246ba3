"""Adapters reach running replicas in place, only those that have room for them, and status tells how far they are."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from unit.api_objects import endpoint
from unit.test_cluster_in_place import OWNER, deployment, frozen, rendered, values

from sglang_operator.api import Endpoint, parse_endpoint
from sglang_operator.cluster.adapters import adapter_rows
from sglang_operator.cluster.in_place import live_ray_service
from sglang_operator.cluster.probe import Adapter, Report
from sglang_operator.lifecycle import wanted_of
from sglang_operator.render.revision import revision_name
from sglang_operator.render.serve_config import live_args
from sglang_serve.args import AdapterArgs
from sglang_serve.args import live_args as read_live_args

SQL = {"name": "sql", "uri": "hf://org/sql-lora"}
LEGAL = {"name": "legal", "uri": "s3://models/legal"}


def model(*adapters: dict[str, str], **lora: Any) -> dict[str, Any]:
    return {"uri": "hf://org/m", "lora": lora, "adapters": list(adapters)}


def parsed(*adapters: dict[str, str], **lora: Any) -> Endpoint:
    return parse_endpoint(endpoint(model=model(*adapters, **lora)))


def test_adapters_are_in_place_and_room_for_them_is_a_revision() -> None:
    before, after = parsed(SQL), parsed(SQL, LEGAL)
    assert revision_name(before) == revision_name(after)
    assert wanted_of(before).settings != wanted_of(after).settings
    assert live_args(before).config_id != live_args(after).config_id
    assert revision_name(parsed(SQL, maxLoaded=2)) != revision_name(before)


def test_they_reach_a_live_revision_and_nothing_else_moves() -> None:
    recorded = rendered(model=model(SQL))
    made = live_ray_service(OWNER, recorded, values(model=model(SQL, LEGAL)))
    assert frozen(made) == frozen(recorded)
    told = read_live_args(deployment(made)["user_config"]).adapters
    assert told == (AdapterArgs("sql", "hf://org/sql-lora"), AdapterArgs("legal", "s3://models/legal"))


def test_a_revision_without_room_hears_nothing_of_them() -> None:
    recorded = rendered()
    told = deployment(live_ray_service(OWNER, recorded, values(model=model(SQL))))["user_config"]
    assert "adapters" not in told
    assert told["config_id"] == live_args(parsed(SQL)).config_id


def test_the_engine_is_told_what_to_reserve() -> None:
    config = yaml.safe_load(rendered(model=model(maxRank=16, targetModules=["q_proj"]))["spec"]["serveConfigV2"])
    lora = config["applications"][0]["args"]["lora"]
    assert lora == {"max_rank": 16, "target_modules": ["q_proj"], "max_loaded": 8}


def test_their_claim_is_mounted_once() -> None:
    def claims(**model: Any) -> list[str]:
        (group,) = rendered(model=model)["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        volumes = group["template"]["spec"]["volumes"]
        return [one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one]

    assert claims(uri="hf://a/b", lora={"claimName": "c"}) == ["c"]
    assert claims(uri="pvc://c/m", lora={"claimName": "c"}) == ["c"]
    assert claims(uri="pvc://d/m", lora={"claimName": "c"}) == ["d", "c"]


def report(wanted: Endpoint, *adapters: Adapter, config: str = "") -> Report:
    return Report("r", "10.0.0.1", config or live_args(wanted).config_id, 0, 0.0, adapters)


def rows(wanted: Endpoint, reports: list[Report]) -> list[dict[str, Any]]:
    found = adapter_rows(wanted, reports)
    assert found is not None
    return found


LOADED, LOADING = Adapter("sql", "Loaded", ""), Adapter("sql", "Loading", "")
FAILED = Adapter("sql", "Failed", "no such file")


@pytest.mark.parametrize(
    ("told", "state", "replicas"),
    [
        ([[LOADED], [LOADED]], "Loaded", "2/2"),
        ([[LOADED], [LOADING]], "Loading", "1/2"),
        ([[LOADED], []], "Loading", "1/2"),
        ([[FAILED], [LOADED]], "Failed", "1/2"),
        ([], "Loading", "0/0"),
    ],
)
def test_one_row_for_each(told: list[list[Adapter]], state: str, replicas: str) -> None:
    wanted = parsed(SQL)
    (row,) = rows(wanted, [report(wanted, *adapters) for adapters in told])
    message = "no such file" if state == "Failed" else ""
    assert row == {"name": "sql", "state": state, "replicas": replicas, "message": message}


def test_a_replica_with_earlier_settings_says_nothing_of_these() -> None:
    wanted = parsed(SQL)
    (row,) = rows(wanted, [report(wanted, LOADED, config="before")])
    assert (row["state"], row["replicas"]) == ("Loading", "0/1")


def test_what_was_made_without_room_is_not_said_to_load_them() -> None:
    """A revision with room failed, and the one before it serves: it would be looked at every other second for ever."""
    wanted, told = parsed(SQL), parse_endpoint(endpoint(model={"uri": "hf://org/m"}))
    found = adapter_rows(wanted, [report(told), report(told)], told)
    assert found is not None
    assert [(row["state"], row["replicas"]) for row in found] == [("Waiting", "0/2")]
    assert "next revision" in found[0]["message"]


def test_there_are_rows_only_where_there_is_room() -> None:
    assert adapter_rows(parse_endpoint(endpoint()), []) is None
    assert adapter_rows(parsed(), []) == []
