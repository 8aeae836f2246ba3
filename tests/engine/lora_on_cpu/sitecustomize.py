"""Lets SGLang's LoRA run without an accelerator: put this directory into PYTHONPATH, and use lora_backend torch_native.

The backend asks for page-locked memory, which PyTorch has only beside an accelerator. Python imports this module when
it starts; torch, which takes seconds, is touched only when SGLang's LoRA is about to be imported.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

MAKERS = ("tensor", "zeros", "empty", "arange", "ones", "full")


def unpinned(make: Callable[..., Any]) -> Callable[..., Any]:
    """The same without `pin_memory`."""

    @functools.wraps(make)
    def made(*args: Any, pin_memory: bool = False, **kwargs: Any) -> Any:
        return make(*args, **kwargs)

    return made


class Hook(MetaPathFinder):
    """Finds nothing; it only hears of the import."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Called for each module that is imported for the first time."""
        if name.startswith("sglang.srt.lora.") and self in sys.meta_path:
            sys.meta_path.remove(self)
            import torch  # noqa: PLC0415 - see the module's text

            for maker in MAKERS:
                setattr(torch, maker, unpinned(getattr(torch, maker)))
            torch.Tensor.pin_memory = lambda self, *_, **__: self


sys.meta_path.insert(0, Hook())
