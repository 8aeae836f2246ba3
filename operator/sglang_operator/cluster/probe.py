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
ROUNDS: Final = 4  # of questions through one front each, for the replicas that have not answered yet
ROUNDS_SECONDS: Final = 60.0  # after which no further question is asked: the next pass asks again


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
        """Ask until every pod's replica has answered: each front once, and while some are missing all replicas through
        one front after the other, as a front hands a request to any. With `generate` a replica answers only after its
        engine has generated."""
        if not addresses:
            return Answers()
        until = time.monotonic() + ROUNDS_SECONDS
        answers = await self._ask_each(addresses, generate)
        reports = _by_replica(answers)
        fronts = [one for one, said in zip(addresses, answers, strict=True) if isinstance(said, Report)]
        for front in (fronts * ROUNDS)[:ROUNDS]:
            if len(reports) >= len(addresses) or time.monotonic() > until:
                break
            # At once: a front balances by what is under way, so that each replica gets one.
            reports |= _by_replica(await self._ask_each([front] * len(addresses), generate))
        if reports:
            return Answers(Probe.ANSWERED, tuple(reports.values()))
        wrong = [said for said in answers if isinstance(said, Answers)]
        return next((said for said in wrong if said.probe is Probe.WRONG), wrong[0])

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

    async def _ask_each(self, addresses: Sequence[str], generate: bool) -> list[Report | Answers]:
        return await asyncio.gather(*(self._ask_once(address, generate) for address in addresses))

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


def _by_replica(answers: Sequence[Report | Answers]) -> dict[str, Report]:
    return {said.replica: said for said in answers if isinstance(said, Report)}


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
