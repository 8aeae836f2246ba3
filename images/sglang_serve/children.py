"""How the processes of an engine begin. Knows nothing of SGLang: what they run is handed in.

A child of multiprocessing imports the modules of all that it is given before it runs anything. This one comes first,
and lets Python look for garbage seldom until the work begins. (The controller of data-parallel ranks is given one of
these functions too, to hand on, and keeps to it.)
"""

from __future__ import annotations

import gc
import logging
import os
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from sglang_serve.collector import SELDOM
from sglang_serve.health import end_process_after
from sglang_serve.leftovers import ENV_SHARED_NAME, shared_prefix

ENV_ERRORS: Final = "SGLANG_SERVE_ERRORS"  # directory where the engine's processes write what broke them
# What SGLang logs last of a process that ends, with the traceback. Its other errors are about single requests, and have
# what clients sent in them.
END: Final = re.compile(r"\w+ hit an exception: ")

_USUAL: Final = gc.get_threshold()
gc.set_threshold(*SELDOM)


def run_detokenizer(native: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """SGLang's detokenizer."""
    gc.set_threshold(*_USUAL)
    _keep_why_it_ends()
    native(*args, **kwargs)


def run_scheduler(native: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """SGLang's scheduler."""
    gc.set_threshold(*_USUAL)
    _keep_why_it_ends()
    end_process_after(native, *args, **kwargs)


def run_named(place: tuple[str, str], native: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """Run it with names in /dev/shm that say whose they are."""
    name_shared_memory(place)
    native(*args, **kwargs)


def name_shared_memory(place: tuple[str, str]) -> None:
    """Let the engine's names in /dev/shm begin with its replica's. `place`: the module's name, and its global's that
    has what they begin with."""
    module, name = place
    setattr(import_module(module), name, shared_prefix(os.environ[ENV_SHARED_NAME]))


def _keep_why_it_ends() -> None:
    """What breaks this process SGLang only logs; let it also be written for the replica to read."""
    handler = logging.FileHandler(Path(os.environ[ENV_ERRORS]) / str(os.getpid()), delay=True)
    handler.setLevel(logging.ERROR)
    handler.addFilter(lambda record: bool(END.match(record.getMessage())))
    logging.getLogger("sglang").addHandler(handler)  # the root's handlers go when SGLang sets up its own log
