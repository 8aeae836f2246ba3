"""How long a server takes from its start to the first token of an answer: ours and native `sglang serve` in turns.

    .venv/bin/python bench/starts.py

Each start is alone on the machine. One of each comes before the first that counts, because an engine may compile
kernels that the next one then finds. What counts has its model and its programs read before (warm), or with `--cold`
comes after the kernel was told to forget all files, which needs root. Ours is what `kubectl sglang run` starts: Ray,
HAProxy, replica. A pod has its Ray already when its engine starts; that the image is pulled and a node found is not
in these numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from serving import NATIVE, OURS, add_common_options, find_python, native, ours, read_endpoint, say

from sglang_operator.cli.local_spec import Machine, local_spec
from sglang_operator.render import render_endpoint

SERVERS = {NATIVE: native, OURS: ours}
DROP_CACHES = Path("/proc/sys/vm/drop_caches")


def first_token(name: str, spec: Mapping[str, Any], model: str, options: argparse.Namespace, logs: Path) -> float:
    """Seconds from the start of the server to the first token; the server is gone afterwards."""
    if options.cold:
        os.sync()
        DROP_CACHES.write_text("3")
    began = time.monotonic()
    with SERVERS[name](spec, options.engine_python, logs / name) as server:
        body = {"model": model, "prompt": "def f(self):", "max_tokens": 1, "temperature": 0}
        httpx.post(f"{server.url}/v1/completions", json=body, timeout=120).raise_for_status()
        seconds = time.monotonic() - began
    say(f"  {name}: {seconds:.1f} s")
    return seconds


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_options(parser)
    parser.add_argument("--rounds", type=int, default=3, help="without the first of each, which does not count")
    parser.add_argument("--cold", action="store_true", help="forget all files before each start (root)")
    options = parser.parse_args()
    options.engine_python = find_python(options)
    taken: dict[str, list[float]] = {NATIVE: [], OURS: []}
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        endpoint = read_endpoint(options, Path(directory))
        spec = local_spec(render_endpoint(endpoint), Machine(environ=os.environ))
        for number in range(-1, options.rounds):
            for name in (NATIVE, OURS) if number % 2 == 0 else (OURS, NATIVE):
                seconds = first_token(name, spec, endpoint.spec.model.served_name, options, Path(directory))
                if number >= 0:
                    taken[name].append(round(seconds, 1))
    ratios = [mine / theirs for mine, theirs in zip(taken[OURS], taken[NATIVE], strict=True)]
    print(json.dumps({"cold": options.cold, "seconds": taken, "ratio": round(statistics.median(ratios), 3)}))


if __name__ == "__main__":
    main()
