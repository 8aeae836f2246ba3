"""How much of native `sglang serve` an endpoint keeps: both are up at once and take turns under the same load.

    .venv/bin/python bench/serving.py
    .venv/bin/python bench/serving.py --endpoint bench/llama8b-gpu.yaml --concurrency 1,16,64 --words 200 --tokens 64

Native is `python -m sglang.launch_server` with the very server arguments that the endpoint's replica uses. Ours is
what `kubectl sglang run` starts: rendered Serve application, HAProxy in front. Each round measures native and ours back
to back with the same prompts, in turns of order; a ratio is taken within a round, because the machine's speed drifts
between rounds. Read the median; the range says how much the machine was disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import serving_models
import yaml

from sglang_operator.api import Endpoint, parse_endpoint
from sglang_operator.cli.local_process import LocalProcess
from sglang_operator.cli.local_spec import Machine, NotLocal, local_spec
from sglang_operator.cli.machine import engine_python
from sglang_operator.render import render_endpoint
from sglang_serve.args import serve_args
from sglang_serve.engine_args import Place, command_line, engine_args, engine_environment
from sglang_serve.leftovers import shared_memory_removed

START_SECONDS = 560
NATIVE_PORT = 21500
NATIVE, OURS = "native", "ours"


@dataclass(frozen=True)
class Server:
    """A running server: where it answers, and the process that everything of it descends from."""

    name: str
    url: str
    pid: int

    def rss_mib(self) -> int:
        """Resident memory of all its processes."""
        root = psutil.Process(self.pid)
        return sum(one.memory_info().rss for one in [root, *root.children(recursive=True)]) // 2**20

    def gpu_mib(self) -> int:
        """GPU memory of all its processes, 0 without a GPU."""
        root = psutil.Process(self.pid)
        own = {one.pid for one in [root, *root.children(recursive=True)]}
        query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
        try:
            rows = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")
        except (OSError, subprocess.CalledProcessError):
            return 0
        return sum(int(memory) for pid, memory in (row.split(",") for row in rows if "," in row) if int(pid) in own)


def say(text: str) -> None:
    """Progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def native(spec: Mapping[str, Any], python: Path, log: Path) -> Iterator[Server]:
    """`sglang serve` with the arguments of the endpoint's replica."""
    args = serve_args(spec["serve_config"]["applications"][0]["args"])
    model = Path(args.model.uri.removeprefix("file://"))
    command = [str(python), "-m", "sglang.launch_server", *command_line(engine_args(args, model, Place(NATIVE_PORT)))]
    environment = {**os.environ, **spec["env"], **engine_environment(args, sorted(os.sched_getaffinity(0)))}
    with tempfile.TemporaryDirectory(prefix="native-") as scratch:  # SGLang leaves files of its own
        environment["TMPDIR"] = scratch
        with log.open("wb") as sink:
            process = subprocess.Popen(command, stdout=sink, stderr=sink, env=environment, start_new_session=True)
        try:
            wait_until_healthy(process, log)
            yield Server(NATIVE, f"http://127.0.0.1:{NATIVE_PORT}", process.pid)
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server and its engine, by pid."""
    try:
        tree = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        tree = []
    with shared_memory_removed([process.pid, *(one.pid for one in tree)]):
        process.terminate()
        alive = [*tree, psutil.Process(process.pid)] if process.poll() is None else tree
        _, left = psutil.wait_procs(alive, timeout=20)
        for one in left:
            one.kill()
        process.wait()


def wait_until_healthy(process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when native answers; exit with the end of its log if it does not."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{NATIVE_PORT}/health", timeout=30).is_success:
                return
        except httpx.HTTPError:
            time.sleep(1)
    sys.exit(f"native did not start:\n{log.read_text(errors='replace')[-3000:]}")


@contextmanager
def ours(spec: Mapping[str, Any], python: Path, log: Path) -> Iterator[Server]:
    """What `kubectl sglang run` starts."""
    with LocalProcess(python, spec, log) as process:
        deadline = time.monotonic() + START_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            event = process.next_event(left)
            if event is None or event["event"] in {"failed", "ended"}:
                break
            say(f"  ours: {event.get('step', event['event'])} {event.get('message', '')}")
            if event["event"] == "ready":
                yield Server(OURS, event["url"], process.pid)
                return
        sys.exit(f"ours did not start: {event}\n{log.read_text(errors='replace')[-3000:]}")


def measure(server: Server, model: str, options: argparse.Namespace, concurrency: int, seed: int) -> dict[str, Any]:
    """One load in a process of its own."""
    requests = max(options.requests * concurrency, options.least)
    command = [sys.executable, str(Path(__file__).with_name("serving_load.py")), "--url", server.url, "--model", model]
    numbers = {"concurrency": concurrency, "requests": requests, "words": options.words, "tokens": options.tokens}
    command += ["--task", options.task]
    command += [part for name, value in {**numbers, "seed": seed}.items() for part in (f"--{name}", str(value))]
    row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    say(f"  c={concurrency} {server.name}: {row['rps']} rps, TTFT p50 {row['ttft_p50']} ms, {row['errors']} errors")
    return {"server": server.name, **row}


def compare(servers: Sequence[Server], model: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All rounds of all concurrencies, after one warm-up of each; the order within a pair changes every round."""
    for server in servers:
        measure(server, model, options, max(options.concurrency), seed=10**8)
    rows = []
    for number in range(options.rounds):
        for concurrency in options.concurrency:
            for server in servers if number % 2 == 0 else reversed(servers):
                row = measure(server, model, options, concurrency, seed=(number * 1000 + concurrency) * 10**4)
                rows.append({"round": number, **row})
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: medians of both, and the median and range of the ratios within a round."""
    lines = [
        "| c | server | rps | TTFT p50 / p99 ms | ITL p50 / p99 ms | errors | rps ratio (range) | TTFT p50 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for concurrency, of in by_concurrency(rows).items():
        lines += [line(concurrency, name, of) for name in (NATIVE, OURS)]
    return "\n".join(lines)


def by_concurrency(rows: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, list[Mapping[str, Any]]]]:
    """Rows of each server, by how many asked at once."""
    return {
        concurrency: {
            name: [row for row in rows if (row["server"], row["concurrency"]) == (name, concurrency)]
            for name in (NATIVE, OURS)
        }
        for concurrency in sorted({row["concurrency"] for row in rows})
    }


def shortfalls(rows: Sequence[Mapping[str, Any]], least: float) -> list[str]:
    """Where the median ratio of requests per second is below `least`, and where requests to ours failed."""
    found = []
    for concurrency, of in by_concurrency(rows).items():
        ratio = statistics.median(ratios_of(of))
        if ratio < least:
            found.append(f"c={concurrency}: {ratio:.3f} of native, at least {least} is required")
        if errors := sum(row["errors"] for row in of[OURS]):
            found.append(f"c={concurrency}: {errors} requests failed")
    return found


def ratios_of(of: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[float]:
    """Ours to native, of each round."""
    return [mine["rps"] / theirs["rps"] for theirs, mine in zip(of[NATIVE], of[OURS], strict=True)]


def line(concurrency: int, name: str, of: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One row of the table."""
    mid = {key: statistics.median(row[key] for row in of[name]) for key in ("rps", *TIMES)}
    ratio, difference = ("", "") if name == NATIVE else versus(of)
    errors = sum(row["errors"] for row in of[name])
    times = " | ".join(f"{mid[a]:.1f} / {mid[b]:.1f}" for a, b in (TIMES[:2], TIMES[2:]))
    return f"| {concurrency} | {name} | {mid['rps']:.2f} | {times} | {errors} | {ratio} | {difference} |"


