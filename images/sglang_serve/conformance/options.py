"""What the command line says."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from sglang_serve.args import Vendor

EPILOG = """\
examples:
  python -m sglang_serve.conformance                       all checks, with a small random model
  python -m sglang_serve.conformance --quick               one engine start, no comparison with the native server
  python -m sglang_serve.conformance --model hf://Qwen/Qwen3-8B --engine-arg mem_fraction_static=0.8
  docker run --rm --gpus all --shm-size 16g IMAGE python -m sglang_serve.conformance
(AMD, instead of --gpus all: --device /dev/kfd --device /dev/dri and --group-add NUMBER of the groups render and video)

The last lines name the report. It holds versions, hardware and results, and no key, token, prompt or host name.
"""


@dataclass(frozen=True)
class Options:
    """One run."""

    model: str = ""  # a URI of spec.model.uri, or "" to make a small random model
    engine: dict[str, Any] = field(default_factory=dict)  # SGLang server arguments by field name
    vendor: Vendor | None = None  # None: what torch finds
    ranks: int = 0  # of the checks of parallelism; 0: as many accelerators as there are, at most 8
    quick: bool = False  # what one engine start can show
    output: Path = Path("sglang-conformance")
    start_seconds: float = 300


def parse(argv: Sequence[str]) -> Options:
    """Options from the command line; wrong usage ends the program with code 2 and a message that says what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m sglang_serve.conformance",
        description="Check that this serving image works on the accelerators of this machine, and write a report.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_subject(parser.add_argument)
    _add_run(parser.add_argument)
    found = vars(parser.parse_args(argv))
    return Options(engine=dict(found.pop("engine_arg")), **found)


def _add_subject(add: Callable[..., object]) -> None:
    """What is checked."""
    model = "hf://, file:// or a directory (default: a random model)"
    add("--model", default="", type=_model, metavar="URI", help=model)
    argument = "an SGLang server argument by its field name, as in spec.engine.args; repeatable"
    add("--engine-arg", action="append", default=[], type=_engine_arg, metavar="NAME=VALUE", help=argument)
    add("--vendor", choices=get_args(Vendor), help="the accelerator to use (default: what PyTorch finds, else cpu)")
    ranks = "ranks of the checks of parallelism (default: all GPUs, up to 8)"
    add("--ranks", type=int, default=0, metavar="N", help=ranks)


def _add_run(add: Callable[..., object]) -> None:
    """How much of it, how long, and where the result goes."""
    quick = "one engine start: no lost engine, no native comparison, no adapters, no parallelism"
    add("--quick", action="store_true", help=quick)
    output = "where report and logs go (default: %(default)s)"
    add("--output", type=Path, default=Options.output, metavar="DIR", help=output)
    start = "how long one engine may take to start (default: %(default)s)"
    add("--start-seconds", type=float, default=Options.start_seconds, metavar="S", help=start)


def _model(text: str) -> str:
    if not text or "://" in text:
        return text
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"no directory {text!r}: give one, or a URI such as hf://Qwen/Qwen3-8B")
    return f"file://{path.absolute()}"


def _engine_arg(text: str) -> tuple[str, Any]:
    """`name=value`, the value as JSON where it is JSON: numbers, true, null and objects keep their type."""
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE with a field name such as mem_fraction_static")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
