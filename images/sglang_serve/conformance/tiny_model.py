"""Makes a random two-layer Qwen2 with a byte tokenizer: every step of an engine, in some megabytes, without a hub.

    python -m sglang_serve.conformance.tiny_model DIRECTORY DTYPE

Beside the model, in DIRECTORY-adapters, it has two LoRA adapters, `first` and `second`, and in DIRECTORY-experts a
random two-layer Qwen3 of eight experts.

Its text is nonsense, but the same nonsense each time: the weights are seeded, and their wide initialisation gives clear
winners among the logits, so that greedy decoding does not hang on rounding.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

from sglang_serve.conformance.config import ADAPTER_RANK

CONTEXT = 32_768  # tokens: streams as long as the checks want
HEADS = 8  # so that up to eight ranks divide them
HIDDEN = 64 * HEADS  # 64 is a head size that every attention kernel knows
LAYERS = 2
EXPERTS = 8  # of a layer, so that up to eight ranks divide them; two of them for each token
ADAPTERS = ("first", "second")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


def adapters_of(model: Path) -> Path:
    """Where the adapters of the model in that directory are."""
    return _beside(model, "adapters")


def experts_of(model: Path) -> Path:
    """Where the model with experts is that lies beside the one in that directory."""
    return _beside(model, "experts")


def _beside(model: Path, what: str) -> Path:
    model = model.resolve()
    return model.with_name(f"{model.name}-{what}")


def make(directory: Path, dtype: str) -> None:
    """Write tokenizer, weights and configuration to `directory`; `dtype` as torch names it."""
    from transformers import Qwen2Config, Qwen2ForCausalLM  # noqa: PLC0415 - takes seconds; constants are read elsewhere

    config = Qwen2Config(**_shape(_save_tokenizer(directory)))
    _save_weights(Qwen2ForCausalLM, config, directory, dtype)


def make_experts(directory: Path, dtype: str) -> None:
    """The same with a mixture of experts: which two of them a token gets, the model decides for each layer."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM  # noqa: PLC0415 - as above

    shape = _shape(_save_tokenizer(directory))
    shape |= {"num_experts": EXPERTS, "num_experts_per_tok": 2, "moe_intermediate_size": HIDDEN, "norm_topk_prob": True}
    _save_weights(Qwen3MoeForCausalLM, Qwen3MoeConfig(**shape, head_dim=HIDDEN // HEADS), directory, dtype)


def _shape(vocabulary: int) -> dict[str, Any]:
    """What both models have in common, by the names of transformers."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 3,
        "bos_token_id": None,
    }


def _save_weights(model: type[Any], config: Any, directory: Path, dtype: str) -> None:
    import torch  # noqa: PLC0415 - as above

    torch.manual_seed(0)
    model(config).to(getattr(torch, dtype)).save_pretrained(directory)


def make_adapter(directory: Path, seed: int) -> None:
    """A LoRA adapter of the query and value projections, as PEFT writes it; strong enough to change what is said."""
    import torch  # noqa: PLC0415 - as above
    from safetensors.torch import save_file  # noqa: PLC0415

    modules = ["q_proj", "v_proj"]
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": ADAPTER_RANK, "lora_alpha": 2 * ADAPTER_RANK}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "adapter_config.json").write_text(json.dumps({**config, "target_modules": modules}))
    random, weights = torch.Generator().manual_seed(seed), {}
    for layer, module in itertools.product(range(LAYERS), modules):
        name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
        weights[f"{name}.lora_A.weight"] = torch.randn(ADAPTER_RANK, HIDDEN, generator=random)
        weights[f"{name}.lora_B.weight"] = torch.randn(HIDDEN, ADAPTER_RANK, generator=random)
    save_file(weights, directory / "adapter_model.safetensors")


def _save_tokenizer(directory: Path) -> int:
    """One token per byte and the special ones: any input can be encoded, any token decoded. Returns their number."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(bytes_)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[0],
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
    )
    fast.save_pretrained(directory)
    return len(fast)


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2])
    make_experts(experts_of(Path(sys.argv[1])), sys.argv[2])
    for number, adapter in enumerate(ADAPTERS, start=1):
        make_adapter(adapters_of(Path(sys.argv[1])) / adapter, seed=number)
