"""Questions to the replicas of a revision, through the front of each of its pods, as a client would ask them."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
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
AT_ONCE: Final = 64  # questions of a kind: one that looks never waits for engines that generate
LONGEST: Final = 1_048_576  # bytes of an answer; a thousand adapters are a tenth of it
# Whatever may run in a pod answers: JSON of another shape, numbers that are none, brackets without an end.
_ODD: Final = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


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
    endpoint: str = ""
    """Whose it is; "" of one that does not say."""
    revision: str = ""
    """Of which revision; "" of one that does not say."""
    answered_seconds: float = math.inf
    """Since its engine first generated for a probe; infinite of an image older than this field."""

    def is_of(self, endpoint: str, revision: str) -> bool:
        """Nothing that it says tells that it is another's: an address that was read may be a new pod's by now."""
        return self.endpoint in ("", endpoint) and self.revision in ("", revision)


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

    @property
    def commits(self) -> frozenset[str]:
        """Those of the model that its replicas say they serve; of a model without commits none."""
        return frozenset(report.commit for report in self.reports if report.commit)

    def only_of(self, endpoint: str, revision: str) -> Answers:
        """Without replicas of others. If nobody else answered, the answers are wrong."""
        own = tuple(report for report in self.reports if report.is_of(endpoint, revision))
        if self.reports and not own:
            other = self.reports[0]
            return Answers(Probe.WRONG, error=f"a replica of {other.endpoint}, revision {other.revision}, answers")
        return replace(self, reports=own)


class Prober:
    """Asks pods by their IP. Nothing is sent through a Service: it may select others."""

    def __init__(self, port: int = names.SERVE_PORT) -> None:
        self._port = port
        self._session: aiohttp.ClientSession | None = None
        self._looking = asyncio.Semaphore(AT_ONCE)
        self._generating = asyncio.Semaphore(AT_ONCE)

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
            _, body = await self._get(address, generate=False)  # with 503: it has no replica
            return _held(json.loads(body))
        except (aiohttp.ClientError, TimeoutError, *_ODD):
            return None

    async def _ask_each(self, addresses: Sequence[str], generate: bool) -> list[Report | Answers]:
        return await asyncio.gather(*(self._ask_once(address, generate) for address in addresses))

    async def _ask_once(self, address: str, generate: bool) -> Report | Answers:
        try:
            status, body = await self._get(address, generate=generate)
            if status != HTTPStatus.OK:
                return Answers(Probe.WRONG, error=f"{status} {body.decode(errors='replace')[:200]}")
            return _report(json.loads(body))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return Answers(Probe.UNREACHABLE, error=str(error))
        except (aiohttp.ClientError, TimeoutError, *_ODD) as error:
            return Answers(Probe.WRONG, error=f"{type(error).__name__}: {error}"[:200])

    async def _get(self, address: str, *, generate: bool) -> tuple[int, bytes]:
        """Status and body. Its time begins when its turn has come: a pod is not slow because many are asked."""
        url = _url(address, self._port) + ("?generate=1" if generate else "")
        timeout = _timeout(GENERATE_SECONDS if generate else LOOK_SECONDS)
        turn = self._generating if generate else self._looking
        # Elsewhere than at this pod there is nothing to learn of it, and much that a pod must not make us ask.
        async with turn, self._connections().get(url, timeout=timeout, allow_redirects=False) as answer:
            return answer.status, await _read(answer)

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            # No connection is kept: each question is to be balanced anew. Nothing is unpacked: see `_read`.
            connector = aiohttp.TCPConnector(force_close=True, limit=0)
            plain = {"Accept-Encoding": "identity"}
            self._session = aiohttp.ClientSession(connector=connector, headers=plain, auto_decompress=False)
        return self._session


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """The body. Raises ValueError for one that is packed or too long: it is to fit into memory beside many others."""
    if (encoding := answer.headers.get("Content-Encoding", "identity")) != "identity":
        raise ValueError(f"an answer in the encoding {encoding}")
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > LONGEST:
            raise ValueError(f"an answer of more than {LONGEST} bytes")
    return bytes(body)


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
        endpoint=str(said.get("endpoint", "")),
        revision=str(said.get("revision", "")),
        answered_seconds=float(said.get("answered_seconds", math.inf)),
    )


def _held(said: dict[str, Any]) -> Held | None:
    if "held" not in said:
        return None
    target = said["target"]
    return Held(
        in_flight=int(said["in_flight"]),
        idle_seconds=float(said["idle_seconds"]),
        target=None if target is None else int(target),
        wished_seconds=float(said.get("wished_seconds", 0)),
    )


def _adapter(row: dict[str, Any]) -> Adapter:
    return Adapter(str(row["name"]), str(row["state"]), str(row.get("message", "")))
