"""Makes a random two-layer Qwen3 that has a token for "yes" and one for "no", as Qwen3-Reranker has.

python tests/engine/models/tiny_judge.py DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tiny_qwen2 import SIZES, make_tokenizer
from transformers import Qwen3Config, Qwen3ForCausalLM


def main(target: Path) -> None:
    torch.manual_seed(0)
    tokenizer = make_tokenizer("yes", "no")
    config = Qwen3Config(
        **SIZES,
        head_dim=16,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    tokenizer.save_pretrained(target)
    Qwen3ForCausalLM(config).save_pretrained(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
