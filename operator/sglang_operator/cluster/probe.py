"""Questions to the replicas of a revision, through the front of each of its pods, as a client would ask them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from sglang_operator.lifecycle.observed import Probe
from sglang_operator.render import names

ROUTE: Final = "/-/replica"
CONNECT_SECONDS: Final = 3.0
GENERATE_SECONDS: Final = 25.0  # above the replica's own limit, so that its reason arrives
LOOK_SECONDS: Final = 5.0
ROUNDS_SECONDS: Final = 60.0  # after which a front is asked no further question: the next pass asks again


@dataclass(frozen=True)
class Adapter:
    """What one replica says of one LoRA adapter."""

    name: str
    state: str
    """Loading, Loaded or Failed."""
    message: str


@dataclass(frozen=True)
class Report:
    """What one replica says of itself."""

    replica: str
    node: str
    """IP of its pod."""
    config: str
    """Id of the settings in force."""
    in_flight: int
    idle_seconds: float
    """Since its last request ended; 0 while there is one."""
    adapters: tuple[Adapter, ...] = ()
    commit: str = ""
    """Of the hub's repository that it serves; "" if its model is from elsewhere."""


@dataclass(frozen=True)
class Held:
    """What a head says of the requests that it holds for want of a replica."""

    in_flight: int
    idle_seconds: float
    target: int | None
    """Replicas that Ray Serve wants to run; None: its controller did not say."""
    wished_seconds: float = 0.0
    """For how long it has wanted one and had none; 0 also of a head older than this field."""


@dataclass(frozen=True)
class Answers:
    """What came of asking a revision."""

    probe: Probe = Probe.NOT_ASKED
    reports: tuple[Report, ...] = ()
    error: str = ""
    """What the last one that failed said."""


class Prober:
    """Asks pods by their IP. Nothing is sent through a Service: it may select others."""

    def __init__(self, port: int = names.SERVE_PORT) -> None:
        self._port = port
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End the connections."""
        if self._session:
            await self._session.close()

    async def ask(self, addresses: Sequence[str], *, generate: bool) -> Answers:
        """Ask until every pod's replica has answered, at most twice per pod and replica: a pod's front hands a request
        to any replica. With `generate` a replica answers only after its engine has generated."""
        if not addresses:
            return Answers()
        rounds = await asyncio.gather(*(self._ask_front(address, len(addresses), generate) for address in addresses))
        reports = {report.replica: report for answers in rounds for report in answers.reports}
        if reports:
            return Answers(Probe.ANSWERED, tuple(reports.values()))
        wrong = [answers for answers in rounds if answers.probe is Probe.WRONG]
        return wrong[0] if wrong else rounds[0]

    async def ask_head(self, address: str) -> Held | None:
        """What the head of a revision holds that has no replica; None if a replica answers instead, or nobody. Wakes no
        replica."""
        try:
            async with self._connections().get(_url(address, self._port), timeout=_timeout(LOOK_SECONDS)) as answer:
                said = await answer.json()
                if "held" not in said:
                    return None
                wished = float(said.get("wished_seconds", 0))
                return Held(int(said["in_flight"]), float(said["idle_seconds"]), said["target"], wished)
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
            return None

    async def _ask_front(self, address: str, replicas: int, generate: bool) -> Answers:
        seen: dict[str, Report] = {}
        until = time.monotonic() + ROUNDS_SECONDS
        for _ in range(2 * replicas):
            if seen and time.monotonic() > until:
                break
            answer = await self._ask_once(address, generate)
            if isinstance(answer, Answers):
                return Answers(Probe.ANSWERED, tuple(seen.values())) if seen else answer
            seen[answer.replica] = answer
            if len(seen) == replicas:
                break
        return Answers(Probe.ANSWERED, tuple(seen.values()))

    async def _ask_once(self, address: str, generate: bool) -> Report | Answers:
        url = _url(address, self._port) + ("?generate=1" if generate else "")
        timeout = _timeout(GENERATE_SECONDS if generate else LOOK_SECONDS)
        try:
            async with self._connections().get(url, timeout=timeout) as answer:
                text = await answer.text()
                if answer.status != 200:  # noqa: PLR2004 - OK
                    return Answers(Probe.WRONG, error=f"{answer.status} {text[:200]}")
                return _report(await answer.json())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return Answers(Probe.UNREACHABLE, error=str(error))
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            return Answers(Probe.WRONG, error=f"{type(error).__name__}: {error}")

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            # No connection is kept: each question is to be balanced anew.
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=64))
        return self._session


def _url(address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{port}{ROUTE}"


def _timeout(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)


def _report(said: dict[str, Any]) -> Report:
    return Report(
        replica=str(said["replica"]),
        node=str(said["node_ip"]),
        config=str(said["config_id"]),
        in_flight=int(said["in_flight"]),
        idle_seconds=float(said.get("idle_seconds", 0.0)),
        adapters=tuple(_adapter(row) for row in said.get("adapters", ())),
        commit=str(said.get("commit", "")),
    )


def _adapter(row: dict[str, Any]) -> Adapter:
    return Adapter(str(row["name"]), str(row["state"]), str(row.get("message", "")))
