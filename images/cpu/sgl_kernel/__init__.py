"""Stands in for SGLang's compiled kernels (PyPI `sglang-kernel`) where there are none: on a CPU.

SGLang imports names from `sgl_kernel` on every machine, also where it then computes with PyTorch alone, and PyPI has
the package for NVIDIA GPUs only (370 MB that a CPU cannot load). Every name can be imported from here; to call one is
an error that says so. Engines on CPU call none for the models and routes that the tests cover.

Never install this on a GPU image: it would hide the real kernels. Dockerfile.cpu and `make engine` are its only users.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn


def __getattr__(name: str) -> Callable[..., NoReturn]:
    """A function that raises when called, for any public name (PEP 562)."""
    if name.startswith("__"):
        # `import *`, inspect and submodule imports ask for these; a function in their place would break them.
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def missing(*_args: Any, **_kwargs: Any) -> NoReturn:
        raise RuntimeError(
            f"sgl_kernel.{name} is a GPU kernel and this is the CPU image: use spec.accelerator.vendor nvidia or amd"
        )

    return missing
