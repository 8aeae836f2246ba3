"""An endpoint that is nested thousands of levels deep, which the API server takes from whoever may write one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from apiserver.operator_process import until
from apiserver.test_real_process import Start, endpoints, start

if TYPE_CHECKING:
    from localcluster import ControlPlane

__all__ = ["start"]  # a fixture
LEVELS = 3000  # Python reads a thousand by default, the API server takes 10,000
HOLE = "what is deep"
DEEP = '{"a": ' * LEVELS + "1" + "}" * LEVELS  # as text: writing it takes Python as many levels as reading it
ARGS = {"engine": {"args": {"json_model_override_args": HOLE}}}
POD_TEMPLATE = {"podTemplate": {"worker": {"spec": {"affinity": HOLE}}}}


def create(plane: ControlPlane, namespace: str, name: str, spec: dict[str, Any]) -> None:
    (endpoint,) = endpoints(namespace, [name])
    text = json.dumps({**endpoint, "spec": {**endpoint["spec"], **spec}}).replace(json.dumps(HOLE), DEEP)
    path = f"/apis/serve.sglang.io/v1alpha1/namespaces/{namespace}/sglangendpoints"
    plane.kubectl("create", "--raw", path, "-f", "-", stdin=text)


def accepted(plane: ControlPlane, namespace: str, name: str) -> str:
    """Status, reason and message of the condition; from kubectl, which goes as deep as the API server."""
    of = '.status.conditions[?(@.type=="Accepted")]'
    path = f"-ojsonpath={{{of}.status}} {{{of}.reason}}: {{{of}.message}}"
    return plane.kubectl("get", "sglangendpoint", name, f"-n{namespace}", path)


@pytest.mark.parametrize(
    ("spec", "field"),
    [(ARGS, "spec.engine.args.json_model_override_args"), (POD_TEMPLATE, "spec.podTemplate.worker.spec")],
)
def test_it_is_told_so_and_the_others_are_served(
    control_plane: ControlPlane, namespace: str, start: Start, spec: dict[str, Any], field: str
) -> None:
    def is_told(name: str) -> bool:
        return accepted(control_plane, namespace, name).startswith(f"False InvalidSpec: {field}: ")

    create(control_plane, namespace, "listed", spec)
    operator = start("operator")
    until(lambda: is_told("listed"), story=lambda: accepted(control_plane, namespace, "listed"))
    create(control_plane, namespace, "watched", spec)
    until(lambda: is_told("watched"), story=lambda: accepted(control_plane, namespace, "watched"))
    control_plane.kubectl.apply(endpoints(namespace, ["other"]))
    until(lambda: control_plane.kubectl.objects("rayservices", f"-n{namespace}"))
    assert operator.get("/healthz")
