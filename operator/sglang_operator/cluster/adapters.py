"""`status.adapters`: one row for each LoRA adapter that is wanted, from what the serving replicas say. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sglang_operator.api import Endpoint
from sglang_operator.cluster.probe import Adapter, Report
from sglang_operator.render.serve_config import live_args

Object = dict[str, Any]


def adapter_rows(endpoint: Endpoint, reports: Sequence[Report], told: Endpoint | None = None) -> list[Object] | None:
    """None where no adapter can be loaded. What a replica says before it has the settings of now counts for nothing.
    `told`: the endpoint as the revision that serves is told of it, if that is not all."""
    model, told = endpoint.spec.model, told or endpoint
    if model.lora is None:
        return None
    config = live_args(told).config_id
    current = [report.adapters if report.config == config else () for report in reports]
    return [
        _row(one.name, [_find(adapters, one.name) for adapters in current])
        if one in told.spec.model.adapters
        else _waiting(one.name, len(reports))
        for one in model.adapters
    ]


def _waiting(name: str, replicas: int) -> Object:
    message = "it comes with the next revision: the one that serves has another spec.model.uri, revision or lora"
    return {"name": name, "state": "Waiting", "replicas": f"0/{replicas}", "message": message}


def _find(adapters: Sequence[Adapter], name: str) -> Adapter | None:
    return next((one for one in adapters if one.name == name), None)


def _row(name: str, told: Sequence[Adapter | None]) -> Object:
    loaded = sum(one is not None and one.state == "Loaded" for one in told)
    failed = next((one for one in told if one and one.state == "Failed"), None)
    state = "Failed" if failed else "Loaded" if told and loaded == len(told) else "Loading"
    replicas = f"{loaded}/{len(told)}"
    return {"name": name, "state": state, "replicas": replicas, "message": failed.message if failed else ""}
