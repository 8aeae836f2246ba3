"""Streaming clients at work while something happens, and the count of what they lost.

Run as a script it is one such load: it prints one JSON line when its standard input closes. A line there begins the
witness of an event, a stream that has no end: "running" is printed. The next line ends it: what went wrong is printed.

    python tests/cluster/load.py http://10.96.0.10 --kept 2 --fresh 2 --long 1
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Self

import aiohttp  # kopf brings it; less CPU than httpx, and the engine shares the machine

TOKENS = 100  # of a short stream
LONG_TOKENS = 1000  # of one that is to live through whatever happens
WITNESS_TOKENS = 30_000  # ten minutes at least, of a model that is slowed down; half of what fits into the tiny one
SILENT_SECONDS = 120.0  # without a byte: lost
THINK_SECONDS = 0.5  # between two requests: the node has two cores, and the next revision loads on them
CONNECT_SECONDS = 10
BEAT_SECONDS = 0.25
STILL_SECONDS = 1.0  # without a beat: this process, or the machine, stood still


@dataclass
class Lost:
    """One request that did not end as it should have."""

    at: float
    client: str
    what: str


@dataclass
class Count:
    """What a load came to."""

    requests: int = 0
    longest_seconds: float = 0.0
    clients: int = 0
    lost: list[Lost] = field(default_factory=list)

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Self:
        """From what `asdict` made of one."""
        return cls(**{**told, "lost": [Lost(**one) for one in told["lost"]]})

    @property
    def bound(self) -> float:
        """95 % upper bound of the share that is lost, when none was: the exact one of a binomial."""
        return float(1 - 0.05 ** (1 / max(self.requests, 1)))

    def __str__(self) -> str:
        rate = f"< {100 * self.bound:.2f} %" if not self.lost else f"{100 * len(self.lost) / self.requests:.2f} %"
        return (
            f"{len(self.lost)} of {self.requests} requests lost ({rate}), {self.clients} clients, longest stream "
            f"{self.longest_seconds:.0f} s"
        )


class Load:
    """Clients of one URL. Some would keep a connection between requests, some open a new one for each."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url = f"{url}/v1/chat/completions"
        self._headers = headers
        self._stopping = False
        self._stood_still: list[tuple[float, float]] = []  # until when, and for how long
        self.count = Count()

    async def run(self, kept: int, fresh: int, long: int, long_tokens: int) -> Count:
        """Until standard input closes; streams that run then are read to their end. The first client never waits."""
        clients = [
            self._client(f"kept-{number}", TOKENS, keep=True, think=THINK_SECONDS if number else 0.0)
            for number in range(kept)
        ]
        clients += [self._client(f"fresh-{number}", TOKENS) for number in range(fresh)]
        clients += [self._client(f"long-{number}", long_tokens) for number in range(long)]
        self.count.clients = len(clients)
        beating = asyncio.ensure_future(self._beat())
        await asyncio.gather(*clients, self._listen())
        beating.cancel()
        return self.count

    async def _beat(self) -> None:
        """Notice when this process stands still, as when the whole machine does: then its own timers run out."""
        last = time.time()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            now = time.time()
            if now - last > STILL_SECONDS:
                self._stood_still.append((now, now - last))
            last = now

    async def _listen(self) -> None:
        """To standard input until it closes: each line is about a witness."""
        line = partial(asyncio.get_running_loop().run_in_executor, None, sys.stdin.readline)
        events = 0
        while await line():
            events += 1
            await self._witness(f"witness {events}", asyncio.ensure_future(line()))
        self.count.clients += bool(events)
        self._stopping = True

    async def _client(self, name: str, tokens: int, *, keep: bool = False, think: float = THINK_SECONDS) -> None:
        async with self._session(keep=keep) as session:
            number = 0
            while not self._stopping:
                number += 1
                lost = await self._count(name, self._ask(session, f"{name} asks {number}", tokens))
                await asyncio.sleep(THINK_SECONDS if lost else think)

    async def _witness(self, name: str, over: asyncio.Future[str]) -> None:
        """A stream that must live until `over`, and a token more. Says when it runs, and what went wrong."""
        running = asyncio.Event()
        async with self._session(keep=False) as session:
            watching = asyncio.ensure_future(self._count(name, self._watch(session, name, running, over)))
            watching.add_done_callback(lambda _: running.set())
            await running.wait()
            print("running", flush=True)
            lost = await watching
        await over
        print(json.dumps(lost), flush=True)

    async def _count(self, client: str, request: Awaitable[str]) -> str:
        """What went wrong with it."""
        began = time.time()
        lost = await request
        self.count.requests += 1
        self.count.longest_seconds = max(self.count.longest_seconds, time.time() - began)
        if lost:
            self.count.lost.append(Lost(time.time(), client, f"{lost}{self._excuse(began)}"))
        return lost

    def _excuse(self, began: float) -> str:
        """It counts as lost all the same; but whoever looks for the reason shall not look at the server."""
        longest = max((seconds for until, seconds in self._stood_still if until >= began), default=0.0)
        return f"; this client itself stood still for {longest:.1f} s meanwhile" if longest else ""

    async def _ask(self, session: aiohttp.ClientSession, text: str, tokens: int) -> str:
        """What went wrong, "" if nothing: 200, a finish_reason, and [DONE]."""
        finished = done = False
        try:
            async for line in self._lines(session, text, tokens):
                finished = finished or b'"finish_reason":"length"' in line
                done = done or line.startswith(b"data: [DONE]")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return f"{type(error).__name__}: {error}"
        return "" if finished and done else f"the stream ended early: finish_reason {finished}, [DONE] {done}"

    async def _watch(
        self, session: aiohttp.ClientSession, text: str, running: asyncio.Event, over: asyncio.Future[str]
    ) -> str:
        """What went wrong before it was over, "" if nothing."""
        try:
            async with aclosing(self._lines(session, text, WITNESS_TOKENS)) as lines:
                async for _ in lines:
                    running.set()
                    if over.done():
                        return ""
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return f"{type(error).__name__}: {error}"
        return "the stream ended before the event"

    async def _lines(self, session: aiohttp.ClientSession, text: str, tokens: int) -> AsyncGenerator[bytes]:
        """Of the stream that answers."""
        body = {
            "model": "any",
            "messages": [{"role": "user", "content": text}],
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
        }
        async with session.post(self._url, json=body) as reply:
            if reply.status != 200:
                raise aiohttp.ClientError(f"status {reply.status}: {(await reply.text())[:200]}")
            async for line in reply.content:
                yield line

    def _session(self, *, keep: bool) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(force_close=not keep)
        timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENT_SECONDS, sock_connect=CONNECT_SECONDS)
        return aiohttp.ClientSession(connector=connector, timeout=timeout, headers=self._headers)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("url")
    options.add_argument("--key", default="")
    for kind in ("kept", "fresh", "long"):
        options.add_argument(f"--{kind}", type=int, default=0)
    options.add_argument("--long-tokens", type=int, default=LONG_TOKENS)
    given = options.parse_args()
    headers = {"Authorization": f"Bearer {given.key}"} if given.key else {}
    count = asyncio.run(Load(given.url, headers).run(given.kept, given.fresh, given.long, given.long_tokens))
    print(json.dumps(asdict(count)))


if __name__ == "__main__":
    main()
