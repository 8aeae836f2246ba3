"""A load that grows, stays and falls on an autoscaled endpoint: what is lost, whether the number of replicas flaps.

    python bench/ramp.py --url http://127.0.0.1:8000 --model qwen3 --endpoint qwen3 --namespace default \\
        --clients 64 --seconds 1200 --out docs/pictures/ramp

`clients` streaming clients at the peak, each back to back: up in a quarter of the time, as many for a quarter, down to
one in the third, and one in the last. Every two seconds `kubectl` is asked for the endpoint's status. Writes OUT.json
and the timeline OUT.svg; exit code 1 if a request was lost, or if the wanted number of replicas went down and up again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import groupby, pairwise
from pathlib import Path

import aiohttp  # kopf brings it

SAMPLE_SECONDS = 2.0
WIDTH, HEIGHT, MARGIN = 800, 240, 30
COLOURS = {"clients": "#999999", "desired": "#d95f02", "ready": "#1b9e77"}


@dataclass(frozen=True)
class Sample:
    """The endpoint and its load at one time."""

    at: float
    """Seconds since the start."""
    clients: int
    desired: int
    ready: int


@dataclass
class Ramp:
    """What came of it."""

    clients: int
    seconds: float
    requests: int = 0
    lost: int = 0
    error: str = ""
    flaps: int = 0
    samples: list[Sample] = field(default_factory=list)


def clients_at(share: float, peak: int) -> int:
    """How many clients there are after this share of the time."""
    slope = min(4 * share, 1.0, 4 * (0.75 - share))
    return max(1, round(peak * slope))


def flaps(wanted: list[int]) -> int:
    """How often the number goes up again after it went down."""
    levels = [level for level, _ in groupby(wanted)]
    directions = [direction for direction, _ in groupby(after > before for before, after in pairwise(levels))]
    return max(0, sum(directions) - 1) if directions and directions[0] else sum(directions)


class Load:
    """One run: its clients, and what is seen meanwhile."""

    def __init__(self, args: argparse.Namespace, session: aiohttp.ClientSession) -> None:
        self._args = args
        self._session = session
        self._began = time.monotonic()
        self.result = Ramp(args.clients, args.seconds)

    @property
    def _now(self) -> float:
        return time.monotonic() - self._began

    @property
    def _wanted(self) -> int:
        return clients_at(self._now / self._args.seconds, self._args.clients)

    async def run(self) -> Ramp:
        """All of it."""
        await asyncio.gather(self._watch(), *(self._client(index) for index in range(self._args.clients)))
        self.result.flaps = flaps([sample.desired for sample in self.result.samples])
        return self.result

    async def _client(self, index: int) -> None:
        """Back to back while it is its turn."""
        while self._now < self._args.seconds:
            if index < self._wanted:
                await self._ask(index)
            else:
                await asyncio.sleep(SAMPLE_SECONDS)

    async def _ask(self, index: int) -> None:
        """A stream that is not whole counts as lost. The prompt is no earlier one's, so that no cache answers."""
        self.result.requests += 1
        prompt = f"{index} {self.result.requests} " + "import " * self._args.words
        body = {"model": self._args.model, "prompt": prompt, "max_tokens": self._args.tokens, "ignore_eos": True}
        try:
            async with self._session.post(f"{self._args.url}/v1/completions", json={**body, "stream": True}) as answer:
                answer.raise_for_status()
                whole = (await answer.text()).rstrip().endswith("data: [DONE]")
        except (TimeoutError, aiohttp.ClientError) as error:
            whole, self.result.error = False, repr(error)
        self.result.lost += not whole

    async def _watch(self) -> None:
        """Samples of the endpoint's status."""
        where = f"--namespace={self._args.namespace}"
        command = ["kubectl", "get", f"sglangendpoints/{self._args.endpoint}", where, "--output=json"]
        while self._now < self._args.seconds:
            asked = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            said, _ = await asked.communicate()
            if asked.returncode == 0:
                status = json.loads(said)["status"]
                replicas = status["desiredReplicas"], status["readyReplicas"]
                self.result.samples.append(Sample(round(self._now, 1), self._wanted, *replicas))
            await asyncio.sleep(SAMPLE_SECONDS)


async def ramp(args: argparse.Namespace) -> Ramp:
    """Load and look, for the whole time."""
    timeout = aiohttp.ClientTimeout(total=900)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        return await Load(args, session).run()


def picture(result: Ramp) -> Iterator[str]:
    """Lines of an SVG: clients, wanted and ready replicas over time, each to its own maximum."""
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="12">'
    for row, (name, colour) in enumerate(COLOURS.items()):
        values = [getattr(sample, name) for sample in result.samples]
        most = max(values, default=1) or 1
        points = " ".join(
            f"{x_of(sample.at, result.seconds):.1f},{y_of(value / most):.1f}"
            for sample, value in zip(result.samples, values, strict=True)
        )
        yield f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>'
        yield f'<text x="{MARGIN + 160 * row}" y="16" fill="{colour}">{name}, at most {most}</text>'
    yield f'<text x="{MARGIN}" y="{HEIGHT - 6}">0 s</text>'
    yield f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 6}" text-anchor="end">{result.seconds:.0f} s</text>'
    yield "</svg>"


def x_of(seconds: float, total: float) -> float:
    return MARGIN + (WIDTH - 2 * MARGIN) * seconds / total


def y_of(share: float) -> float:
    return HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--words", type=int, default=60, help="length of a prompt")
    parser.add_argument("--tokens", type=int, default=64, help="length of an answer")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    result = asyncio.run(ramp(args))
    args.out.with_suffix(".json").write_text(json.dumps(asdict(result), indent=1) + "\n")
    args.out.with_suffix(".svg").write_text("\n".join(picture(result)) + "\n")
    print(f"{result.requests} requests, {result.lost} lost {result.error}; {result.flaps} flaps")
    sys.exit(result.lost > 0 or result.flaps > 0)


if __name__ == "__main__":
    main()
