"""Makes a random Qwen3-ASR: an audio encoder of two layers before a Qwen3 of two, which hears a second as 13 tokens.

    python tests/engine/models/tiny_qwen3_asr.py DIRECTORY

SGLang reads the layout of Qwen/Qwen3-ASR-1.7B, transformers that of Qwen/Qwen3-ASR-1.7B-hf: other names of the same
weights. DIRECTORY gets the first, DIRECTORY/hf the second.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_qwen2 import SIZES, make_tokenizer_with
from transformers import (
    PreTrainedTokenizerFast,
    Qwen3ASRConfig,
    Qwen3ASREncoderConfig,
    Qwen3ASRFeatureExtractor,
    Qwen3ASRForConditionalGeneration,
    Qwen3ASRProcessor,
    Qwen3Config,
    WhisperFeatureExtractor,
)

AUDIO_TOKENS = {
    "audio_token": "<|audio_pad|>",
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
}
MELS = 128
CERTAINTY = 1000  # times the logits: SGLang samples, with a temperature of 0.01, and a random model is seldom sure
# Where transformers keeps it, and where it was published.
NAMES = {
    "model.audio_tower.": "thinker.audio_tower.",
    "model.multi_modal_projector.linear_1.": "thinker.audio_tower.proj1.",
    "model.multi_modal_projector.linear_2.": "thinker.audio_tower.proj2.",
    "model.language_model.": "thinker.model.",
    "lm_head.": "thinker.lm_head.",
}


def main(target: Path) -> None:
    torch.manual_seed(0)
    tokenizer = make_tokenizer_with(AUDIO_TOKENS)
    model = Qwen3ASRForConditionalGeneration(make_config(tokenizer)).to(torch.float32)
    with torch.no_grad():
        model.model.language_model.norm.weight.mul_(CERTAINTY)
    model.save_pretrained(target / "hf")
    Qwen3ASRProcessor(Qwen3ASRFeatureExtractor(feature_size=MELS), tokenizer).save_pretrained(target / "hf")
    save_as_published(model, target)
    tokenizer.save_pretrained(target)
    WhisperFeatureExtractor(feature_size=MELS).save_pretrained(target)


def make_config(tokenizer: PreTrainedTokenizerFast) -> Qwen3ASRConfig:
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return Qwen3ASRConfig(
        audio_config=Qwen3ASREncoderConfig(
            num_mel_bins=MELS,
            encoder_layers=2,
            encoder_attention_heads=4,
            encoder_ffn_dim=128,
            d_model=64,
            output_dim=SIZES["hidden_size"],
            downsample_hidden_size=16,
            initializer_range=0.2,
        ),
        text_config=Qwen3Config(
            **{**SIZES, "vocab_size": len(tokenizer)},
            head_dim=16,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            bos_token_id=None,
            **ids,
        ),
        audio_token_id=tokenizer.audio_token_id,
        initializer_range=0.2,
        **ids,
    )


def save_as_published(model: Qwen3ASRForConditionalGeneration, target: Path) -> None:
    weights = {published(name): weight.contiguous() for name, weight in model.state_dict().items()}
    weights.pop("thinker.lm_head.weight")  # the embedding's
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    both = model.config.to_dict()
    parts = {part: both[part] for part in ("audio_config", "text_config", "audio_token_id")}
    thinker = {**parts, "model_type": "qwen3_asr_thinker", "dtype": "float32"}
    config = {"architectures": both["architectures"], "model_type": "qwen3_asr", "thinker_config": thinker}
    (target / "config.json").write_text(json.dumps(config, indent=1))


def published(name: str) -> str:
    (found,) = (name.replace(ours, theirs, 1) for ours, theirs in NAMES.items() if name.startswith(ours))
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
