"""Platform defaults as operator and CLI read them: what a `podTemplate` among them patches is known here only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sglang_operator.api import InvalidEndpoint, parse_endpoint
from sglang_operator.api.defaults import check_defaults, load_yaml, of_defaults
from sglang_operator.api.spec import API_VERSION, KIND
from sglang_operator.render.objects import render_endpoint

_SAMPLE: Final[Mapping[str, Any]] = {
    "apiVersion": API_VERSION,
    "kind": KIND,
    "metadata": {"name": "sample", "namespace": "default"},
    "spec": {"model": {"uri": "hf://org/model"}, "accelerator": {"vendor": "cpu"}},
}


def read_defaults(text: str) -> dict[str, Any]:
    """The defaults in a YAML document, an empty one being none. Raises InvalidEndpoint with every finding."""
    return require_defaults(load_yaml(text))


def require_defaults(read: Any) -> dict[str, Any]:
    """Defaults as they were read from YAML, None being none. Raises InvalidEndpoint with every finding.

    A patch that no pod can take is found with a sample: left to the endpoints, each of them would be refused for it.
    """
    defaults = check_defaults(read)
    if defaults.get("podTemplate"):
        _require_fit(defaults["podTemplate"])
    return defaults


def _require_fit(patches: Mapping[str, Any]) -> None:
    try:
        render_endpoint(parse_endpoint({**_SAMPLE, "spec": {**_SAMPLE["spec"], "podTemplate": patches}}))
    except InvalidEndpoint as error:
        raise InvalidEndpoint(tuple(map(of_defaults, error.errors))) from None
