"""The models of the benchmarks, made in some seconds: no hub, no weights to fetch.

An endpoint file names them by the URIs below; `--model-path` puts any other directory in their place.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
TINY_QWEN2 = HERE.parent / "tests" / "engine" / "models" / "tiny_qwen2.py"
LLAMA8B = HERE / "llama8b.json"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def make(uri: str, python: Path, scratch: Path) -> Path | None:
    """The directory of the model that `uri` means, made below `scratch`; None if it is none of ours."""
    maker = MAKERS.get(uri)
    return maker(python, scratch) if maker else None


def tiny_qwen2(python: Path, scratch: Path) -> Path:
    """The random two-layer model of the engine tests; `python` is the engine environment's."""
    target = scratch / "tiny-qwen2"
    subprocess.run([python, TINY_QWEN2, target], check=True, capture_output=True)
    return target


def llama8b(python: Path, scratch: Path) -> Path:
    """An 8B Llama shape with the tiny model's tokenizer; its weights are random: `load_format: dummy`."""
    target = scratch / "llama8b"
    target.mkdir()
    shutil.copy(LLAMA8B, target / "config.json")
    tokenizer = tiny_qwen2(python, scratch)
    for name in TOKENIZER:
        shutil.copy(tokenizer / name, target / name)
    return target


MAKERS: dict[str, Callable[[Path, Path], Path]] = {
    "file:///made-by-bench/tiny-qwen2": tiny_qwen2,
    "file:///made-by-bench/llama8b": llama8b,
}
