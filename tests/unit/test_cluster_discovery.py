"""Kinds that are not there yet."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.discovery import Absences, wait_for_endpoints, wait_for_late_kinds

RAY, GATEWAY, OURS = "/apis/ray.io/v1", "/apis/gateway.networking.k8s.io/v1", "/apis/serve.sglang.io/v1alpha1"
RAY_KINDS, ROUTES, ENDPOINTS = ("rayclusters", "rayservices"), ("gateways", "httproutes"), ("sglangendpoints",)
Cluster = Mapping[str, Sequence[str]] | ApiError


class Times:
    """Stands for an API server that changes whenever somebody sleeps."""

    def __init__(self, *clusters: Cluster) -> None:
        self._clusters = clusters
        self.naps: list[float] = []

    async def find(self, path: str) -> dict[str, Any] | None:
        now = self._clusters[len(self.naps)]
        if isinstance(now, ApiError):
            raise now
        return {"resources": [{"name": name} for name in now[path]]} if path in now else None

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        if len(self.naps) == len(self._clusters):
            raise asyncio.CancelledError

    @property
    def api(self) -> Api:
        return cast("Api", self)


def test_it_ends_when_a_kind_has_come() -> None:
    times = Times({}, {RAY: ["rayjobs"]}, {RAY: RAY_KINDS})
    asyncio.run(wait_for_late_kinds(times.api, times.sleep))
    assert times.naps == [30, 30]


def test_a_kind_that_was_there_is_no_news_and_one_that_goes_neither() -> None:
    times = Times({RAY: RAY_KINDS}, {RAY: RAY_KINDS}, {})
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(wait_for_late_kinds(times.api, times.sleep))


def test_a_server_that_does_not_answer_says_nothing_about_kinds() -> None:
    silent = ApiError(0, "ClientError", "no route")
    times = Times({GATEWAY: ROUTES}, silent, {GATEWAY: ROUTES}, {GATEWAY: ROUTES, RAY: RAY_KINDS})
    asyncio.run(wait_for_late_kinds(times.api, times.sleep))
    assert len(times.naps) == 3
    all_there = {GATEWAY: ROUTES, RAY: RAY_KINDS}
    times = Times(all_there, silent, all_there)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(wait_for_late_kinds(times.api, times.sleep))


def test_a_kind_that_came_while_the_first_look_failed_is_news() -> None:
    """The watches that began then may have seen none either."""
    silent = ApiError(0, "ClientError", "no route")
    times = Times(silent, silent, {RAY: RAY_KINDS})
    asyncio.run(wait_for_late_kinds(times.api, times.sleep))
    assert len(times.naps) == 2
    times = Times(silent, {}, {}, {RAY: RAY_KINDS})
    asyncio.run(wait_for_late_kinds(times.api, times.sleep))
    assert len(times.naps) == 3


def test_it_waits_for_the_server_and_the_crd_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    times = Times(ApiError(0, "ClientError", "no route"), {}, {OURS: ENDPOINTS})
    asyncio.run(wait_for_endpoints(times.api, times.sleep))
    assert times.naps == [5, 5]
    assert "waiting: 0 ClientError: no route" in caplog.text
    assert "has no sglangendpoints: install the CRD, kubectl apply -f crds/" in caplog.text


def test_an_absent_kind_is_told_once_until_it_was_there(caplog: pytest.LogCaptureFixture) -> None:
    absences, plain, routed = Absences(), {"RayService": "install KubeRay"}, {"RayService": "", "HTTPRoute": "its CRDs"}
    for absent, remedies in (
        ({"RayService", "RayCluster"}, plain),
        ({"RayService", "RayCluster"}, plain),
        ({"RayService", "HTTPRoute"}, routed),
        ({"RayService"}, plain),  # which asks for no route, and cannot know whether there could be one
        ({"RayService", "HTTPRoute"}, routed),
        (set(), plain),
        ({"RayService"}, plain),
    ):
        absences.tell(frozenset(absent), remedies)
    assert [record.getMessage() for record in caplog.records] == ["install KubeRay", "its CRDs", "install KubeRay"]
