"""Starts one replica after the other, without Ray, and says what came of each. Run by the engine environment's Python.

In, on stdin: a JSON list of ServeArgs. Out: one JSON line for each, {"reason", "message",
"remedy", "left": what is left of it}; "reason" is "" if it started. At SIGABRT it and its children print their stacks.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import psutil

from sglang_serve import args, backoff
from sglang_serve.errors import StartError
from sglang_serve.replica import Replica


async def start(number: int, case: dict[str, Any]) -> dict[str, Any]:
    replica = Replica(args.serve_args(case), f"r{number}", os.environ)
    try:
        await replica.start()
    except StartError as error:
        return {"reason": error.reason, "message": error.message, "remedy": error.remedy}
    replica.stop()
    return {"reason": "", "message": "", "remedy": ""}


def command_line(process: psutil.Process) -> str:
    """ "" if it ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def left(state: Path) -> list[str]:
    processes = [line for child in psutil.Process().children(recursive=True) if (line := command_line(child))]
    files = [str(path.relative_to(state)) for path in state.rglob("*") if path.is_file() and path.name != backoff.FILE]
    return processes + files


def main() -> None:
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # at SIGABRT stacks are wanted, not gigabytes of memory
    state = Path(os.environ[args.ENV_STATE_DIR])
    for number, case in enumerate(json.load(sys.stdin)):
        backoff.note_success(state)  # each is a first try
        result = asyncio.run(start(number, case))
        gc.collect()  # as it comes sooner or later by itself: what a failed engine leaves must not block it
        out.write(json.dumps({**result, "left": left(state)}) + "\n")
    os._exit(0)


if __name__ == "__main__":
    main()
