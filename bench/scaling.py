"""What an endpoint gains from more accelerators: its shapes are started one after another under the same loads.

    .venv/bin/python bench/scaling.py --accelerators 2

The shapes: one replica on one accelerator, as many replicas as there are accelerators (`spec.replicas`), and one
replica over all of them (tensor parallelism). All are what `kubectl sglang run` starts. Every round starts, measures
and stops each; a ratio is taken within a round, to the one replica. Several replicas are also measured with as many
connections for each of them as the one has: the same load for each replica.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serving import Server, add_common_options, find_python, measure, ours, read_manifest, say

from sglang_operator.api import parse_endpoint
from sglang_operator.cli.local_spec import Machine, local_spec
from sglang_operator.render import render_endpoint

HERE = Path(__file__).parent
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Shape:
    """A way to use accelerators."""

    name: str
    replicas: int = 1
    ranks: int = 1

    def of(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """The endpoint in this shape; everything else stays."""
        shaped = copy.deepcopy(dict(manifest))
        shaped["spec"]["replicas"] = self.replicas
        shaped["spec"]["accelerator"]["count"] = self.ranks
        return shaped

    def loads(self, concurrency: Iterable[int]) -> list[int]:
        """Connections of each load: those of the one replica, and so many for each replica."""
        return sorted({number * times for number in concurrency for times in (1, self.replicas)})


ONE = Shape("one replica")


def shapes(accelerators: int) -> list[Shape]:
    """All of them; the first is what the others are compared with."""
    return [
        ONE,
        Shape(f"{accelerators} replicas", replicas=accelerators),
        Shape(f"1 replica over {accelerators}", ranks=accelerators),
    ]


def measure_all(server: Server, shape: Shape, options: argparse.Namespace, number: int) -> Iterator[dict[str, Any]]:
    """The loads of a shape, after one that only warms it up."""
    named = replace(server, name=shape.name)
    loads = shape.loads(options.concurrency)
    measure(named, options.model, options, max(loads), seed=10**8)
    memory = {"rss_mib": named.rss_mib(), "gpu_mib": named.gpu_mib()}
    for concurrency in loads:
        row = measure(named, options.model, options, concurrency, seed=(number * 1000 + concurrency) * 10**4)
        yield {"round": number, **row, **memory}


def table(rows: Sequence[Row]) -> str:
    """Markdown: medians over the rounds, and the ratios to the one replica within a round."""
    lines = [
        "| shape | c | rps | TTFT p50 / p99 ms | ITL p50 ms | errors | rps ratio at this c | at this c per replica |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(line(rows, *key) for key in dict.fromkeys(key_of(row) for row in rows))])


def key_of(row: Row) -> tuple[str, int]:
    """Rows of all rounds that have the same one are repetitions of each other."""
    return row["server"], row["concurrency"]


def line(rows: Sequence[Row], name: str, concurrency: int) -> str:
    """One row of the table."""
    mine = [row for row in rows if key_of(row) == (name, concurrency)]
    mid = {key: statistics.median(row[key] for row in mine) for key in ("rps", "ttft_p50", "ttft_p99", "itl_p50")}
    errors = sum(row["errors"] for row in mine)
    times = f"{mid['ttft_p50']:.1f} / {mid['ttft_p99']:.1f} | {mid['itl_p50']:.1f}"
    same, each = (ratio(rows, mine, concurrency // share) for share in (1, mine[0]["replicas"]))
    return f"| {name} | {concurrency} | {mid['rps']:.2f} | {times} | {errors} | {same} | {each} |"


def ratio(rows: Sequence[Row], mine: Sequence[Row], concurrency: int) -> str:
    """To the one replica at `concurrency`; "" for itself, and where it was not measured."""
    of_one = {row["round"]: row["rps"] for row in rows if key_of(row) == (ONE.name, concurrency)}
    found = [row["rps"] / of_one[row["round"]] for row in mine if row["round"] in of_one]
    if not found or mine[0]["server"] == ONE.name:
        return ""
    return f"**{statistics.median(found):.3f}** ({min(found):.3f} to {max(found):.3f})"


def options_of(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; the loads are those of the GPU's table in docs/performance.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_options(parser)
    parser.set_defaults(endpoint=HERE / "llama8b-gpu.yaml")
    parser.add_argument("--accelerators", type=int, default=2, help="of this machine, to be used by the larger shapes")
    parser.add_argument("--concurrency", type=lambda text: [int(n) for n in text.split(",")], default=[1, 16, 64, 256])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--requests", type=int, default=8, help="per connection and round")
    parser.add_argument("--least", type=int, default=24, help="requests of a round at the least")
    parser.add_argument("--words", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--json", type=Path, help="write every round here, after each load")
    return parser.parse_args(argv)


def run(manifest: Mapping[str, Any], options: argparse.Namespace, scratch: Path) -> Iterator[dict[str, Any]]:
    """All rounds; odd ones in the other order."""
    for number in range(options.rounds):
        for shape in shapes(options.accelerators)[:: -1 if number % 2 else 1]:
            say(f"round {number}: {shape.name}")
            spec = local_spec(render_endpoint(parse_endpoint(shape.of(manifest))), Machine(environ=os.environ))
            with ours(spec, options.engine_python, scratch / "log") as server:
                for row in measure_all(server, shape, options, number):
                    yield {"replicas": shape.replicas, **row}


def main() -> None:
    """See the module's text."""
    options = options_of()
    options.engine_python = find_python(options)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        manifest = read_manifest(options, Path(directory))
        options.task = parse_endpoint(manifest).spec.task
        options.model = parse_endpoint(manifest).spec.model.served_name
        for row in run(manifest, options, Path(directory)):
            rows.append(row)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1))
    print(table(rows))


if __name__ == "__main__":
    main()
