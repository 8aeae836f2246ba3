"""Platform defaults as operator and CLI read them: what a `podTemplate` among them patches is known here only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from sglang_operator.api import InvalidEndpoint, parse_endpoint
from sglang_operator.api.defaults import parse_defaults
from sglang_operator.api.spec import API_VERSION, KIND
from sglang_operator.render.objects import render_endpoint

_SAMPLE: Final[Mapping[str, Any]] = {
    "apiVersion": API_VERSION,
    "kind": KIND,
    "metadata": {"name": "sample", "namespace": "default"},
    "spec": {"model": {"uri": "hf://org/model"}, "accelerator": {"vendor": "cpu"}},
}


def read_defaults(text: str) -> dict[str, Any]:
    """The defaults in a YAML document. Raises InvalidEndpoint with every finding.

    A patch that no pod can take is found with a sample: left to the endpoints, each of them would be refused for it.
    """
    defaults = parse_defaults(text)
    patches = {"podTemplate": defaults["podTemplate"]} if defaults.get("podTemplate") else {}
    try:
        render_endpoint(parse_endpoint({**_SAMPLE, "spec": {**_SAMPLE["spec"], **patches}}))
    except InvalidEndpoint as error:
        found = (dataclasses.replace(one, path="defaults" + one.path.removeprefix("spec")) for one in error.errors)
        raise InvalidEndpoint(tuple(found)) from None
    return defaults
