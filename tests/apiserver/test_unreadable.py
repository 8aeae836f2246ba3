"""What a pass may not, or cannot, read: it is told, nothing is changed, and it goes on by itself."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from apiserver.passes import passes

from sglang_operator.api.defaults import parse_with_defaults
from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.metadata import Owner
from sglang_operator.cluster.paths import ENDPOINT, RAY_SERVICE, RECORD
from sglang_operator.cluster.records import FORMAT, new_record
from sglang_operator.render import render_endpoint

if TYPE_CHECKING:
    from apiserver.conftest import ControlPlane

FORBIDDEN = 'rayclusters.ray.io is forbidden: User "operator" cannot list resource "rayclusters" in API group "ray.io"'


def forbid(api: Api, kind: str) -> None:
    """As the authorizer of a cluster whose role lacks it."""
    send = api._send

    async def refuse(verb: str, path: str, *rest: Any) -> bytes:
        if verb == "GET" and f"/{kind}" in path:
            raise ApiError(403, "Forbidden", FORBIDDEN)
        return await send(verb, path, *rest)

    api._send = refuse  # type: ignore[method-assign, assignment]


def test_a_right_to_read_that_is_missing_is_told_and_picked_up(
    control_plane: ControlPlane, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with passes(control_plane.kubeconfig) as on:
            key, operator = await on.create(), on.operator()
            await on.settle(key, operator)
            send, wanted = on.api._send, await on.everything()
            forbid(on.api, "rayclusters")
            assert (await on.settle(key, operator)).requeue_after == 30
            found = await on.condition(key, "Progressing")
            assert (found["status"], found["reason"]) == ("False", "Forbidden")
            for text in (found["message"], caplog.text):
                assert FORBIDDEN in text
                assert "helm upgrade" in text
            assert (await on.condition(key, "Accepted"))["status"] == "True", "what is known of the rest stays"
            on.api._send = send  # type: ignore[method-assign]
            assert await on.everything() == wanted
            await on.settle(key, operator)
            assert (await on.condition(key, "Progressing"))["reason"] == "StartingRevision"

    caplog.set_level(logging.WARNING)
    asyncio.run(main())


def test_a_record_of_a_later_operator_stops_this_one(control_plane: ControlPlane) -> None:
    async def main() -> None:
        async with passes(control_plane.kubeconfig) as on:
            key = await on.create()
            live = await on.api.get(ENDPOINT.of(*key))
            endpoint = parse_with_defaults(live, {})
            ray_service = next(item for item in render_endpoint(endpoint) if item["kind"] == RAY_SERVICE.name)
            record = new_record(Owner(key, live["metadata"]["uid"]), 1, endpoint, ray_service)
            record["data"]["format"] = FORMAT + 1
            await on.api.create(RECORD.of(on.namespace), record)
            await on.settle(key)
            found = await on.condition(key, "Progressing")
            assert (found["status"], found["reason"]) == ("False", "RecordTooNew")
            assert await on.objects(RAY_SERVICE) == []

    asyncio.run(main())
