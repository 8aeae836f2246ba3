"""The command line: options, a model, the checks, the report."""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from sglang_serve.conformance import config, machine, report
from sglang_serve.conformance.options import Options, parse
from sglang_serve.conformance.session import Secrets, Session

TINY_ENGINE = {"max_total_tokens": 65_536, "max_running_requests": 64}  # it would fill all memory with its cache
RANDOM = "random two-layer Qwen2 of sglang_serve.conformance"


def main() -> NoReturn:
    """See the package's text."""
    options = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # every `with` is left in order
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sglang-conformance-") as scratch:
        found = run(options, Path(scratch))
    sys.exit(0 if found.passed else 1)


def run(options: Options, scratch: Path) -> report.Report:
    """Run all checks and write the report."""
    began, date = time.monotonic(), datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    here = machine.look()
    if here.lacks and not options.vendor:
        sys.stderr.write(f"{here.lacks}\n")
        sys.exit(2)
    keys = Secrets(scratch)
    session = Session(options, here, subject(options, here, scratch), keys, say)
    session.run()
    found = report.Report(
        date=date,
        seconds=round(time.monotonic() - began, 1),
        model=options.model or RANDOM,
        engine=report.public_arguments(options.engine),
        quick=options.quick,
        machine=here,
        outcomes=tuple(session.outcomes),
    )
    write(found, options.output, (keys.user, keys.admin, keys.added))
    return found


def subject(options: Options, here: machine.Machine, scratch: Path) -> config.Subject:
    """The endpoint under test; without a model of the user's, one is made first."""
    vendor = options.vendor or here.vendor
    model, engine = options.model, dict(options.engine)
    if not model:
        model, engine = f"file://{tiny_model(scratch / 'model', vendor)}", {**TINY_ENGINE, **engine}
    return config.Subject(model=model, vendor=vendor, engine=engine, cores=here.cores)


def tiny_model(directory: Path, vendor: str) -> Path:
    """Made by a process of its own: torch and its memory are gone with it."""
    dtype = "float32" if vendor == "cpu" else "bfloat16"
    say(f"making a random model in {directory}")
    subprocess.run([sys.executable, "-m", "sglang_serve.conformance.tiny_model", directory, dtype], check=True)
    return directory


def write(found: report.Report, output: Path, own_secrets: tuple[str, ...]) -> None:
    """The report into `output` and, as text, on stdout, where `kubectl logs` and `docker run` show it."""
    for name, text in (("report.json", report.to_json(found)), ("report.md", report.to_markdown(found))):
        clean = report.redact(text, os.environ, own_secrets)
        (output / name).write_text(clean, encoding="utf-8")
    sys.stdout.write(f"\n{clean}\n{found.verdict}: {output.absolute()}/report.json, report.md\n")


def say(text: str) -> None:
    """Progress, as it happens."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
