"""Which endpoints a resync finds: what one namespace refuses keeps the others from nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sglang_operator.app.runtime import keys_in
from sglang_operator.cluster.api import ApiError
from sglang_operator.cluster.types import Key


class Cluster:
    """Lets nobody list endpoints in team-b, nor in all namespaces."""

    async def list(self, path: str) -> list[dict[str, Any]]:
        if "/team-a/" in path:
            return [{"metadata": {"namespace": "team-a", "name": "qwen3"}}]
        what = 'cannot list resource "sglangendpoints" in API group "serve.sglang.io"'
        raise ApiError(403, "Forbidden", f'sglangendpoints.serve.sglang.io is forbidden: User "u" {what}')


def found(namespace: str) -> list[Key] | None:
    return asyncio.run(keys_in(Cluster(), namespace))  # type: ignore[arg-type]


def test_a_namespace_that_is_gone_has_none_that_are_known(caplog: pytest.LogCaptureFixture) -> None:
    assert found("team-a") == [Key("team-a", "qwen3")]
    assert found("team-b") is None
    assert "team-b" in caplog.text


def test_without_any_right_it_fails() -> None:
    with pytest.raises(ApiError):
        found("")
