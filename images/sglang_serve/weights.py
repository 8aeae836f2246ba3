"""Which files of a model's repository an engine needs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch

FOREIGN = ("*.h5", "*.msgpack", "*.ot", "*.onnx", "*.tflite", "*.mlmodel", "*.pb", "onnx/*", "openvino/*", "coreml/*")
DUPLICATES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "original/*", "consolidated*")  # of safetensors
# What SGLang reads under a load_format that is not for safetensors (or, mistral, for others than usual).
READ = {"pt": "*.pt", "npcache": "*.bin", "gguf": "*.gguf", "mistral": "consolidated*"}
STREAMED = "runai_streamer"  # the load_format under which SGLang reads safetensors from object storage itself
OBJECT_STORAGE = ("s3", "gs")


def streams(uri: str, load_format: str) -> bool:
    """The engine reads the weights from where they are; only what is beside them is downloaded."""
    return load_format == STREAMED and uri.partition("://")[0] in OBJECT_STORAGE


def without_weights(files: Sequence[str]) -> tuple[str, ...]:
    """Those that an engine which streams wants on the disk."""
    weights = (*FOREIGN, *DUPLICATES, "*.safetensors")
    return tuple(name for name in files if not any(fnmatch(name, pattern) for pattern in weights))


def unneeded(files: Sequence[str], load_format: str = "auto") -> tuple[str, ...]:
    """Weights of other frameworks, and second copies of those that are safetensors: half of some downloads.

    `load_format`: that of SGLang, which may ask for what is a second copy otherwise.
    """
    patterns = FOREIGN + (DUPLICATES if _has_sharded_weights(files) else ())
    read = READ.get(load_format, "")
    return tuple(
        name for name in files if not fnmatch(name, read) and any(fnmatch(name, pattern) for pattern in patterns)
    )


def _has_sharded_weights(files: Sequence[str]) -> bool:
    """Whether the repository has weights as `model*.safetensors` at its top."""
    return any(fnmatch(name, "model*.safetensors") and "/" not in name for name in files)
