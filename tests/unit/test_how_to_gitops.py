"""docs/how-to/gitops.md: its health checks tell of every status what the page says, as Argo CD and Flux run them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from cel_expr_python import cel
from lupa.lua51 import LuaRuntime
from unit.api_objects import endpoint

from sglang_operator.api import parse_endpoint
from sglang_operator.api.crd import crd
from sglang_operator.cli.situation import Outcome, situation_of
from sglang_operator.lifecycle.reasons import Reason
from sglang_operator.render import render_endpoint

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/gitops.md").read_text()
CHECK = "resource.customizations.health.serve.sglang.io_SGLangEndpoint"
FLUX = {"Healthy": "Current", "Suspended": "Current", "Degraded": "Failed", "Progressing": "InProgress"}

Json = dict[str, Any]
One = tuple[str, str]  # status and reason of a condition

VALID, SERVING, SILENT, STOPPED = ("True", "Valid"), ("True", "Serving"), ("False", "NotServing"), ("False", "Stopped")
DONE, FINE, FAILING = ("False", "RolloutComplete"), ("False", "AsExpected"), ("True", "RevisionFailing")
READY: list[One] = [SERVING, ("True", "ScaledToZero"), ("True", "WakingUp"), SILENT, STOPPED]
PROGRESSING: list[One] = [
    *(("False", reason) for reason in ("RolloutComplete", "RolledBack", "NameTaken", "RecordTooNew")),
    *(("False", reason) for reason in ("KubeRayAbsent", "Forbidden", "RefusedByCluster", "InvalidObject")),
    *(("Unknown", reason) for reason in ("Paused", "KubeRaySilent")),
    *(("True", reason) for reason in ("StartingRevision", "WaitingForOldPods", "WaitingForCapacity", "NoCapacity")),
    *(("True", reason) for reason in ("PodsBlocked", "ProbeUnreachable", "OnTrial", "Draining", "Recreating")),
    *(("True", reason) for reason in ("Recovering", "RollingBack")),
]
DEGRADED: list[One] = [
    FINE,
    *(("True", reason) for reason in ("RevisionFailing", "ProgressDeadlineExceeded", "NoCapacity", "PodsBlocked")),
    *(("True", reason) for reason in ("ProbeUnreachable", "HeadLost", "NotServing")),
]
# (Ready, Progressing, Degraded, Accepted) -> health
TABLE = [
    (SERVING, DONE, FINE, VALID, "Healthy"),
    (("True", "ScaledToZero"), DONE, FINE, VALID, "Healthy"),
    (("True", "WakingUp"), DONE, FINE, VALID, "Healthy"),
    (STOPPED, DONE, FINE, VALID, "Healthy"),
    (SERVING, ("True", "Draining"), FINE, VALID, "Healthy"),
    (SERVING, DONE, FINE, ("True", "GatewayApiAbsent"), "Healthy"),
    (SERVING, ("True", "OnTrial"), FINE, VALID, "Progressing"),
    (SERVING, ("True", "StartingRevision"), FINE, VALID, "Progressing"),
    (SERVING, ("True", "WaitingForCapacity"), FINE, VALID, "Progressing"),
    (SILENT, ("True", "StartingRevision"), FINE, VALID, "Progressing"),
    (SILENT, ("True", "Recreating"), ("True", "NotServing"), VALID, "Progressing"),
    (SILENT, ("True", "Recovering"), ("True", "HeadLost"), VALID, "Progressing"),
    (SERVING, DONE, ("True", "HeadLost"), VALID, "Progressing"),
    (SERVING, ("Unknown", "Paused"), FINE, VALID, "Suspended"),
    (STOPPED, ("Unknown", "Paused"), FINE, VALID, "Suspended"),
    (SILENT, ("Unknown", "Paused"), ("True", "NotServing"), VALID, "Degraded"),
    (SERVING, ("False", "RolledBack"), FAILING, VALID, "Degraded"),
    (SILENT, ("True", "RollingBack"), FAILING, VALID, "Degraded"),
    (SILENT, ("True", "StartingRevision"), FAILING, VALID, "Degraded"),
    (SILENT, ("True", "Recovering"), ("True", "ProgressDeadlineExceeded"), VALID, "Degraded"),
    (SERVING, ("True", "NoCapacity"), ("True", "NoCapacity"), VALID, "Degraded"),
    (SERVING, DONE, ("True", "NoCapacity"), VALID, "Degraded"),
    (SILENT, ("True", "PodsBlocked"), ("True", "PodsBlocked"), VALID, "Degraded"),
    (SERVING, DONE, FINE, ("False", "InvalidSpec"), "Degraded"),
    (SILENT, ("False", "KubeRayAbsent"), FINE, VALID, "Degraded"),
    (SERVING, ("False", "Forbidden"), FINE, VALID, "Degraded"),
    (SERVING, ("Unknown", "KubeRaySilent"), FINE, VALID, "Degraded"),
]


def documents() -> Iterator[Json]:
    for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        yield from yaml.safe_load_all(text)


def of_kind(kind: str, name: str) -> Json:
    return next(one for one in documents() if one["kind"] == kind and one["metadata"]["name"] == name)


def reported(*found: One, observed: int = 2) -> Json:
    """An endpoint at generation 2 with Ready, Progressing, Degraded and Accepted as given."""
    kinds = ("Ready", "Progressing", "Degraded", "Accepted")
    conditions = [
        {"type": kind, "status": status, "reason": reason, "message": f"{kind} {reason}"}
        for kind, (status, reason) in zip(kinds, found, strict=True)
    ]
    made = endpoint()
    made["metadata"] |= {"generation": 2, "namespace": "n"}
    return {**made, "status": {"observedGeneration": observed, "conditions": conditions}}


@cache
def lua() -> Any:
    """Of the version that Argo CD has, with the libraries that it opens: without those of strings and mathematics."""
    runtime = LuaRuntime()
    runtime.execute("string, math, io, coroutine, debug = nil, nil, nil, nil, nil")
    script = runtime.eval("loadstring")(of_kind("ConfigMap", "argocd-cm")["data"][CHECK])
    assert script, "it does not parse"
    return runtime, script


def argo(obj: Mapping[str, Any]) -> Json:
    runtime, script = lua()
    runtime.globals().obj = runtime.table_from(obj, recursive=True)
    return dict(script())


@cache
def expression(name: str) -> Any:
    (checks,) = of_kind("Kustomization", "models")["spec"]["healthCheckExprs"]
    assert (checks["apiVersion"], checks["kind"]) == (endpoint()["apiVersion"], endpoint()["kind"])
    types = dict.fromkeys(("apiVersion", "kind", "metadata", "spec", "status"), cel.Type.DYN)
    return cel.NewEnv(variables=types).compile(checks[name])


def flux(obj: Mapping[str, Any]) -> str:
    """In its order (RFC 0009): the generation, then inProgress, of which there is none here, failed, current."""
    if obj["status"]["observedGeneration"] != obj["metadata"]["generation"]:
        return "InProgress"
    for name, health in (("failed", "Failed"), ("current", "Current")):
        verdict = expression(name).eval(data=dict(obj)).value()
        assert isinstance(verdict, bool), (name, verdict)
        if verdict:
            return health
    return "InProgress"


@pytest.mark.parametrize(("ready", "going", "degraded", "accepted", "health"), TABLE)
def test_what_a_status_comes_to(ready: One, going: One, degraded: One, accepted: One, health: str) -> None:
    found = reported(ready, going, degraded, accepted)
    assert argo(found)["status"] == health
    assert flux(found) == FLUX[health]


def test_what_is_degraded_says_why() -> None:
    rolled_back = argo(reported(SERVING, ("False", "RolledBack"), FAILING, VALID))
    assert rolled_back == {"status": "Degraded", "message": "Degraded RevisionFailing"}
    invalid = argo(reported(SERVING, DONE, FINE, ("False", "InvalidSpec")))
    assert invalid["message"] == "Accepted InvalidSpec"


def test_what_the_operator_has_not_seen_is_on_its_way() -> None:
    seen = reported(SERVING, DONE, FINE, VALID, observed=1)
    assert (argo(seen)["status"], flux(seen)) == ("Progressing", "InProgress")
    never = {**seen, "status": {}}
    assert argo(never)["status"] == "Progressing"
    del never["status"]  # Flux then waits: an expression that cannot be evaluated is no verdict
    assert argo(never)["status"] == "Progressing"


def test_nothing_of_status_but_conditions_is_needed() -> None:
    assert flux({**reported(SERVING, DONE, FINE, VALID), "status": {"observedGeneration": 2}}) == "InProgress"


def test_both_agree_with_each_other_and_with_the_cli_about_all_there_can_be() -> None:
    for ready, going, degraded in product(READY, PROGRESSING, DEGRADED):
        if going == ("True", "RollingBack") and degraded != FAILING:
            continue  # it goes back because of a failure
        found = reported(ready, going, degraded, VALID)
        health, outcome = argo(found)["status"], situation_of(found).outcome
        assert flux(found) == FLUX[health], (ready, going, degraded)
        assert outcome is not Outcome.FAILED or health == "Degraded", (ready, going, degraded)
        if outcome is Outcome.ARRIVED and degraded == FINE:
            assert health == ("Degraded" if going[1] == "KubeRaySilent" or bars(going) else "Healthy")
        assert outcome is Outcome.ARRIVED or health != "Healthy", (ready, going, degraded)


def bars(going: One) -> bool:
    """Something is in the way that only a person can change; the CLI lets a stopped endpoint pass all the same."""
    return going[0] == "False" and going != DONE


def test_every_reason_of_these_conditions_is_tried() -> None:
    tried = {reason for _, reason in (*READY, *PROGRESSING, *DEGRADED)}
    elsewhere = {"Valid", "InvalidSpec", "GatewayApiAbsent", "UpToDate", "NewDefaults"}  # of other conditions
    records = {"LostAfterSwitch"}  # of a record alone
    assert tried == {one.value for one in Reason} - elsewhere - records


def test_a_field_of_the_spec_that_is_ignored_is_one() -> None:
    (ignored,) = of_kind("Application", "models")["spec"]["ignoreDifferences"]
    assert (ignored["group"], ignored["kind"]) == (endpoint()["apiVersion"].split("/")[0], endpoint()["kind"])
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert [pointer.split("/")[2] in schema for pointer in ignored["jsonPointers"]] == [True]
    assert schema["replicas"]["default"] == 1  # to which it goes back when it is taken out of git


def test_the_values_on_the_page_are_of_the_chart() -> None:
    given = of_kind("Application", "sglang-operator")["spec"]["source"]["helm"]["valuesObject"]
    values = yaml.safe_load((ROOT / "charts/sglang-operator/values.yaml").read_text())
    assert given["image"].keys() <= values["image"].keys()
    assert values["crds"] == {"install": True, "keep": True}


def test_a_spec_that_comes_back_is_the_revision_of_before() -> None:
    def revision(**spec: Any) -> str:
        made = render_endpoint(parse_endpoint(endpoint(**spec)))
        return next(str(one["metadata"]["name"]) for one in made if one["kind"] == "RayService")

    names = [revision(), revision(restartToken="1"), revision(), revision(replicas=3), revision(paused=True)]
    assert names[1] != names[0]
    assert names[2:] == [names[0]] * 3
