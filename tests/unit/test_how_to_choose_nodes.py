"""docs/how-to/choose-nodes.md and air-gapped.md: their blocks become pods as they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from unit.test_how_to_install import pods

from sglang_operator.render.defaults import read_defaults

DOCS = Path(__file__).parents[2] / "docs/how-to"
Json = dict[str, Any]
AMD64 = {"kubernetes.io/arch": "amd64"}


def section(page: str, heading: str) -> str:
    return (DOCS / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]


def blocks(text: str) -> list[Json]:
    found = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    return [document for block in found for document in yaml.safe_load_all(block)]


def defaults_of(values: Json) -> Json:
    return read_defaults(yaml.safe_dump(values["defaults"]))


class TestTwoArchitectures:
    (values,) = blocks(section("choose-nodes.md", "Nodes of two architectures"))

    def test_head_and_workers_ask_for_it_beside_what_a_user_writes(self) -> None:
        head, worker = pods(defaults_of(self.values), scheduling={"nodeSelector": {"pool": "gpu"}})
        assert head["nodeSelector"] == AMD64
        assert worker["nodeSelector"] == {**AMD64, "pool": "gpu"}
        own = {"worker": {"spec": {"nodeSelector": {"disk": "fast"}}}}
        assert pods(defaults_of(self.values), podTemplate=own)[1]["nodeSelector"] == {**AMD64, "disk": "fast"}

    def test_nothing_asks_for_it_otherwise(self) -> None:
        assert not any(pod.get("nodeSelector") for pod in pods({}))

    def test_the_operators_own(self) -> None:
        assert self.values["nodeSelector"] == AMD64


class TestSpotNodes:
    page = section("choose-nodes.md", "Spot and preemptible nodes")
    spec = blocks(page)[0]["spec"]

    def test_grace_periods_are_as_they_are_said(self) -> None:
        head, worker = pods({})
        assert f"a worker is {worker['terminationGracePeriodSeconds']} s" in self.page
        assert f"a head {head['terminationGracePeriodSeconds']} s" in self.page.replace("\n", " ")
        seconds = self.spec["upgrade"]["drainSeconds"]
        short = pods({}, **self.spec)[1]["terminationGracePeriodSeconds"]
        assert f"{seconds} makes a grace period of {short} s" in self.page

    def test_the_head_stays_and_workers_do_not(self) -> None:
        head, worker = pods({}, **self.spec)
        assert head["nodeSelector"] == {"pool": "on-demand"}
        assert worker["nodeSelector"] == {"pool": "spot"}
        assert worker["topologySpreadConstraints"][0]["topologyKey"] == "topology.kubernetes.io/zone"


class TestAirGapped:
    volume, claim, values = blocks(section("air-gapped.md", "Models"))

    def test_claim_and_volume_are_each_others(self) -> None:
        assert self.claim["spec"]["volumeName"] == self.volume["metadata"]["name"]
        assert self.volume["spec"]["claimRef"] == {key: self.claim["metadata"][key] for key in ("namespace", "name")}
        for field in ("accessModes", "storageClassName"):
            assert self.claim["spec"][field] == self.volume["spec"][field]

    def test_workers_mount_the_claim_where_the_variable_says(self) -> None:
        worker = pods(defaults_of(self.values))[1]
        container = worker["containers"][0]
        env = {one["name"]: one.get("value") for one in container["env"]}
        mount = next(one for one in container["volumeMounts"] if one["mountPath"] == env["SGLANG_SERVE_MODEL_MIRROR"])
        volume = next(one for one in worker["volumes"] if one["name"] == mount["name"])
        assert mount["readOnly"]
        assert volume["persistentVolumeClaim"] == {"claimName": self.claim["metadata"]["name"], "readOnly": True}
        assert env["HF_HUB_OFFLINE"] == "1"
