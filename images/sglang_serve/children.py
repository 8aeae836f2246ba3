"""How the processes of an engine begin. Knows nothing of SGLang: what they run is handed in.

A child of multiprocessing imports the modules of all that it is given before it runs anything. This one comes first,
and lets Python look for garbage seldom until the work begins. (The controller of data-parallel ranks is given one of
these functions too, to hand on, and keeps to it.)
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sglang_serve.collector import SELDOM
from sglang_serve.health import end_process_after

ENV_ERRORS: Final = "SGLANG_SERVE_ERRORS"  # directory where the engine's processes write what broke them
ERROR_BYTES: Final = 65_536

_USUAL: Final = gc.get_threshold()
gc.set_threshold(*SELDOM)


def run_detokenizer(native: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """SGLang's detokenizer."""
    gc.set_threshold(*_USUAL)
    native(*args, **kwargs)


def run_scheduler(native: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """SGLang's scheduler. What breaks it SGLang only logs; here it is also kept for the replica to read."""
    gc.set_threshold(*_USUAL)
    path = Path(os.environ[ENV_ERRORS]) / str(os.getpid())
    handler = logging.FileHandler(path, delay=True)
    handler.setLevel(logging.ERROR)
    handler.addFilter(lambda _: not path.exists() or path.stat().st_size < ERROR_BYTES)  # the first error explains all
    logging.getLogger("sglang").addHandler(handler)  # the root's handlers go when SGLang sets up its own log
    end_process_after(native, *args, **kwargs)
