"""Makes a random two-layer Qwen2 with a tokenizer and a chat template: every route of the engine, in half a megabyte.

    python tests/engine/models/tiny_qwen2.py DIRECTORY

Run it with the engine environment's Python. The weights are seeded, so the text it generates is nonsense, but the same
nonsense each time. The wide initialisation gives clear winners among the logits: greedy decoding does not hang on
rounding.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

ROOT = Path(__file__).resolve().parents[3]
VOCABULARY = 1024
# Of every tiny Qwen here.
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = """\
{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
{{- '# Tools\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
{{- '\\n</tools>\\nCall one with <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
{%- elif not (tools and loop.first and message.role == 'system') %}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}
{{- '\\n<tool_call>' + (call.function | tojson) + '</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


def make_tokenizer(*words: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the licence text: any input can be encoded, any token decoded. Each of
    `words` is one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*SPECIAL, *words],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train([str(ROOT / "LICENSE")], trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY, "every token that the model can sample must be decodable"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def make_tokenizer_with(tokens: dict[str, str], **more: str) -> PreTrainedTokenizerFast:
    """The same, and behind its own what stands for an image or a sound: `tokens` by their names in transformers."""
    return PreTrainedTokenizerFast(
        tokenizer_object=make_tokenizer().backend_tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        extra_special_tokens=tokens,
        **more,
    )


def make_model(eos: int, pad: int) -> Qwen2ForCausalLM:
    """Two layers, float32; the long context leaves room for streams of minutes."""
    torch.manual_seed(0)
    config = Qwen2Config(
        **SIZES,
        max_position_embeddings=65536,
        tie_word_embeddings=True,
        eos_token_id=eos,
        pad_token_id=pad,
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config).to(torch.float32)


def main() -> None:
    """See the module's text."""
    target = Path(sys.argv[1])
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(target)
    make_model(tokenizer.eos_token_id, tokenizer.pad_token_id).save_pretrained(target)


if __name__ == "__main__":
    main()
