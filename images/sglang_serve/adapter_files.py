"""Whether the files of a LoRA adapter fit the model. SGLang looks at the rank alone, and its scheduler ends at the
first request for an adapter whose weights have other sizes: one wrong address would take every replica down.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

CONFIG = "adapter_config.json"
PREFIX = "base_model.model."
PLAIN = ("F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")  # other types are packed: their shapes are not the layer's
Tensors = Mapping[str, tuple[str, tuple[int, ...]]]  # name -> type and shape


class NotAnAdapterError(Exception):
    """The text says why it cannot be loaded, and what to do."""


def require_fit(adapter: Path, model: Path, max_rank: int) -> None:
    """Raise NotAnAdapterError for what is no adapter, exceeds the rank or was made for another model."""
    try:
        rank = int(json.loads((adapter / CONFIG).read_text(encoding="utf-8"))["r"])
    except OSError as error:
        raise NotAnAdapterError(f"{adapter} has no {CONFIG}: name the directory of a PEFT adapter") from error
    except (ValueError, KeyError, TypeError) as error:
        raise NotAnAdapterError(
            f"{adapter}/{CONFIG} names no rank `r`: name the directory of a LoRA adapter"
        ) from error
    if rank > max_rank:
        raise NotAnAdapterError(f"its rank {rank} is above the reserved one: set spec.model.lora.maxRank to {rank}")
    misfit = next(misfits(tensors(adapter), tensors(model)), None)
    if misfit:
        raise NotAnAdapterError(f"it was made for another model: {misfit}")


def misfits(adapter: Tensors, model: Tensors) -> Iterator[str]:
    """What in an adapter has other sizes than in the model. What the model names otherwise is not compared."""
    for name, (_, shape) in adapter.items():
        module, _, end = name.removeprefix(PREFIX).rpartition(".lora_")
        kind, size = model.get(f"{module}.weight", ("", ()))
        if kind not in PLAIN or len(size) != 2 or len(shape) != 2:  # noqa: PLR2004 - a matrix
            continue
        outputs, inputs = size
        if end == "A.weight" and shape[1] != inputs:
            yield f"{module} has {inputs} inputs, the adapter's {shape[1]}"
        if end == "B.weight" and shape[0] != outputs:
            yield f"{module} has {outputs} outputs, the adapter's {shape[0]}"


def tensors(directory: Path) -> Tensors:
    """What the heads of all safetensors files say; {} where there are none, as for other formats."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for path in sorted(directory.glob("*.safetensors")):
        head = _head(path)
        found |= {name: (one["dtype"], tuple(one["shape"])) for name, one in head.items() if name != "__metadata__"}
    return found


def _head(path: Path) -> dict[str, Any]:
    """https://huggingface.co/docs/safetensors: its length in eight bytes, then JSON."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            return dict(json.loads(file.read(min(length, path.stat().st_size))))
    except (OSError, ValueError, TypeError) as error:
        raise NotAnAdapterError(f"{path} cannot be read: {error}") from error
