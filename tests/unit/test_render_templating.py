"""Values of templates: they keep their type and their place, and parsing is done once for each shape."""

import re
from importlib import resources
from typing import Any

import pytest
from jinja2 import UndefinedError

from sglang_operator.api import Endpoint, parse_endpoint
from sglang_operator.render import render_endpoint, templating
from sglang_operator.render.context import Names, Network


def policy(pods: dict[str, str]) -> dict[str, Any]:
    names = Names("e", "n", "e-1", labels={}, pod_labels={}, serving_labels={})
    network = Network(names=names, pods=pods, kuberay_namespaces={}, operator_namespaces={}, clients=())
    return templating.render_template("networkpolicy.yaml.j2", network)


@pytest.mark.parametrize("text", ["!value 0", '": x\n- y', "{{ c }}", "1e3", "null", "\U0001f600", "# no"])
def test_a_value_keeps_its_type_and_its_place(text: str) -> None:
    assert policy({"app": text})["spec"]["podSelector"]["matchLabels"] == {"app": text}


def test_objects_share_nothing_with_each_other() -> None:
    first = policy({"app": "a"})
    first["spec"]["ingress"].clear()
    assert policy({"app": "a"})["spec"]["ingress"]


def test_other_values_are_not_parsed_anew() -> None:
    render_endpoint(endpoint("first"))
    parsed = templating._parse.cache_info().misses
    render_endpoint(endpoint("second"))
    assert templating._parse.cache_info().misses == parsed


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UndefinedError):
        templating.render_template("networkpolicy.yaml.j2", object())


def endpoint(name: str) -> Endpoint:
    spec = {"model": {"uri": f"hf://org/{name}"}, "accelerator": {"vendor": "cpu"}}
    kind = {"apiVersion": "serve.sglang.io/v1alpha1", "kind": "SGLangEndpoint"}
    return parse_endpoint({**kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec})


def test_every_value_goes_through_tojson() -> None:
    """One that does not would be text of the template, and could break out of its place."""
    templates = sorted(resources.files("sglang_operator.render").joinpath("templates").iterdir(), key=str)
    values = [value.strip() for one in templates for value in re.findall(r"{{(.*?)}}", one.read_text())]
    assert len(values) > 100
    # A kind of volume is a key, and one of Kubernetes' names that our own code has.
    assert {value for value in values if not value.endswith("| tojson")} == {"kind"}