TIMES = ("ttft_p50", "ttft_p99", "itl_p50", "itl_p99")


def versus(of: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[str, str]:
    """Ratio of rps and difference of TTFT, taken within each round."""
    ratios = ratios_of(of)
    pairs = zip(of[NATIVE], of[OURS], strict=True)
    later = statistics.median(mine["ttft_p50"] - theirs["ttft_p50"] for theirs, mine in pairs)
    return f"**{statistics.median(ratios):.3f}** ({min(ratios):.3f} to {max(ratios):.3f})", f"{later:+.1f} ms"


def options_of(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_options(parser)
    parser.add_argument("--concurrency", type=lambda text: [int(n) for n in text.split(",")], default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=8, help="per connection and round")
    parser.add_argument("--least", type=int, default=24, help="requests of a round at the least")
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--require", type=float, help="exit with 1 if a ratio is less, or a request of ours failed")
    parser.add_argument("--json", type=Path, help="write every round here")
    parser.add_argument("--logs", type=Path, help="keep both servers' logs here")
    return parser.parse_args(argv)


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """What is served, and by which SGLang: bench/starts.py asks the same."""
    text = "an SGLangEndpoint with a file:// model (default: bench/tiny-cpu.yaml)"
    parser.add_argument("--endpoint", type=Path, default=Path(__file__).with_name("tiny-cpu.yaml"), help=text)
    parser.add_argument("--model-path", help="replaces spec.model.uri: a directory of this machine")
    text = "has SGLang and Ray (default: $SGLANG_ENGINE_PYTHON, else what `make engine` installed)"
    parser.add_argument("--engine-python", type=Path, help=text)


def find_python(options: argparse.Namespace) -> Path:
    """The engine environment's Python; without one the program ends, with the remedy."""
    try:
        return engine_python(options.engine_python)
    except NotLocal as error:
        sys.exit(f"error: {error}")


def read_endpoint(options: argparse.Namespace, scratch: Path) -> Endpoint:
    """The endpoint that `read_manifest` reads, checked and with its defaults."""
    return parse_endpoint(read_manifest(options, scratch))


def read_manifest(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """The endpoint of `--endpoint` with the model of `--model-path`, or one made below `scratch`."""
    manifest: dict[str, Any] = yaml.safe_load(options.endpoint.read_text())
    model = manifest["spec"]["model"]
    path = options.model_path or serving_models.make(model["uri"], options.engine_python, scratch)
    if path:
        model["uri"] = f"file://{Path(path).resolve()}"
    return manifest


def main() -> None:
    """See the module's text."""
    options = options_of()
    options.engine_python = find_python(options)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        endpoint = read_endpoint(options, scratch)
        options.task = endpoint.spec.task
        spec = local_spec(render_endpoint(endpoint), Machine(environ=os.environ))
        logs = options.logs or scratch
        logs.mkdir(parents=True, exist_ok=True)
        say("starting both servers")
        servers = [
            stack.enter_context(native(spec, options.engine_python, logs / NATIVE)),
            stack.enter_context(ours(spec, options.engine_python, logs / OURS)),
        ]
        rows = compare(servers, endpoint.spec.model.served_name, options)
        memory = {server.name: {"rss_mib": server.rss_mib(), "gpu_mib": server.gpu_mib()} for server in servers}
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "memory": memory}, indent=1))
    print(table(rows), f"\nmemory: {json.dumps(memory)}")
    if options.require is not None and (short := shortfalls(rows, options.require)):
        sys.exit("\n".join(short))


if __name__ == "__main__":
    main()
