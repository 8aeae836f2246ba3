"""docs/how-to/install.md: its defaults become pods as it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.api_objects import endpoint

from sglang_operator.api.defaults import parse_with_defaults
from sglang_operator.render import render_endpoint
from sglang_operator.render.defaults import read_defaults

PAGE = "\n" + (Path(__file__).parents[2] / "docs/how-to/install.md").read_text()
MINE = {"engine": {"env": [{"name": "MINE", "value": "1"}]}}

Json = dict[str, Any]


def defaults_under(heading: str) -> Json:
    """The `defaults:` of the first YAML block below `heading`, as the operator reads them."""
    block = re.search(r"```yaml\n(.*?)```", PAGE.split(f"\n{heading}\n")[1], re.DOTALL)
    assert block
    return read_defaults(yaml.safe_dump(yaml.safe_load(block[1])["defaults"]))


def ray_cluster(defaults: Json, **spec: Any) -> Json:
    objects = render_endpoint(parse_with_defaults(endpoint(**spec), defaults))
    found: Json = next(one for one in objects if one["kind"] == "RayService")["spec"]["rayClusterConfig"]
    return found


def autoscaler() -> Json:
    """Of an endpoint with a fixed number of replicas."""
    cluster = ray_cluster({}, replicas=1)
    assert cluster["enableInTreeAutoscaling"]
    options: Json = cluster["autoscalerOptions"]
    return options


def pods(defaults: Json, **spec: Any) -> tuple[Json, Json]:
    """(head, worker): the specs of their pods."""
    cluster = ray_cluster(defaults, **spec)
    head, worker = cluster["headGroupSpec"]["template"]["spec"], cluster["workerGroupSpecs"][0]["template"]["spec"]
    return head, worker


class TestAirGapped:
    defaults = defaults_under("## Air-gapped, proxy, own CA, private registry")

    def test_it_is_there_beside_what_a_user_writes(self) -> None:
        container = pods(self.defaults, **MINE)[1]["containers"][0]
        env = {one["name"]: one.get("value") for one in container["env"]}
        assert env["MINE"] == "1"
        assert env["SGLANG_SERVE_MODEL_MIRROR"] == "/mirror"
        assert env["HTTPS_PROXY"] == "http://proxy.example.com:3128"
        assert env["SSL_CERT_FILE"] == "/etc/company-ca/ca.pem"
        assert env["RAY_SERVE_ENABLE_HA_PROXY"] == "1"

    def test_every_directory_that_it_names_is_mounted_from_a_volume(self) -> None:
        worker = pods(self.defaults, **MINE)[1]
        mounts = {mount["mountPath"]: mount["name"] for mount in worker["containers"][0]["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in worker["volumes"]}
        assert volumes[mounts["/mirror"]]["persistentVolumeClaim"] == {"claimName": "model-mirror", "readOnly": True}
        assert volumes[mounts["/etc/company-ca"]]["configMap"] == {"name": "company-ca"}
        assert mounts["/dev/shm"] in volumes

    def test_all_pods_pull_with_the_secret(self) -> None:
        assert [pod["imagePullSecrets"] for pod in pods(self.defaults)] == [[{"name": "registry"}]] * 2

    def test_why_not_engine_env(self) -> None:
        worker = pods({"engine": {"env": [{"name": "HTTPS_PROXY", "value": "p"}]}}, **MINE)[1]
        assert "HTTPS_PROXY" not in {one["name"] for one in worker["containers"][0]["env"]}


class TestHeads:
    def test_away_from_accelerators_unless_there_are_no_other_nodes(self) -> None:
        assert "affinity" in pods({})[0]
        assert "affinity" not in pods(defaults_under("# Install on a cluster"))[0]
        assert "affinity" in pods({"podTemplate": {"worker": {"spec": {"affinity": {}}}}})[0]


class TestWhatAnEndpointTakes:
    section = PAGE.split("\n## What an endpoint takes\n")[1].split("\n## ")[0]

    def row(self, container: str) -> str:
        return next(line for line in self.section.splitlines() if line.startswith(f"| {container}"))

    def test_the_head(self) -> None:
        assert pods({})[0]["containers"][0]["resources"]["requests"] == {"cpu": "1", "memory": "4Gi"}
        assert "| 1 core, 4Gi |" in self.row("`ray-head`")

    def test_the_autoscaler_that_is_always_there(self) -> None:
        assert autoscaler()["resources"] == {
            "requests": {"cpu": "200m", "memory": "512Mi"},
            "limits": {"cpu": "500m", "memory": "512Mi"},
        }
        assert "| 200m, 512Mi | 500m, 512Mi |" in self.row("`autoscaler`")

    @pytest.mark.parametrize(
        ("vendor", "line", "said"),
        [
            ("nvidia", "`ray-worker`", ("8 cores", "64Gi", "50Gi of ephemeral")),
            ("cpu", "the same with vendor cpu", ("2 cores", "6Gi", "10Gi of ephemeral")),
        ],
    )
    def test_workers(self, vendor: str, line: str, said: tuple[str, ...]) -> None:
        limits = pods({}, accelerator={"vendor": vendor, "count": 1})[1]["containers"][0]["resources"]["limits"]
        assert all(text in self.row(line) for text in said)
        sizes = [limits["cpu"], limits["memory"], limits["ephemeral-storage"]]
        assert sizes == [text.split()[0] for text in said]
