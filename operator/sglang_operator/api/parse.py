"""From an object as read from YAML or a cluster to an `Endpoint`. Total: it returns one or raises `InvalidEndpoint`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from sglang_operator.api.endpoint import API_VERSION, KIND, Endpoint, resolve
from sglang_operator.api.errors import FieldError, InvalidEndpoint
from sglang_operator.api.spec import EndpointSpec


def parse_endpoint(obj: Mapping[str, Any]) -> Endpoint:
    """Read one `SGLangEndpoint`, fill in its defaults and check it. Raises InvalidEndpoint with every finding."""
    if obj.get("apiVersion") != API_VERSION or obj.get("kind") != KIND:
        raise InvalidEndpoint((FieldError("kind", obj.get("kind"), f"not a {KIND} of {API_VERSION}", "fix it"),))
    metadata = obj.get("metadata") or {}
    try:
        spec = EndpointSpec.model_validate(obj.get("spec"))
    except ValidationError as error:
        raise InvalidEndpoint(
            tuple(
                FieldError(".".join(map(str, ("spec", *e["loc"]))), e["input"], e["msg"], "see the field's description")
                for e in error.errors()
            )
        ) from None
    return Endpoint(
        name=metadata.get("name", ""),
        namespace=metadata.get("namespace") or "default",
        uid=metadata.get("uid") or "",
        spec=resolve(spec),
    )
