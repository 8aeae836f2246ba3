"""Makes a random two-layer BERT that scores pairs of texts: a cross-encoder of a few hundred kilobytes.

python tests/engine/models/tiny_reranker.py DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tiny_qwen2 import VOCABULARY, make_tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

# `position_embedding_type` is read by SGLang; transformers has no such field any more.
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "position_embedding_type": "absolute",
}


def make_encoder_tokenizer() -> PreTrainedTokenizerFast:
    """The tiny model's, with special tokens around a text and between two."""
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A <|im_end|>",
        pair="<|im_start|> $A <|im_end|> $B:1 <|im_end|>:1",
        special_tokens=[(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<|im_start|>", "<|im_end|>")],
    )
    tokenizer.chat_template = None
    return tokenizer


def main(target: Path) -> None:
    torch.manual_seed(0)
    make_encoder_tokenizer().save_pretrained(target)
    BertForSequenceClassification(BertConfig(**SIZES, num_labels=1)).eval().save_pretrained(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
