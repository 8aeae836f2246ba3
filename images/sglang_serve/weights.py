"""Which files of a model's repository an engine needs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch

FOREIGN = ("*.h5", "*.msgpack", "*.ot", "*.onnx", "*.tflite", "*.mlmodel", "*.pb", "onnx/*", "openvino/*", "coreml/*")
DUPLICATES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "original/*", "consolidated*")  # of safetensors


def unneeded(files: Sequence[str]) -> tuple[str, ...]:
    """Weights of other frameworks, and second copies of those that are safetensors: half of some downloads."""
    patterns = FOREIGN + (DUPLICATES if _has_sharded_weights(files) else ())
    return tuple(name for name in files if any(fnmatch(name, pattern) for pattern in patterns))


def _has_sharded_weights(files: Sequence[str]) -> bool:
    """Whether the repository has weights as `model*.safetensors` at its top."""
    return any(fnmatch(name, "model*.safetensors") and "/" not in name for name in files)


class Bytes(int):
    """A number of bytes that prints for people."""

    def __str__(self) -> str:
        value, unit = float(self), "B"
        for larger in ("KiB", "MiB", "GiB", "TiB"):
            if value < 1024:  # noqa: PLR2004
                break
            value, unit = value / 1024, larger
        return f"{value:.1f} {unit}" if unit != "B" else f"{int(self)} B"
