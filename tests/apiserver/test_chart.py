"""The chart on a real API server, by Helm 4 and 3: installed, upgraded with another CRD, taken away, taken over again.

No pod runs here: there are no nodes. That they would be admitted is what the namespace's Pod Security level says.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm
import pytest
import yaml
from chart.conftest import CHART, ROOT
from chart.test_rbac import committed
from localcluster import ControlPlane
from localcluster.kubectl import Refused
from waiting import wait_until

Json = dict[str, Any]
CRD = "sglangendpoints.serve.sglang.io"
SECONDS = 60
REVIEW = ("-f", "-", "-o", "json", "--validate=false")  # to validate, kubectl would need more rights than are tested


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A cluster in which nobody has installed a CRD yet, beside the one of all other tests."""
    with ControlPlane(tmp_path_factory.mktemp("chart"), kuberay=False, crds=False) as plane:
        yield plane


@dataclass(frozen=True)
class Release:
    """A release of the chart in a namespace of its own, under the Pod Security Standard `restricted`."""

    plane: ControlPlane
    helm: str
    namespace: str
    scratch: Path

    def install(self, **values: Any) -> None:
        self._helm("install", CHART, values)

    def upgrade(self, chart: Path = CHART, **values: Any) -> None:
        self._helm("upgrade", chart, values)

    def uninstall(self) -> None:
        helm.run(self.helm, "uninstall", "sglang-operator", *self._where(), kubeconfig=self.plane.kubeconfig)

    def told(self, what: str) -> str:
        """What Helm has of the installation: its notes or its manifest."""
        done = helm.run(self.helm, "get", what, "sglang-operator", *self._where(), kubeconfig=self.plane.kubeconfig)
        return done.stdout

    def get(self, *arguments: str) -> list[Json]:
        return self.plane.kubectl.objects(*arguments, f"--namespace={self.namespace}")

    def rights(self, namespace: str) -> set[tuple[str, str, str]]:
        """What the operator may do in `namespace`, by the API server's own account of it."""
        mine = self._rules(namespace, f"system:serviceaccount:{self.namespace}:sglang-operator")
        return mine - self._rules(namespace, f"system:serviceaccount:{self.namespace}:default")

    def _rules(self, namespace: str, user: str) -> set[tuple[str, str, str]]:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        }
        text = self.plane.kubectl("create", *REVIEW, f"--as={user}", stdin=json.dumps(review))
        return {
            (group, resource, verb)
            for rule in json.loads(text)["status"]["resourceRules"]
            for group in rule["apiGroups"]
            for resource in rule.get("resources", [])
            for verb in rule["verbs"]
        }

    def _helm(self, command: str, chart: Path, values: Json) -> None:
        arguments = helm.set_values(self.scratch / "values.yaml", values)
        helm.run(
            self.helm,
            command,
            "sglang-operator",
            str(chart),
            *arguments,
            *self._where(),
            kubeconfig=self.plane.kubeconfig,
        )

    def _where(self) -> tuple[str, str]:
        return "--namespace", self.namespace


@pytest.fixture(params=helm.VERSIONS, ids=lambda version: f"helm{version}")
def release(request: pytest.FixtureRequest, plane: ControlPlane, tmp_path: Path) -> Iterator[Release]:
    namespace = f"{request.node.originalname.replace('_', '-')[:40]}-{request.param.partition('.')[0]}"
    plane.kubectl("create", "namespace", namespace)
    plane.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    yield Release(plane, request.param, namespace, tmp_path)
    if plane.kubectl.objects("deployments", f"--namespace={namespace}"):
        Release(plane, request.param, namespace, tmp_path).uninstall()
    if plane.kubectl.objects("crds", CRD):
        wait_until(lambda: has_storage(plane), SECONDS, "the storage of the CRD")
        plane.kubectl("delete", "crd", CRD)
    plane.kubectl("delete", "namespace", namespace, "--wait=false")


def has_storage(plane: ControlPlane) -> bool:
    """Of our resources. The API server's finalizer fails on a CRD that goes before, and tries again after a minute."""
    try:
        return bool(plane.kubectl("get", "--raw", "/apis/serve.sglang.io/v1alpha1/sglangendpoints"))
    except Refused:
        return False


def endpoint(release: Release, **spec: Any) -> Json:
    manifest: Json = yaml.safe_load((ROOT / "examples" / "smollm2.yaml").read_text(encoding="utf-8"))
    manifest["metadata"]["namespace"] = release.namespace
    manifest["spec"].update(spec)
    return manifest


