"""A server between the operator and the API server: it lets requests go wrong, cuts watches, and tells of each write.

The operator is a process of its own, so its requests can be spoilt on their way only. It has a kubeconfig without
credentials; the administrator's are added here.
"""

from __future__ import annotations

import asyncio
import base64
import random
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import ClientSession, ClientTimeout, StreamReader, TCPConnector, web
from yarl import URL

READS = {"GET", "HEAD"}
UNCOUNTED = ("leases", "events")
FAULTS = ((429, "TooManyRequests"), (500, "InternalError"), (503, "ServiceUnavailable"))
CONFLICT = (409, "Conflict")  # of writes alone
WATCH_SECONDS = 5.0, 20.0  # of a watch, where they are cut
HOP_BY_HOP = {"transfer-encoding", "content-length", "content-encoding", "connection", "host", "authorization"}


@dataclass
class Between:
    """What happens to the requests. May be changed while it runs."""

    share: float = 0.0
    """Of requests that go wrong: half of them before they reach the API server, of the others the answer is lost."""
    cuts_watches: bool = False
    seed: int = 0
    wrong: int = 0
    """How many have gone wrong so far."""
    url: str = ""
    kubeconfig: Path = Path()
    _chosen: random.Random = field(init=False)
    _hears: Callable[[str], None] | None = None
    _telling: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._chosen = random.Random(self.seed)

    def tell(self, hears: Callable[[str], None] | None) -> None:
        """Whom to call with "PATCH /apis/…" after a write was carried out, before its answer goes back. Nobody is being
        called any more when this returns."""
        with self._telling:
            self._hears = hears

    async def answer(self, request: web.Request, session: ClientSession) -> web.StreamResponse:
        """One request from its start to the end of its answer."""
        fate = self._chosen.random()
        if fate < self.share / 2:
            return self._refused(request.method)
        path, body = URL(request.raw_path, encoded=True), await request.read()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        async with session.request(request.method, path, data=body or None, headers=headers) as reply:
            kind = {"content-type": reply.headers["content-type"]}  # with its parameters
            if request.query.get("watch") in {"true", "1"}:
                return await self._watch(request, reply.status, kind, reply.content)
            answer = await reply.read()
            if request.method not in READS and not any(word in request.path for word in UNCOUNTED):
                await asyncio.to_thread(self._written, f"{request.method} {request.path}")
            if fate < self.share:
                return self._refused(request.method)
            return web.Response(body=answer, status=reply.status, headers=kind)

    def _written(self, write: str) -> None:
        with self._telling:
            if self._hears:
                self._hears(write)

    async def _watch(
        self, request: web.Request, status: int, kind: Mapping[str, str], events: StreamReader
    ) -> web.StreamResponse:
        """Event by event; cut in the middle of a line, as by a load balancer, if they are to be."""
        seconds = self._chosen.uniform(*WATCH_SECONDS) if self.cuts_watches else None
        response = web.StreamResponse(status=status, headers=kind)
        await response.prepare(request)
        try:
            async with asyncio.timeout(seconds):
                async for chunk in events.iter_any():
                    await response.write(chunk)
        except TimeoutError:
            self.wrong += 1
            if request.transport:
                request.transport.abort()
        return response

    def _refused(self, method: str) -> web.Response:
        self.wrong += 1
        code, reason = self._chosen.choice(FAULTS if method in READS else (*FAULTS, CONFLICT))
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
        return web.json_response({**status, "message": "injected"}, status=code)


@contextmanager
def between(kubeconfig: Path, directory: Path, seed: int = 0) -> Iterator[Between]:
    """It runs in a thread of this process while the body does; `kubeconfig` of what is yielded leads through it."""
    made, loop = Between(seed=seed), asyncio.new_event_loop()
    ready, done = threading.Event(), asyncio.Event()
    upstream = yaml.safe_load(kubeconfig.read_text())
    thread = threading.Thread(target=lambda: loop.run_until_complete(_serve(made, upstream, ready, done)))
    thread.start()
    try:
        assert ready.wait(30), "the server between does not listen"
        made.kubeconfig = directory / "kubeconfig-between"
        made.kubeconfig.write_text(yaml.safe_dump(_leading_to(made.url)))
        yield made
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()


async def _serve(made: Between, upstream: Mapping[str, Any], ready: threading.Event, done: asyncio.Event) -> None:
    cluster, user = upstream["clusters"][0]["cluster"], upstream["users"][0]["user"]
    trusted = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    session = ClientSession(
        cluster["server"],
        headers={"Authorization": f"Bearer {user['token']}"},
        connector=TCPConnector(ssl=trusted, limit=0),
        timeout=ClientTimeout(total=None),
    )
    app = web.Application(client_max_size=2**24)

    async def answer(request: web.Request) -> web.StreamResponse:
        return await made.answer(request, session)

    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    async with session:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        await done.wait()
        await runner.cleanup()


def _leading_to(url: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "between", "cluster": {"server": url}}],
        "users": [{"name": "nobody", "user": {"token": "none"}}],
        "contexts": [{"name": "between", "context": {"cluster": "between", "user": "nobody"}}],
        "current-context": "between",
    }
