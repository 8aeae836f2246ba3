"""An API server that answers badly: passes fail, and the endpoint still becomes what it should be."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from apiserver.passes import Passes, passes

from sglang_operator.cluster.api import Api, ApiError

if TYPE_CHECKING:
    from localcluster import ControlPlane

FAULTS = ((409, "Conflict"), (429, "TooManyRequests"), (500, "InternalError"), (0, "TimeoutError"))
SHARE = 0.15  # of requests that go wrong
QUIET = 3  # passes in a row that write nothing and fail at nothing
LIMIT = 400


def spoil(api: Api, seed: int) -> None:
    """Some requests are refused; of some that are not, the answer is lost on its way back."""
    chosen, send = random.Random(seed), api._send

    async def flaky(verb: str, path: str, *rest: Any) -> bytes:
        status, reason = chosen.choice(FAULTS)
        fate = chosen.random()
        if fate < SHARE / 2:
            raise ApiError(status, reason, "injected before")
        answer = await send(verb, path, *rest)
        if fate < SHARE:
            raise ApiError(0, "TimeoutError", "injected after")
        return answer

    api._send = flaky  # type: ignore[method-assign, assignment]


async def rest(on: Passes, key: Any) -> int:
    """Pass until all is quiet; returns how many passes failed."""
    quiet = failed = 0
    operator = on.operator()
    for _ in range(LIMIT):
        before = len(on.written)
        try:
            await operator.reconcile(key)
        except ApiError:
            failed, quiet = failed + 1, 0
            continue
        quiet = quiet + 1 if len(on.written) == before else 0
        if quiet == QUIET:
            return failed
    raise AssertionError(f"it never came to rest: {on.written[-10:]}")


@pytest.mark.parametrize("seed", range(3))
def test_requests_that_fail_only_delay(control_plane: ControlPlane, seed: int) -> None:
    async def main() -> None:
        async with passes(control_plane.kubeconfig) as on:
            key = await on.create(replicas=2)
            await on.settle(key)
            wanted = await on.everything()
            await on.remove(key)
            key, send = await on.create(replicas=2), on.api._send
            spoil(on.api, seed)
            assert await rest(on, key) > 0, "no fault was met"
            on.api._send = send  # type: ignore[method-assign]
            assert await on.everything() == wanted

    asyncio.run(main())
