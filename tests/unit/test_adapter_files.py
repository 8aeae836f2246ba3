"""An adapter that does not fit is refused before the engine sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sglang_serve.adapter_files import NotAnAdapterError, require_fit

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


def adapter(tmp_path: Path, inputs: int = 64, outputs: int = 32, rank: object = 8) -> Path:
    tensors = {f"base_model.model.{LAYER}.lora_A.weight": (8, inputs)}
    tensors |= {f"base_model.model.{LAYER}.lora_B.weight": (outputs, 8), "base_model.model.other.lora_A.weight": (8, 1)}
    made = write(tmp_path / "adapter", **tensors)
    (made / "adapter_config.json").write_text(json.dumps({"r": rank}))
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
    ],
)
def test_what_does_not_fit_is_refused(model: Path, tmp_path: Path, wrong: dict[str, int], message: str) -> None:
    with pytest.raises(NotAnAdapterError, match=message):
        require_fit(adapter(tmp_path, **wrong), model, max_rank=8)


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
