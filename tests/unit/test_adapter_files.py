"""An adapter that does not fit is refused before the engine sees it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from sglang_serve.adapter_files import CONFIG, NotAnAdapterError, require_fit

LAYER = "model.layers.0.self_attn.q_proj"


def write(directory: Path, **shapes: tuple[int, ...]) -> Path:
    """A directory with a safetensors file that has these tensors' heads; `__` stands for a dot."""
    directory.mkdir(exist_ok=True)
    tensors = {name.replace("__", "."): {"dtype": "F32", "shape": shape} for name, shape in shapes.items()}
    head = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    (directory / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)
    return directory


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "model", **{f"{LAYER}.weight": (32, 64)})


def adapter(
    tmp_path: Path,
    inputs: int = 64,
    outputs: int = 32,
    rank: object = 8,
    *,
    others: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
    config: Mapping[str, object] = MappingProxyType({}),
) -> Path:
    tensors = {f"base_model.model.{LAYER}.lora_A.weight": (8, inputs)}
    tensors |= {f"base_model.model.{LAYER}.lora_B.weight": (outputs, 8), "base_model.model.other.lora_A.weight": (8, 1)}
    made = write(tmp_path / "adapter", **tensors, **others)
    (made / "adapter_config.json").write_text(json.dumps({"r": rank, "lora_alpha": 16, **config}))
    return made


def test_what_fits_passes(model: Path, tmp_path: Path) -> None:
    require_fit(adapter(tmp_path), model, max_rank=8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"inputs": 128}, "made for another model: model.layers.0.self_attn.q_proj has 64 inputs, the adapter's 128"),
        ({"outputs": 64}, "has 32 outputs, the adapter's 64"),
        ({"rank": 16}, "set spec.model.lora.maxRank to 16"),
        ({"rank": None}, "no rank `r`"),
        ({"config": {"lora_alpha": None}}, "no rank `r` and `lora_alpha`"),
    ],
)
def test_what_does_not_fit_is_refused(model: Path, tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(NotAnAdapterError, match=message):
        require_fit(adapter(tmp_path, **wrong), model, max_rank=8)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("model.layers.1.mlp.up_proj.lora_A.weight", (4, 64), "model.layers.1.mlp.up_proj has the rank 4, .* says 8"),
        ("model.layers.1.mlp.up_proj.lora_B.weight", (64, 16), "has the rank 16"),
        ("model.layers.1.mlp.up_proj.lora_A.default.weight", (4, 64), "has the rank 4"),
        ("lm_head.lora_A.weight", (4, 64), "lm_head has the rank 4"),
        ("model.embed_tokens.lora_embedding_B", (64, 4), "model.embed_tokens has the rank 4"),
        (f"{LAYER}.lora_B.bias", (32,), "cannot apply .*lora_B.bias"),
        (f"{LAYER}.base_layer.bias", (32,), "train without bias"),
        (f"{LAYER}.lora_magnitude_vector", (32,), "DoRA"),
        ("model.layers.0.mlp.gate.weight", (8, 64), "modules_to_save"),
    ],
)
def test_what_sglang_cannot_place_is_refused(
    model: Path, tmp_path: Path, name: str, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(NotAnAdapterError, match=message):
        require_fit(adapter(tmp_path, others={f"base_model.model.{name}": shape}), model, max_rank=16)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"r": 16, "use_rslora": True}, "set lora_alpha to 64 and use_rslora to false"),
        ({"use_rslora": True}, "set lora_alpha to 45.2548 and"),
        ({"alpha_pattern": {"q_proj": 32}}, "train without alpha_pattern"),
    ],
)
def test_what_sglang_would_scale_otherwise_is_refused(
    model: Path, tmp_path: Path, config: Mapping[str, object], message: str
) -> None:
    """It loads those, and answers as if they were weaker or stronger."""
    with pytest.raises(NotAnAdapterError, match=message):
        require_fit(adapter(tmp_path, config=config), model, max_rank=16)
    same = {"use_rslora": False, "alpha_pattern": {"q_proj": 16}}
    require_fit(adapter(tmp_path, config=same), model, max_rank=16)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.embed_tokens.lora_embedding_A", (8, 1000)),
        ("model.embed_tokens.weight", (1000, 64)),  # SGLang passes over it
        ("lm_head.lora_B.weight", (1000, 8)),
        ("lm_head.weight", (1000, 64)),
        ("model.layers.1.mlp.up_proj.lora_A.weight", (0, 64)),  # PEFT's for what is not there
        ("model.layers.1.mlp.experts.w1.lora_A.weight", (1, 4, 64)),
        ("visual.blocks.0.attn.qkv.lora_A.weight", (4, 64)),
    ],
)
def test_what_sglang_places_or_passes_over_is_no_reason(
    model: Path, tmp_path: Path, name: str, shape: tuple[int, ...]
) -> None:
    require_fit(adapter(tmp_path, others={f"base_model.model.{name}": shape}), model, max_rank=8)


@pytest.mark.parametrize(
    ("targets", "fits"),
    [(["all"], True), (["q_proj", "up_proj"], True), (["k_proj", "gate_proj"], True), (["q_proj"], False), ([], False)],
)
def test_all_linear_changes_what_is_reserved_alone(model: Path, tmp_path: Path, targets: list[str], fits: bool) -> None:
    """SGLang takes the word for whatever is reserved, and ends at the first request."""
    made = adapter(tmp_path, others={"base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": (8, 64)})
    config = json.loads((made / CONFIG).read_text())
    (made / CONFIG).write_text(json.dumps({**config, "target_modules": "all-linear"}))
    with nullcontext() if fits else pytest.raises(NotAnAdapterError, match=r"gate_up_proj.* is not reserved"):
        require_fit(made, model, 8, targets)
    (made / CONFIG).write_text(json.dumps({**config, "target_modules": ["q_proj", "up_proj"]}))
    require_fit(made, model, 8, targets)  # a list SGLang compares itself


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt"])
def test_weights_that_nobody_looks_into_are_refused(model: Path, tmp_path: Path, name: str) -> None:
    made = adapter(tmp_path)
    (made / "model.safetensors").rename(made / name)
    with pytest.raises(NotAnAdapterError, match="is not looked into: convert it"):
        require_fit(made, model, max_rank=8)


def test_a_packed_model_is_not_compared(tmp_path: Path) -> None:
    model = write(tmp_path / "model", **{f"{LAYER}.weight": (32, 64)})
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes().replace(b"F32", b"U8 ").replace(b'"U8 "', b'"U8" '))
    require_fit(adapter(tmp_path, inputs=128), model, max_rank=8)


def test_files_that_are_no_adapter_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(NotAnAdapterError, match="name the directory of a PEFT adapter"):
        require_fit(model, model, max_rank=8)
    broken = adapter(tmp_path)
    (broken / "model.safetensors").write_bytes(b"12345678901")
    with pytest.raises(NotAnAdapterError, match="cannot be read"):
        require_fit(broken, model, max_rank=8)
