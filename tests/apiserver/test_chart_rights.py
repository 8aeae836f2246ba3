"""The operator with the rights that the chart gives it, and no others: nothing that it asks for is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import helm
import pytest
import yaml
from chart.conftest import CHART, ROOT
from localcluster import ControlPlane
from waiting import wait_until

Json = dict[str, Any]
SECONDS = 120
RELEASE = "sglang-operator"
OK, FORBIDDEN = 200, 403


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A cluster of its own: an operator of the whole cluster would work on the endpoints of other tests."""
    with ControlPlane(tmp_path_factory.mktemp("rights"), kuberay=False) as plane:
        yield plane


@contextmanager
def installed(plane: ControlPlane, namespace: str, scratch: Path, **values: Any) -> Iterator[list[str]]:
    """The chart in `namespace`. Gives the arguments of its operator, but for what only a pod has."""
    arguments = helm.set_values(scratch / "values.yaml", {"crds": {"install": False}, **values})
    place = ("--namespace", namespace)
    helm.run(helm.VERSIONS[0], "install", RELEASE, str(CHART), *arguments, *place, kubeconfig=plane.kubeconfig)
    (deployment,) = plane.kubectl.objects("deployments", f"--namespace={namespace}")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    yield [arg for arg in container["args"] if not arg.startswith(("--defaults=", "--http-port="))]
    helm.run(helm.VERSIONS[0], "uninstall", RELEASE, *place, kubeconfig=plane.kubeconfig)


@contextmanager
def operator(plane: ControlPlane, namespace: str, scratch: Path, arguments: list[str]) -> Iterator[Path]:
    """The process of the pod, as its service account. Gives its log; at the end it is asked to stop."""
    kubeconfig, log = plane.kubeconfig_of(namespace, RELEASE), scratch / "operator.log"
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "POD_NAME": "test", "POD_NAMESPACE": namespace}
    command = [str(Path(sys.executable).parent / "sglang-operator"), "run", *arguments, "--http-port=0"]
    with log.open("w") as file, subprocess.Popen(command, env=environment, stdout=file, stderr=file) as process:
        try:
            yield log
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0, log.read_text()
        finally:
            process.kill()


def everything(namespace: str) -> Json:
    """An endpoint with every kind of object that there is."""
    text = (ROOT / "tests" / "golden" / "nvidia-everything" / "input.yaml").read_text(encoding="utf-8")
    manifest: Json = yaml.safe_load(text)
    manifest["metadata"] = {"name": manifest["metadata"]["name"], "namespace": namespace}
    return manifest


def asked(plane: ControlPlane, namespace: str, code: int) -> list[str]:
    """What the operator asked for, and was answered so."""
    user = f"system:serviceaccount:{namespace}:{RELEASE}"
    return sorted(
        {
            f"{event['verb']} {event['requestURI'].partition('?')[0]}"
            for event in plane.requests(user)
            if event.get("responseStatus", {}).get("code") == code
        }
    )


@pytest.mark.parametrize("mode", ["cluster", "namespaces"])
def test_nothing_that_the_operator_asks_for_is_refused(plane: ControlPlane, tmp_path: Path, mode: str) -> None:
    own, served = f"system-{mode}", f"team-{mode}"
    for namespace in (own, served):
        plane.make_namespace(namespace)
    values = {"watchNamespaces": [served]} if mode == "namespaces" else {}
    with installed(plane, own, tmp_path, **values) as arguments, operator(plane, own, tmp_path, arguments) as log:
        plane.kubectl.apply([everything(served)])
        try:
            wait_for_everything(plane, served, log)
        finally:  # a right that is missing says more than what then did not come
            assert asked(plane, own, FORBIDDEN) == []
        accepted = condition(plane, served, "Accepted")["message"]
        assert ("the operator may not list nodes" in accepted) == (mode == "namespaces")


def wait_for_everything(plane: ControlPlane, namespace: str, log: Path) -> None:
    kinds = {"RayService", "NetworkPolicy", "ControllerRevision", "PersistentVolumeClaim"}
    names = ",".join(f"{kind.lower()}s" for kind in sorted(kinds)).replace("policys", "policies")
    wait_until(lambda: here(plane, namespace, names) == kinds, SECONDS, f"{names}: {log.read_text()}")
    wait_until(lambda: conditions(plane, namespace), SECONDS, "the status of the endpoint")


def here(plane: ControlPlane, namespace: str, kinds: str) -> set[str]:
    return {one["kind"] for one in plane.kubectl.objects(kinds, f"--namespace={namespace}")}


def conditions(plane: ControlPlane, namespace: str) -> list[Json]:
    (endpoint,) = plane.kubectl.objects("sglangendpoints", f"--namespace={namespace}")
    found: list[Json] = endpoint.get("status", {}).get("conditions", [])
    return found


def without(rules: list[Json], **verbs: str) -> list[Json]:
    """The rules of a role, each without the verb that is named for its resource."""
    return [
        {**rule, "verbs": [verb for verb in rule["verbs"] if verb not in {verbs.get(one) for one in rule["resources"]}]}
        for rule in rules
    ]


def set_rules(plane: ControlPlane, role: str, rules: list[Json]) -> None:
    plane.kubectl("patch", "clusterrole", role, "--type=merge", f"--patch={json.dumps({'rules': rules})}")


def test_rights_that_the_role_lacks_are_told_and_picked_up(plane: ControlPlane, tmp_path: Path) -> None:
    """By the same process: what is missing for one kind must not end what works."""
    own, served, role = "system-lesser", "team-lesser", f"system-lesser-{RELEASE}"
    for namespace in (own, served):
        plane.make_namespace(namespace)
    with installed(plane, own, tmp_path) as arguments:
        (rules,) = (one["rules"] for one in plane.kubectl.objects("clusterroles", role))
        set_rules(plane, role, without(rules, rayservices="list", pods="watch"))
        with operator(plane, own, tmp_path, arguments) as log:
            plane.kubectl.apply([everything(served)])
            wait_until(lambda: progressing(plane, served).get("reason") == "Forbidden", SECONDS, log.read_text)
            missing = 'cannot list resource "rayservices"'
            for text in (progressing(plane, served)["message"], *told(log, missing)):
                assert missing in text
                assert "helm upgrade of its chart" in text
            assert told(log, missing), "in the log, too"
            wait_until(lambda: 'cannot watch resource \\"pods\\"' in log.read_text(), SECONDS, log.read_text)
            set_rules(plane, role, rules)
            plane.kubectl("label", "sglangendpoints", "--all", f"-n{served}", "looked-at=again")  # else in 30 s
            wait_for_everything(plane, served, log)
            wait_until(lambda: progressing(plane, served)["reason"] == "StartingRevision", SECONDS, log.read_text)
            wait_until(lambda: "watch /api/v1/pods" in asked(plane, own, OK), SECONDS, log.read_text)


def progressing(plane: ControlPlane, namespace: str) -> Json:
    return condition(plane, namespace, "Progressing")


def condition(plane: ControlPlane, namespace: str, kind: str) -> Json:
    return next((one for one in conditions(plane, namespace) if one["type"] == kind), {})


def told(log: Path, text: str) -> list[str]:
    """Warnings of our own about it."""
    lines = map(json.loads, log.read_text().splitlines())
    return [str(line["message"]) for line in lines if line["level"] == "warning" and text in line["message"]]
