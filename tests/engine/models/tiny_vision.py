"""Makes a random LightOnOCR: a Pixtral encoder of two layers before a Qwen3 of two, which sees an image as 16 tokens.

    python tests/engine/models/tiny_vision.py DIRECTORY

Of the models that read images it is the one that SGLang imports on a CPU and transformers has too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from tiny_qwen2 import make_tokenizer_with
from transformers import (
    LightOnOcrConfig,
    LightOnOcrForConditionalGeneration,
    LightOnOcrProcessor,
    PixtralImageProcessor,
    PixtralVisionConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

SIDE, PATCH, MERGED = 64, 8, 2  # pixels of an image and of a patch; patches of a token, in each direction
IMAGE_TOKENS = {"image_token": "<|image|>", "image_break_token": "<|break|>", "image_end_token": "<|end|>"}
CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}
{{- message.content }}
{%- else %}
{%- for part in message.content %}
{%- if part.type == 'text' %}{{- part.text }}{%- else %}{{- '<|image|>' }}{%- endif %}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 16}


def main(target: Path) -> None:
    torch.manual_seed(0)
    tokenizer = make_tokenizer_with(IMAGE_TOKENS, chat_template=CHAT_TEMPLATE)
    config = LightOnOcrConfig(
        vision_config=PixtralVisionConfig(**SIZES, image_size=SIDE, patch_size=PATCH, hidden_act="silu"),
        text_config=text_config(tokenizer),
        image_token_id=tokenizer.image_token_id,
        spatial_merge_size=MERGED,
        initializer_range=0.2,
    )
    LightOnOcrForConditionalGeneration(config).save_pretrained(target)
    images = PixtralImageProcessor(size={"longest_edge": SIDE}, patch_size=PATCH * MERGED)
    sizes = {"patch_size": PATCH, "spatial_merge_size": MERGED}
    LightOnOcrProcessor(images, tokenizer, **sizes, chat_template=CHAT_TEMPLATE).save_pretrained(target)
    write_as_published(target / "config.json")


def text_config(tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    return Qwen3Config(
        **SIZES,
        vocab_size=len(tokenizer),
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.2,
        rms_norm_eps=1e-5,  # SGLang uses it behind the encoder, whatever is written here
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )


def write_as_published(config: Path) -> None:
    """SGLang spells the architecture otherwise than transformers, and adds random biases unless told that there are
    none."""
    published = {"architectures": ["LightOnOCRForConditionalGeneration"], "multimodal_projector_bias": False}
    config.write_text(json.dumps({**json.loads(config.read_text()), **published}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
