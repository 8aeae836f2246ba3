"""A load of streaming chats, or of embeddings, against one server, in a process of its own; prints one JSON line.

    python bench/serving_load.py --url http://127.0.0.1:8000 --model tiny --concurrency 8 --requests 160 --tokens 64

`concurrency` connections are kept alive and send back to back. Prompts are random words, different for each request and
equal for equal `--seed`, so that no prefix cache answers and both servers of a pair get the same work. The time to the
first token of an embedding is that to its answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import aiohttp  # kopf brings it; httpx takes three times the CPU, and client and server share two cores

WORDS = ("import", "os", "async", "def", "class", "return", "self", "loop", "task", "event", "await", "yield", "from")


@dataclass
class Round:
    """What one load measured; times in milliseconds."""

    requests: int
    concurrency: int
    rps: float = 0
    ttft_p50: float = 0
    ttft_p99: float = 0
    itl_p50: float = 0
    itl_p99: float = 0
    errors: int = 0
    error: str = ""
    client_cpu: float = 0
    """Of one core, on average: near 1 the client measures itself."""
    ttft: list[float] = field(default_factory=list, repr=False)
    itl: list[float] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class Request:
    """One request, and how its answer shows that it is whole."""

    path: str
    body: dict[str, Any]
    begins: bytes
    """How each line with a token begins."""
    ends: bytes
    """What the last line has."""


def chat(model: str, prompt: str, tokens: int) -> Request:
    """A stream of a fixed length: no stop token ends it early."""
    how = {"max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True}
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], **how}
    return Request("/v1/chat/completions", body, b"data: {", b"data: [DONE]")


def embedding(model: str, prompt: str, _: int) -> Request:
    """One vector."""
    return Request("/v1/embeddings", {"model": model, "input": prompt}, b"{", b"total_tokens")


KINDS = {"generate": chat, "embed": embedding}


def requests(args: argparse.Namespace) -> Iterator[Request]:
    """All that is sent."""
    for seed in range(args.seed, args.seed + args.requests):
        chosen = random.Random(seed)
        prompt = " ".join(chosen.choice(WORDS) for _ in range(args.words))
        yield KINDS[args.task](args.model, prompt, args.tokens)


async def one(session: aiohttp.ClientSession, url: str, request: Request, into: Round) -> None:
    """Send one request; an answer that is not whole counts as an error."""
    began = time.perf_counter()
    stamps: list[float] = []
    done = False
    try:
        async with session.post(url + request.path, json=request.body) as response:
            response.raise_for_status()
            async for line in lines(response):
                if line.startswith(request.begins):
                    stamps.append(time.perf_counter())
                done = done or request.ends in line
    except (TimeoutError, aiohttp.ClientError) as error:
        into.error = repr(error)
    if not (done and stamps):
        into.errors += 1
        return
    into.ttft.append(1e3 * (stamps[0] - began))
    into.itl += [1e3 * (after - before) for before, after in pairwise(stamps)]


async def lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Of a stream as they come; anything else is one."""
    if response.content_type != "text/event-stream":
        yield await response.read()
        return
    async for line in response.content:
        yield line


async def worker(session: aiohttp.ClientSession, url: str, all_of_them: Iterator[Request], into: Round) -> None:
    """One connection, back to back."""
    for request in all_of_them:
        await one(session, url, request, into)


async def load(args: argparse.Namespace) -> Round:
    """Run the whole load."""
    result = Round(args.requests, args.concurrency)
    all_of_them = requests(args)
    connector = aiohttp.TCPConnector(limit=args.concurrency)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=300)) as session:
        began, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker(session, args.url, all_of_them, result) for _ in range(args.concurrency)))
        seconds = time.perf_counter() - began
    result.rps = round((args.requests - result.errors) / seconds, 2)
    result.client_cpu = round((time.process_time() - used) / seconds, 2)
    return result


def summary(result: Round) -> dict[str, Any]:
    """Percentiles in place of the lists."""
    for name in ("ttft", "itl"):
        values = sorted(getattr(result, name))
        for percent in (50, 99):
            setattr(result, f"{name}_p{percent}", percentile(values, percent))
    return {name: value for name, value in asdict(result).items() if name not in {"ttft", "itl"}}


def percentile(ordered: list[float], percent: int) -> float:
    """Nearest rank."""
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 1) if ordered else 0.0


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--task", choices=KINDS, default="generate")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--requests", type=int, default=80)
    parser.add_argument("--words", type=int, default=60, help="length of a prompt")
    parser.add_argument("--tokens", type=int, default=32, help="length of an answer")
    parser.add_argument("--seed", type=int, default=0)
    print(json.dumps(summary(asyncio.run(load(parser.parse_args())))))


if __name__ == "__main__":
    main()