def apply(release: Release, manifest: Json) -> None:
    release.plane.wait_for_crds(CRD)
    release.plane.kubectl.apply([manifest])


def other_chart(tmp_path: Path) -> Path:
    """The chart of a later version, whose CRD has one field more."""
    chart = Path(shutil.copytree(CHART, tmp_path / "later"))
    (path,) = chart.glob("files/crds/*.yaml")
    crd = yaml.safe_load(path.read_text(encoding="utf-8"))
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["later"] = {"type": "string", "maxLength": 9}
    path.write_text(yaml.safe_dump(crd), encoding="utf-8")
    return chart


def test_install(release: Release) -> None:
    """Everything is accepted, and pods are made: admitted as `restricted`, with the account and the ConfigMap named."""
    release.install()
    wait_until(lambda: len(release.get("pods")) == 2, SECONDS, "two pods of the operator")
    assert len(release.get("networkpolicies,poddisruptionbudgets,services")) == 3
    # Whoever keeps the rendered chart in git sees no drift: no field is stored otherwise than it is written.
    release.plane.kubectl("diff", "--server-side", "--filename=-", stdin=release.told("manifest"))
    apply(release, endpoint(release))
    assert [one["metadata"]["name"] for one in release.get("sglangendpoints")] == ["smollm2"]


def test_the_notes_lead_to_an_endpoint(release: Release) -> None:
    release.install()
    notes = release.told("notes")
    assert "helm install kuberay-operator" in notes, "this cluster has no KubeRay"
    assert f"kubectl --namespace {release.namespace} rollout status deployment/sglang-operator" in notes
    (manifest,) = re.findall(r"-f - <<YAML\n(.*?)^YAML$", notes, re.DOTALL | re.MULTILINE)
    written = yaml.safe_load(manifest)
    written["metadata"]["namespace"] = release.namespace
    apply(release, written)
    assert [one["metadata"]["name"] for one in release.get("sglangendpoints")] == ["smollm2"]


def test_what_is_stored_is_what_the_user_wrote(release: Release) -> None:
    release.install()
    manifest = endpoint(release, upgrade={"drainSeconds": 60})
    apply(release, manifest)
    (stored,) = release.get("sglangendpoints")
    assert stored["spec"] == {**manifest["spec"], "replicas": 1}
    scaled = release.plane.kubectl(
        "scale", "sglangendpoints/smollm2", "--replicas=2", f"--namespace={release.namespace}"
    )
    assert "scaled" in scaled


def test_rights_in_the_whole_cluster(release: Release) -> None:
    release.install()
    everywhere = committed("endpoints", "cluster")
    assert release.rights("default") == everywhere
    assert release.rights(release.namespace) == everywhere | committed("lease")


def test_rights_in_one_namespace(release: Release) -> None:
    release.install(watchNamespaces=["default"])
    assert release.rights("default") == committed("endpoints")
    assert release.rights(release.namespace) == committed("lease")
    assert release.rights("kube-system") == set()


def test_an_upgrade_brings_the_new_crd_and_new_defaults(release: Release, tmp_path: Path) -> None:
    release.install()
    apply(release, endpoint(release))
    with pytest.raises(Refused, match="later"):
        apply(release, endpoint(release, later="x"))
    release.upgrade(other_chart(tmp_path), defaults={"upgrade": {"drainSeconds": 60}})
    apply(release, endpoint(release, later="x"))
    (stored,) = release.get("sglangendpoints")
    assert stored["spec"]["later"] == "x"
    (config,) = release.get("configmaps", "--selector=app.kubernetes.io/name=sglang-operator")
    assert yaml.safe_load(config["data"]["defaults.yaml"]) == {"upgrade": {"drainSeconds": 60}}


def test_uninstalled_the_endpoints_stay_and_a_new_release_takes_over(release: Release) -> None:
    release.install()
    apply(release, endpoint(release))
    release.uninstall()
    assert release.get("deployments") == []
    (left,) = release.get("sglangendpoints")
    release.install()
    (found,) = release.get("sglangendpoints")
    assert found["metadata"]["uid"] == left["metadata"]["uid"]


def test_uninstalled_with_everything(release: Release) -> None:
    release.install(crds={"keep": False})
    apply(release, endpoint(release))
    release.uninstall()
    wait_until(lambda: not release.plane.kubectl.objects("crds", CRD), SECONDS, "the CRD to be gone")
