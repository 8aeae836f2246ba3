"""Makes a random two-layer Qwen2 that puts texts into one of three classes.

python tests/engine/models/tiny_classifier.py DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tiny_qwen2 import SIZES, make_tokenizer
from transformers import Qwen2Config, Qwen2ForSequenceClassification

LABELS = ("bad", "fair", "good")


def main(target: Path) -> None:
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    config = Qwen2Config(
        **SIZES,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
    )
    model = Qwen2ForSequenceClassification(config).eval()
    # transformers' head has no bias, SGLang's has one and wants to load it.
    model.score.bias = torch.nn.Parameter(torch.zeros(len(LABELS)))
    tokenizer.save_pretrained(target)
    model.save_pretrained(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
