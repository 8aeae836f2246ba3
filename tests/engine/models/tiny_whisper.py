"""Makes a random Whisper of two layers each: sound in, nonsense out, but the same nonsense each time.

python tests/engine/models/tiny_whisper.py DIRECTORY
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from tiny_qwen2 import make_tokenizer
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

CONTROL = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|translate|>", "<|notimestamps|>", "<|0.00|>"]


def main(target: Path) -> None:
    torch.manual_seed(0)
    tokenizer = tokenizer_with_control_tokens()
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=80,
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_target_positions=1024,  # SGLang always asks for 448 tokens, and the prompt comes before them
        init_std=0.2,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.convert_tokens_to_ids("<|startoftranscript|>"),
    )
    model = WhisperForConditionalGeneration(config).eval()
    model.generation_config = GenerationConfig.from_model_config(config)
    model.save_pretrained(target)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer).save_pretrained(target)


def tokenizer_with_control_tokens() -> WhisperTokenizer:
    """The tiny model's vocabulary and Whisper's control tokens behind it."""
    plain = json.loads(make_tokenizer().backend_tokenizer.to_str())["model"]
    merges = [tuple(pair) for pair in plain["merges"]]
    made = WhisperTokenizer(vocab=plain["vocab"], merges=merges, unk_token="<|endoftext|>")
    made.add_special_tokens({"additional_special_tokens": CONTROL})
    return made


if __name__ == "__main__":
    main(Path(sys.argv[1]))
