"""Makes a random two-layer BERT without a head: its first token's state is what a text means.

python tests/engine/models/tiny_encoder.py DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tiny_reranker import SIZES, make_encoder_tokenizer
from transformers import BertConfig, BertModel


def main(target: Path) -> None:
    torch.manual_seed(0)
    make_encoder_tokenizer().save_pretrained(target)
    BertModel(BertConfig(**SIZES)).eval().save_pretrained(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
