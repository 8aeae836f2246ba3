"""Whether the files of a LoRA adapter fit the model. SGLang looks at the rank of its configuration alone, and its
scheduler ends at the first request for an adapter whose weights have other sizes, or that it cannot place: one wrong
address would take every replica down.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

CONFIG = "adapter_config.json"
PREFIX = "base_model.model."
PLAIN = ("F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")  # other types are packed: their shapes are not the layer's
# What SGLang puts into a layer, and of the rest what it may put beside them.
LAYER = re.compile(r"layers\.\d+\.")
BESIDE = re.compile(r"embed_tokens|lm_head")
PART = re.compile(r"(?P<module>.+)\.lora_(?:embedding_)?(?P<side>[AB])(\.\w+\.weight|\.weight|)")
ALL = "all"  # of the modules that SGLang can
# What SGLang 0.5.23 makes one of (srt/lora/utils.py, get_normalized_target_modules).
FUSED = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj", "gate_proj": "gate_up_proj"} | {
    "up_proj": "gate_up_proj",
    "q_a_proj": "fused_qkv_a_proj_with_mqa",
    "kv_a_proj_with_mqa": "fused_qkv_a_proj_with_mqa",
}
Tensors = Mapping[str, tuple[str, tuple[int, ...]]]  # name -> type and shape


class NotAnAdapterError(Exception):
    """The text says why it cannot be loaded, and what to do."""


def require_fit(adapter: Path, model: Path, max_rank: int, targets: Collection[str] = (ALL,)) -> None:
    """Raise NotAnAdapterError for what is no adapter, exceeds the rank, has what SGLang cannot place or has no room for
    (`targets`: the modules that are reserved), or was made for another model."""
    config, found = _config(adapter), tensors(adapter)
    rank = config["r"]
    if rank > max_rank:
        raise NotAnAdapterError(f"its rank {rank} is above the reserved one: set spec.model.lora.maxRank to {rank}")
    if not found:
        raise NotAnAdapterError(f"{adapter} has no *.safetensors, and a pickle (*.bin) is not looked into: convert it")
    if odd := _other_scale(config) or next(oddities(found, rank), None):
        raise NotAnAdapterError(odd)
    if ALL not in targets and _is_of_all(config) and (more := modules(found) - _families(targets)):
        what = f"it changes {', '.join(sorted(more))}, which is not reserved"
        raise NotAnAdapterError(f"{what}: add it to spec.model.lora.targetModules, or set [{ALL}]")
    if misfit := next(misfits(found, tensors(model)), None):
        raise NotAnAdapterError(f"it was made for another model: {misfit}")


def _config(adapter: Path) -> Mapping[str, Any]:
    """What PEFT wrote of it, with the rank `r` and `lora_alpha` as numbers."""
    try:
        found: dict[str, Any] = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
        return {**found, "r": int(found["r"]), "lora_alpha": float(found["lora_alpha"])}
    except OSError as error:
        raise NotAnAdapterError(f"{adapter} has no {CONFIG}: name the directory of a PEFT adapter") from error
    except (ValueError, KeyError, TypeError) as error:
        what = f"{adapter}/{CONFIG} has no rank `r` and `lora_alpha`: name the directory of a LoRA adapter"
        raise NotAnAdapterError(what) from error


def _other_scale(config: Mapping[str, Any]) -> str:
    """What scales it otherwise than by `lora_alpha / r`, the only scale that SGLang 0.5.23 has (srt/lora/lora.py): it
    would load, and answer as a weaker or stronger adapter than was trained. Rank-stabilised ones, arXiv:2312.03732."""
    if any(alpha != config["lora_alpha"] for alpha in dict(config.get("alpha_pattern") or {}).values()):
        return f"SGLang has one lora_alpha for all of it: train without alpha_pattern, which its {CONFIG} has"
    if not config.get("use_rslora") or config["r"] == 1:
        return ""
    alpha = f"{config['lora_alpha'] * config['r'] ** 0.5:g}"
    what = f"SGLang scales by lora_alpha / r, not by its root as use_rslora in {CONFIG} asks for"
    return f"{what}: there set lora_alpha to {alpha} and use_rslora to false, which is the same"


def _is_of_all(config: Mapping[str, Any]) -> bool:
    """Its `target_modules` is PEFT's word for every layer ("all-linear"), which SGLang takes whatever is reserved."""
    return isinstance(config.get("target_modules"), str)


def modules(adapter: Tensors) -> set[str]:
    """The kinds of modules inside layers that it changes, by the names of what SGLang makes of them."""
    found = (PART.fullmatch(name) for name in adapter if LAYER.search(name))
    return _families(part["module"] for part in found if part)


def _families(names: Iterable[str]) -> set[str]:
    """Of `model.layers.0.self_attn.q_proj`, or of `q_proj` alone: `qkv_proj`."""
    return {FUSED.get(leaf, leaf) for name in names if (leaf := name.rpartition(".")[2])}


def oddities(adapter: Tensors, rank: int) -> Iterator[str]:
    """What in an adapter SGLang cannot place. Of a layer it takes all tensors, in 2-D those of one rank."""
    for name, (_, shape) in adapter.items():
        part = PART.fullmatch(name)
        if not part:
            if LAYER.search(name):
                yield f"SGLang cannot apply {name}: train without bias, modules_to_save and DoRA"
            continue
        is_placed = bool(LAYER.search(name) or BESIDE.search(name))
        is_matrix = len(shape) == 2 and 0 not in shape  # noqa: PLR2004 - PEFT writes empty ones for what is not there
        if is_placed and is_matrix and (own := shape[0 if part["side"] == "A" else 1]) != rank:
            yield f"{part['module']} has the rank {own}, {CONFIG} says {rank}: SGLang has one for all (no rank_pattern)"


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
