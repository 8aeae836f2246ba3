"""A load of streaming chats against one server, in a process of its own; prints one JSON line.

    python bench/load.py --url http://127.0.0.1:8000 --model tiny --concurrency 8 --requests 160 --tokens 64

`concurrency` connections are kept alive and send back to back. Prompts are random words, different for each request and
equal for equal `--seed`, so that no prefix cache answers and both servers of a pair get the same work.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import aiohttp  # kopf brings it; httpx takes three times the CPU, and client and server share two cores

WORDS = ("import", "os", "async", "def", "class", "return", "self", "loop", "task", "event", "await", "yield", "from")
DATA = b"data: {"


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
    ttft: list[float] = field(default_factory=list, repr=False)
    itl: list[float] = field(default_factory=list, repr=False)


def chat(model: str, words: int, tokens: int, seed: int) -> dict[str, Any]:
    """One request of a fixed length: no stop token ends it early."""
    chosen = random.Random(seed)
    prompt = " ".join(chosen.choice(WORDS) for _ in range(words))
    return {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }


async def one(session: aiohttp.ClientSession, url: str, body: dict[str, Any], into: Round) -> None:
    """Send one request; a stream that is not whole counts as an error."""
    began = time.perf_counter()
    stamps: list[float] = []
    done = False
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            response.raise_for_status()
            async for line in response.content:
                if line.startswith(DATA):
                    stamps.append(time.perf_counter())
                done = done or line.startswith(b"data: [DONE]")
    except (TimeoutError, aiohttp.ClientError) as error:
        into.error = repr(error)
    if not (done and stamps):
        into.errors += 1
        return
    into.ttft.append(1e3 * (stamps[0] - began))
    into.itl += [1e3 * (after - before) for before, after in pairwise(stamps)]


async def worker(session: aiohttp.ClientSession, url: str, bodies: Iterator[dict[str, Any]], into: Round) -> None:
    """One connection, back to back."""
    for body in bodies:
        await one(session, url, body, into)


async def load(args: argparse.Namespace) -> Round:
    """Run the whole load."""
    result = Round(args.requests, args.concurrency)
    bodies = (chat(args.model, args.words, args.tokens, args.seed + i) for i in range(args.requests))
    connector = aiohttp.TCPConnector(limit=args.concurrency)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=300)) as session:
        began = time.perf_counter()
        await asyncio.gather(*(worker(session, args.url, bodies, result) for _ in range(args.concurrency)))
        result.rps = round((args.requests - result.errors) / (time.perf_counter() - began), 2)
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
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--requests", type=int, default=80)
    parser.add_argument("--words", type=int, default=60, help="length of a prompt")
    parser.add_argument("--tokens", type=int, default=32, help="length of an answer")
    parser.add_argument("--seed", type=int, default=0)
    print(json.dumps(summary(asyncio.run(load(parser.parse_args())))))


if __name__ == "__main__":
    main()
