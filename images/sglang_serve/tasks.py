"""What `spec.task` starts the engine with. The table in docs/how-to/tasks.md is checked against this one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sglang_serve.args import Task
from sglang_serve.errors import StartError

CLASSIFIER = ("ForSequenceClassification", "ForSequenceClassificationWithNormal_Weights", "ForRewardModel")
# Those whose two texts go through the encoder together; they keep no cache of prefixes.
ENCODERS = ("BertForSequenceClassification", "BertModel", "RobertaForSequenceClassification", "RobertaModel")
ENCODER_TOKENS = 8192  # the longest text of bge-reranker-v2-m3; SGLang's default would reserve 24 GB
SPEECH = ("Whisper", "ASR", "Speech", "Audio")


def architectures(model: Path) -> tuple[str, ...]:
    """What config.json says the model is; () when there is none, as for formats that only the engine can read."""
    try:
        said = json.loads((model / "config.json").read_text(encoding="utf-8"))
        return tuple(said.get("architectures") or ())
    except (OSError, ValueError, AttributeError):
        return ()


def task_args(task: Task, found: tuple[str, ...]) -> dict[str, Any]:
    """Server arguments that the task decides, for a model of these architectures. Raises StartError if it cannot."""
    require_fit(task, found)
    return {"is_embedding": is_embedding(task, found)}


def model_args(found: tuple[str, ...]) -> dict[str, Any]:
    """Server arguments that fit the architecture. An encoder reads a text as a whole: no part of it can be kept for
    another text, or read later. SGLang then reserves 1.5 MB for each token that it may read at once."""
    if not found or not all(name.endswith(ENCODERS) for name in found):
        return {}
    return {"disable_radix_cache": True, "chunked_prefill_size": -1, "max_prefill_tokens": ENCODER_TOKENS}


def is_embedding(task: Task, found: tuple[str, ...]) -> bool:
    """Whether the engine pools instead of generating.

    A reranker is a cross-encoder, or a generating model that is asked for yes or no (Qwen3-Reranker). SGLang scores
    with generating models and with classifiers, and knows the latter by itself.
    """
    if task == "rerank":
        return not any(name.endswith(("ForCausalLM", "ForConditionalGeneration")) for name in found)
    return task in ("embed", "classify")


def require_fit(task: Task, found: tuple[str, ...]) -> None:
    """Raise StartError for a model that cannot do the task; unknown architectures are left to the engine."""
    if not found:
        return
    name = found[0]
    if task == "classify" and not name.endswith(CLASSIFIER):
        raise _unfit(task, name, "a model for sequence classification")
    if task == "transcribe" and not any(part in name for part in SPEECH):
        raise _unfit(task, name, "a speech recognition model such as Whisper")


def _unfit(task: Task, name: str, remedy: str) -> StartError:
    return StartError("UnsupportedArchitecture", f"{name} cannot do spec.task {task}", f"use {remedy}")
