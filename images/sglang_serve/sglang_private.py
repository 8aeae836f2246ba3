"""Every private name of SGLang that this package uses, and no use of one elsewhere.

SGLang has no public way to put its HTTP app over an engine of the caller's (its launch_server does both and then blocks).
`tests/engine/test_sglang_private.py` checks the names and shapes below against the installed SGLang.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sglang.srt.entrypoints import http_server
from sglang.srt.entrypoints.engine import Engine
from sglang.srt.managers.io_struct import EmbeddingReqInput, GenerateReqInput
from sglang.srt.managers.scheduler import run_scheduler_process
from sglang.srt.managers.tokenizer_manager import ServerStatus
from sglang.srt.utils.auth import AuthLevel, _get_auth_level_from_app_and_scope

if TYPE_CHECKING:
    from fastapi import FastAPI

TESTED_VERSIONS = ("0.5.17", "0.5.23")
ENV_ERRORS = "SGLANG_SERVE_ERRORS"  # directory for the tracebacks of the engine's processes


def run_scheduler(*args: Any, **kwargs: Any) -> None:
    """SGLang's scheduler process; what breaks it, and SGLang only logs, is also written where the replica reads it."""
    handler = logging.FileHandler(Path(os.environ[ENV_ERRORS]) / str(os.getpid()), delay=True)
    handler.setLevel(logging.ERROR)
    logging.getLogger("sglang").addHandler(handler)  # the root's handlers are replaced when SGLang sets up its log
    run_scheduler_process(*args, **kwargs)


class ReplicaEngine(Engine):  # type: ignore[misc]
    """SGLang's engine with our scheduler entry, which is its documented point of override."""

    run_scheduler_process_func = staticmethod(run_scheduler)


def start_engine(arguments: Mapping[str, Any], errors: Path) -> ReplicaEngine:
    """Start the engine's processes and wait until the model is loaded; takes seconds to many minutes."""
    os.environ[ENV_ERRORS] = str(errors)
    return ReplicaEngine(**arguments)


def native_app(engine: ReplicaEngine) -> FastAPI:
    """SGLang's own app over `engine`, as its launch_server sets it up. Serve runs the lifespan, which builds the rest.

    The app is a global of its module, so there is one per process: a second call raises.
    """
    app = http_server.app
    if getattr(app, "is_single_tokenizer_mode", False):
        raise RuntimeError("SGLang's app of this process already has an engine")
    http_server.set_global_state(
        http_server._GlobalState(
            tokenizer_manager=engine.tokenizer_manager,
            template_manager=engine.template_manager,
            scheduler_info=engine._scheduler_init_result.scheduler_infos[0],
        )
    )
    app.is_single_tokenizer_mode = True
    app.server_args = engine.server_args
    # The lifespan's warm-up would call the engine's own HTTP port, which nobody serves. False: it ends there.
    app.warmup_thread_kwargs = {"server_args": engine.server_args, "execute_warmup_func": lambda _: False}
    return app


def is_admin_route(app: FastAPI, scope: Mapping[str, Any]) -> bool:
    """Whether SGLang marks the route of this request as one for administrators."""
    return bool(_get_auth_level_from_app_and_scope(app, scope) != AuthLevel.NORMAL)


def serves(engine: ReplicaEngine, model: str) -> bool:
    """Whether requests naming `model` mean this engine's model, or one of its adapters."""
    return bool(model == engine.tokenizer_manager.served_model_name)


async def answer_once(engine: ReplicaEngine) -> None:
    """Run one minimal request through all of the engine's processes."""
    rid = f"sglang-serve-{uuid.uuid4().hex}"
    sampling = {"max_new_tokens": 1, "temperature": 0.0}
    kind = GenerateReqInput if engine.tokenizer_manager.is_generation else EmbeddingReqInput
    request = kind(rid=rid, input_ids=[0], sampling_params=sampling, log_metrics=False)
    async for _ in engine.tokenizer_manager.generate_request(request, None):
        pass


def set_ready(engine: ReplicaEngine) -> None:
    """What /health and /ready answer from now on."""
    engine.tokenizer_manager.server_status = ServerStatus.Up


async def freeze_gc(engine: ReplicaEngine) -> None:
    """Take what was allocated up to now out of garbage collection, in all of the engine's processes."""
    await engine.tokenizer_manager.freeze_gc()


def seconds_since_answer(engine: ReplicaEngine) -> float:
    """Since the engine's processes last sent anything."""
    return time.time() - float(engine.tokenizer_manager.last_receive_tstamp)
