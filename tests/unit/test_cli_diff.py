"""`kubectl sglang diff` as a user calls it: what an edit does to what serves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from unit.api_objects import endpoint

from sglang_operator.api import parse_endpoint
from sglang_operator.cli.main import group
from sglang_operator.render.revision import revision_name

ROOT = Path(__file__).parents[2]
SMOLLM2 = ROOT / "examples" / "smollm2.yaml"
DOCUMENTED = ROOT / "docs" / "reference" / "rendered-objects.md"


def diff(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(group, ["diff", *arguments], input=stdin, prog_name="kubectl sglang")


@pytest.fixture
def smollm2() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(SMOLLM2.read_text())
    return found


def edited(path: Path, manifest: dict[str, Any], **spec: Any) -> str:
    path.write_text(yaml.safe_dump({**manifest, "spec": {**manifest["spec"], **spec}}))
    return str(path)


def test_the_documented_edit_gives_the_documented_output(smollm2: dict[str, Any], tmp_path: Path) -> None:
    new = edited(tmp_path / "new.yaml", smollm2, replicas=2, engine={"args": {"max_running_requests": 8}})
    done = diff("--from", str(SMOLLM2), "-f", new)
    assert done.exit_code == 1, done.stderr
    (documented,) = re.findall(r"-f edited.yaml\n(.*?)```", DOCUMENTED.read_text(), re.DOTALL)
    assert done.stdout == documented


def test_nothing_changes(smollm2: dict[str, Any], tmp_path: Path) -> None:
    assert diff("--from", str(SMOLLM2), "-f", str(SMOLLM2)).exit_code == 0
    same = {**smollm2["spec"]["model"], "servedName": "SmolLM2-135M-Instruct"}  # as it is without being written
    done = diff("--from", str(SMOLLM2), "-f", edited(tmp_path / "new.yaml", smollm2, model=same))
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "default/smollm2: nothing changes")
    assert "it was so already" in done.stdout


def test_what_the_api_server_has_can_be_compared(smollm2: dict[str, Any], tmp_path: Path) -> None:
    live = {**smollm2, "spec": {**smollm2["spec"], "replicas": 1}, "status": {"conditions": []}}
    live["metadata"] = {**smollm2["metadata"], "namespace": "default", "uid": "1", "generation": 4, "managedFields": []}
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": [live]})
    assert diff("--from", "-", "-f", str(SMOLLM2), stdin=listed).stdout == "default/smollm2: nothing changes\n"
    recreate = edited(tmp_path / "new.yaml", smollm2, task="embed", upgrade={"strategy": "Recreate"}, paused=True)
    lines = diff("--from", "-", "-f", recreate, stdin=listed).stdout.splitlines()
    assert [line.split(":")[0].strip() for line in lines[-2:]] == ["Recreate", "spec.paused"]


def test_for_programs(smollm2: dict[str, Any], tmp_path: Path) -> None:
    new = edited(tmp_path / "new.yaml", smollm2, scaling={"min": 0, "max": 2})
    (said,) = json.loads(diff("--from", str(SMOLLM2), "-f", new, "-o", "json").stdout)
    assert (said["namespace"], said["name"], said["effect"]) == ("default", "smollm2", "InPlace")
    assert {"path": "spec.scaling.max", "from": None, "to": 2, "effect": "InPlace"} in said["fields"]
    assert yaml.safe_load(diff("--from", str(SMOLLM2), "-f", new, "-o", "yaml").stdout) == said


def test_another_namespace_is_another_endpoint() -> None:
    done = diff("--from", str(SMOLLM2), "-f", str(SMOLLM2), "-n", "team")
    assert done.exit_code == 0
    away = yaml.safe_dump({**yaml.safe_load(SMOLLM2.read_text()), "metadata": {"name": "smollm2", "namespace": "b"}})
    done = diff("--from", str(SMOLLM2), "-f", "-", stdin=away)
    assert (done.exit_code, done.stdout) == (1, "b/smollm2: a new endpoint\n")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--from", "-", "-f", "-"), 2, "save one of the two"),
        (("-f", str(SMOLLM2)), 2, "Missing option '--from'"),
        (("--from", "gone.yaml", "-f", str(SMOLLM2)), 3, "gone.yaml: file: No such file"),
    ],
)
def test_what_cannot_be_compared(arguments: tuple[str, ...], code: int, says: str) -> None:
    done = diff(*arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert says in done.stderr


@pytest.mark.parametrize("form", ["text", "json", "yaml"])
def test_a_secret_in_a_variable_is_not_repeated(form: str, smollm2: dict[str, Any], tmp_path: Path) -> None:
    """What it prints ends in the logs of pipelines and in comments on pull requests."""
    env = [{"name": "HF_TOKEN", "value": "hunter2"}, {"name": "HF_HUB_OFFLINE", "value": "1"}]
    patch = {"spec": {"containers": [{"name": "ray-worker", "env": [{"name": "DB_PASSWORD", "value": "hunter2"}]}]}}
    new = edited(tmp_path / "new.yaml", smollm2, engine={"env": env}, podTemplate={"worker": patch})
    done = diff("--from", str(SMOLLM2), "-f", new, "-o", form)
    assert done.exit_code == 1
    assert "spec.engine.env" in done.stdout
    assert "hunter2" not in done.stdout
    assert form == "text" or "HF_HUB_OFFLINE" in done.stdout


@pytest.mark.parametrize("form", ["text", "json", "yaml"])
def test_logins_and_tokens_are_not_repeated(form: str, smollm2: dict[str, Any], tmp_path: Path) -> None:
    """Whatever the variable or the argument is called."""
    env = [{"name": "HTTPS_PROXY", "value": "http://ci:hunter2@proxy:3128"}, {"name": "HEADERS", "value": "sk-hunter2"}]
    new = edited(tmp_path / "new.yaml", smollm2, engine={"env": env, "args": {"chat_template": "hf_hunter2"}})
    done = diff("--from", str(SMOLLM2), "-f", new, "-o", form)
    assert done.exit_code == 1
    assert "***" in done.stdout
    assert "hunter2" not in done.stdout


@pytest.mark.parametrize(
    ("cache", "is_said"),
    [({"storageClassName": "fast"}, True), ({"size": "50Gi"}, True), ({"reclaim": "Delete"}, False), ({}, False)],
)
def test_what_kubernetes_does_not_change_of_a_claim(cache: dict[str, Any], is_said: bool, tmp_path: Path) -> None:
    files = [tmp_path / "old.json", tmp_path / "new.json"]
    for file, part in zip(files, ({}, cache), strict=True):
        file.write_text(json.dumps(endpoint(model={"uri": "hf://org/model", "cache": part})))
    said = diff("--from", str(files[0]), "-f", str(files[1])).stdout
    assert ("a claim that exists" in said) == is_said


def test_an_empty_text_is_shown(smollm2: dict[str, Any], tmp_path: Path) -> None:
    new = edited(tmp_path / "new.yaml", smollm2, restartToken="a")
    assert '"" -> a' in diff("--from", str(SMOLLM2), "-f", new).stdout


EDITS: list[dict[str, Any]] = [
    {"replicas": 3},
    {"api": {"keysSecret": {"name": "k"}}},
    {"api": {"unknownModel": "NotFound"}},
    {"engine": {"args": {"dtype": "float16"}}},
    {"highAvailability": {"redis": {"address": "redis:6379"}}},
    {"model": {"uri": "hf://org/model", "adapters": [{"name": "a", "uri": "hf://org/a"}], "lora": {"maxRank": 8}}},
    {"upgrade": {"minReadySeconds": 3}},
    {"upgrade": {"drainSeconds": 3}},
]


@pytest.mark.parametrize("spec", EDITS, ids=str)
def test_new_pods_are_said_where_the_name_of_the_revision_is_another(spec: dict[str, Any], tmp_path: Path) -> None:
    files = []
    for name, manifest in (("old", endpoint()), ("new", endpoint(**spec))):
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(manifest))
    (said,) = json.loads(diff("--from", str(files[0]), "-f", str(files[1]), "-o", "json").stdout)
    names = {revision_name(parse_endpoint(json.loads(file.read_text()))) for file in files}
    assert (said["effect"] == "NewRevision") == (len(names) == 2)


@pytest.mark.parametrize(
    ("changes", "effect"),
    [
        ({}, "InPlace"),
        ({"servedName": "m"}, "InPlace"),
        ({"uri": "hf://org/next"}, "NewRevision"),
        ({"revision": "v2"}, "NewRevision"),
        ({"lora": {"maxLoaded": 4}}, "NewRevision"),
    ],
    ids=str,
)
def test_adapters_come_with_the_model_that_they_are_for(changes: dict[str, Any], effect: str, tmp_path: Path) -> None:
    """What serves another one keeps its own."""
    model = {"uri": "hf://org/model", "lora": {"maxLoaded": 2}, "adapters": [{"name": "a", "uri": "hf://org/a"}]}
    after = {**model, "adapters": [{"name": "a", "uri": "hf://org/next-a"}], **changes}
    files = [tmp_path / "old.json", tmp_path / "new.json"]
    for file, spec in zip(files, (model, after), strict=True):
        file.write_text(json.dumps(endpoint(model=spec)))
    (said,) = json.loads(diff("--from", str(files[0]), "-f", str(files[1]), "-o", "json").stdout)
    assert {one["path"]: one["effect"] for one in said["fields"]}["spec.model.adapters"] == effect


def test_an_endpoint_of_another_namespace_is_pointed_out(smollm2: dict[str, Any], tmp_path: Path) -> None:
    """`kubectl get -n team-a -o yaml` beside a file that leaves the namespace to kubectl."""
    live = {**smollm2, "metadata": {**smollm2["metadata"], "namespace": "team-a"}}
    new = edited(tmp_path / "new.yaml", smollm2, replicas=2)
    done = diff("--from", "-", "-f", new, stdin=json.dumps(live))
    assert "default/smollm2: a new endpoint" in done.stdout
    assert "OLD has it in namespace team-a, FILE in default" in done.stderr
    assert "give -n team-a" in done.stderr
    again = diff("--from", "-", "-f", new, "-n", "team-a", stdin=json.dumps(live))
    assert "team-a/smollm2: in place" in again.stdout
    assert not again.stderr


def test_what_render_refuses_is_no_edit(smollm2: dict[str, Any], tmp_path: Path) -> None:
    """A podTemplate is found not to fit when it is applied; the old one may be as wrong as it was."""
    patch = {"worker": {"spec": {"restartPolicy": "Always"}}}
    new = edited(tmp_path / "new.yaml", smollm2, podTemplate=patch)
    done = diff("--from", new, "-f", new)
    assert (done.exit_code, done.stdout) == (3, "")
    assert f"{new}: spec.podTemplate.worker.spec.restartPolicy" in done.stderr
    assert diff("--from", new, "-f", str(SMOLLM2)).exit_code == 1
