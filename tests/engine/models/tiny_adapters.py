"""Makes three random LoRA adapters: `sql` and `legal` for the model of tiny_qwen2.py, `foreign` for a wider one.

    python tests/engine/models/tiny_adapters.py DIRECTORY

Run it with the engine environment's Python. Their weights are large, so that greedy text differs from the model's own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

LAYERS, RANK = 2, 8
HIDDEN, KEY_VALUE = 64, 32


def weights(seed: int, hidden: int) -> dict[str, torch.Tensor]:
    """Of the query and value projections of every layer."""
    random = torch.Generator().manual_seed(seed)
    made = {}
    for layer in range(LAYERS):
        for module, outputs in (("q_proj", hidden), ("v_proj", KEY_VALUE)):
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            made[f"{name}.lora_A.weight"] = torch.randn(RANK, hidden, generator=random)
            made[f"{name}.lora_B.weight"] = torch.randn(outputs, RANK, generator=random)
    return made


def make(target: Path, seed: int, hidden: int = HIDDEN) -> None:
    """A directory as PEFT writes it."""
    target.mkdir(parents=True)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 2 * RANK}
    config |= {"target_modules": ["q_proj", "v_proj"], "base_model_name_or_path": "tiny"}
    (target / "adapter_config.json").write_text(json.dumps(config))
    save_file(weights(seed, hidden), target / "adapter_model.safetensors")


def main() -> None:
    """See the module's text."""
    target = Path(sys.argv[1])
    make(target / "sql", seed=1)
    make(target / "legal", seed=2)
    make(target / "foreign", seed=3, hidden=2 * HIDDEN)


if __name__ == "__main__":
    main()
