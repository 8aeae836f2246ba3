"""What Ray Serve's controller says of the deployment, and what counts while it says nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sglang_serve.args import DEPLOYMENT, LiveArgs

log = logging.getLogger("ray.serve")

ANSWER_SECONDS: Final = 5.0  # a call of a controller that starts anew waits until it is back, which may be never

ANSWERING: Final = frozenset({"RUNNING", "UPDATING", "RECOVERING", "PENDING_MIGRATION"})
"""States (ray.serve's ReplicaState) of a replica that may be answering: one that takes new settings, that a new
controller has not heard of yet, or that is to leave its node, goes on with what it has."""

STOPPING: Final = "STOPPING"


@dataclass(frozen=True)
class Situation:
    """What Ray Serve's controller says of the deployment."""

    running: int  # replicas that may be answering
    target: int | None  # how many it wants to run; None: it does not say
    hold_seconds: int | None  # `LiveArgs.hold_seconds`
    may_sleep: bool  # it is allowed to have no replica
    max_body_bytes: int = LiveArgs.max_body_bytes
    require_keys: bool = False  # `ServeArgs.require_keys`
    stopping: int = 0  # replicas that take nothing new and finish what they have


UNKNOWN: Final = Situation(running=0, target=None, hold_seconds=600, may_sleep=False)
"""Before the controller has said anything; `hold_seconds` is the default of spec.scaling."""


class Controller:
    """Asks one question at a time, however many want to know. Without an answer the last one counts, but not for ever:
    after `hold_seconds` of silence no replica is taken to run, so that requests do not wait for the controller."""

    def __init__(
        self, ask: Callable[[], Awaitable[Situation | None]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._asking: asyncio.Future[bool] | None = None
        self._heard: float | None = None
        self._wished_at: float | None = None
        self.last = UNKNOWN

    async def settings(self) -> Situation:
        """For what does not change from one second to the next: asks only if nothing is known yet."""
        return await self.situation() if self._heard is None else self.last

    async def situation(self) -> Situation:
        """As it is now, or as far as is known."""
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._listen())
            self._asking.add_done_callback(self._forget)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if await asyncio.shield(self._asking):
                    return self.last
        except Exception as error:  # noqa: BLE001 - whatever Ray raises while its controller starts anew
            log.warning("the controller cannot be asked how many replicas run: %r", error)
        return self._without_answer()

    @property
    def wished_seconds(self) -> float:
        """For how long a replica has been wanted, as far as was looked, while none runs; 0 where one does."""
        return 0.0 if self._wished_at is None else self._clock() - self._wished_at

    async def _listen(self) -> bool:
        found = await self._ask()
        if found is not None:
            self.last, self._heard = found, self._clock()
            self._note_wish(found)
        return found is not None

    def _note_wish(self, found: Situation) -> None:
        if not found.target or found.running:
            self._wished_at = None
        elif self._wished_at is None:
            self._wished_at = self._heard

    def _forget(self, asking: asyncio.Future[bool]) -> None:
        self._asking = None
        if not asking.cancelled():
            asking.exception()  # seen, also where nobody waits for it any more

    def _without_answer(self) -> Situation:
        silent = 0.0 if self._heard is None else self._clock() - self._heard
        is_old = self.last.hold_seconds is not None and silent >= self.last.hold_seconds
        known = replace(self.last, target=None)
        return replace(known, running=0, stopping=0) if is_old else known


async def ask_controller() -> Situation | None:
    """What `GET /api/serve/applications/` of the dashboard is made of, without the dashboard and its token."""
    from ray.serve.context import _get_global_client  # noqa: PLC0415 - this module is imported where there is no Ray

    return read_details(await asyncio.to_thread(lambda: _get_global_client().get_serve_details()))


def read_details(details: Mapping[str, Any]) -> Situation | None:
    """From Ray Serve's ServeInstanceDetails; None while our deployment is not in it."""
    for application in details["applications"].values():
        if (found := application["deployments"].get(DEPLOYMENT)) is not None:
            return _read(found, (application.get("deployed_app_config") or {}).get("args") or {})
    return None


def _read(found: Mapping[str, Any], args: Mapping[str, Any]) -> Situation:
    config = found["deployment_config"]
    scaling, live = config.get("autoscaling_config") or {}, config.get("user_config") or {}
    return Situation(
        target=found["target_num_replicas"],
        running=sum(replica["state"] in ANSWERING for replica in found["replicas"]),
        hold_seconds=live.get("hold_seconds"),
        may_sleep=scaling.get("min_replicas") == 0,
        max_body_bytes=live.get("max_body_bytes", LiveArgs.max_body_bytes),
        require_keys=bool(args.get("require_keys")),
        stopping=sum(replica["state"] == STOPPING for replica in found["replicas"]),
    )
