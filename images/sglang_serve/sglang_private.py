"""Every private name of SGLang that this package uses, and no use of one elsewhere.

SGLang has no public way to put its HTTP app over a caller's engine: its launch_server does both, and then blocks.
`tests/engine/test_sglang_private.py` checks what is used here against the installed SGLang.
Importing this module imports torch; the environment that SGLang reads has to be set before.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sglang.srt.constants import HEALTH_CHECK_RID_PREFIX
from sglang.srt.entrypoints import http_server
from sglang.srt.entrypoints.engine import Engine as SGLangEngine
from sglang.srt.entrypoints.openai.serving_base import OpenAIServingBase
from sglang.srt.managers.detokenizer_manager import run_detokenizer_process
from sglang.srt.managers.io_struct import (
    EmbeddingReqInput,
    GenerateReqInput,
    LoadLoRAAdapterReqInput,
    UnloadLoRAAdapterReqInput,
)
from sglang.srt.managers.scheduler import run_scheduler_process
from sglang.srt.managers.tokenizer_manager import ServerStatus
from sglang.srt.observability import http_request_metrics
from sglang.srt.utils.auth import AuthLevel

from sglang_serve import children
from sglang_serve.leftovers import ENV_SHARED_NAME

if TYPE_CHECKING:
    from fastapi import FastAPI
    from sglang.srt.managers.communicator import FanOutCommunicator

SHARED_PREFIX = ("sglang.srt.utils.stale_shm_cleanup", "_SGL_SHM_PREFIX")
NO_ROUTE = "no route"  # label of SGLang's series of requests
WARM_UP_TOKENS = 8  # as SGLang's own warm-up: the first comes from prefill, the others from decode


class _Engine(SGLangEngine):  # type: ignore[misc]
    """SGLang's engine with our beginnings of its processes; the attributes are there to be overridden."""

    run_scheduler_process_func = partial(
        children.run_scheduler, partial(children.run_named, SHARED_PREFIX, run_scheduler_process)
    )
    run_detokenizer_process_func = partial(children.run_detokenizer, run_detokenizer_process)

    @classmethod
    def _launch_scheduler_processes(cls, server_args: Any, port_args: Any, *args: Any, **kwargs: Any) -> Any:
        """With the replica's name in that of the ranks' load reports, which lie in /dev/shm."""
        port_args.instance_id = f"{os.environ[ENV_SHARED_NAME]}_{port_args.instance_id}"
        return super()._launch_scheduler_processes(server_args, port_args, *args, **kwargs)


class Engine:
    """A loaded model: SGLang's processes of this node, and on the first node its HTTP app over them."""

    def __init__(self, arguments: Mapping[str, Any], errors: Path) -> None:
        """Start the processes and wait until the model is loaded: seconds to many minutes. Raises what SGLang raises;
        what a child process wrote is then in `errors`."""
        os.environ[children.ENV_ERRORS] = str(errors)
        os.environ["SGLANG_BLOCK_NONZERO_RANK_CHILDREN"] = "0"  # else it would not return on any node but the first
        children.name_shared_memory(SHARED_PREFIX)
        self._engine = _Engine(**arguments)
        self._manager = self._engine.tokenizer_manager
        self._name = arguments["served_model_name"]
        self._adapters: frozenset[str] = frozenset()
        if arguments.get("enable_lora"):
            self._let_adapters_be_models()

    @property
    def pids(self) -> Sequence[int]:
        """Of the processes without which it does not work."""
        return tuple(self._engine.get_all_child_pids())

    def app(self) -> FastAPI:
        """SGLang's own app over this engine, as its launch_server sets it up. Running its lifespan completes it.

        The app is a global of its module, so there is one per process: a second call raises RuntimeError.
        """
        app = http_server.app
        if hasattr(app, "server_args"):
            raise RuntimeError("SGLang's app of this process already belongs to an engine")
        http_server.set_global_state(
            http_server._GlobalState(
                tokenizer_manager=self._manager,
                template_manager=self._engine.template_manager,
                scheduler_info=self._engine._scheduler_init_result.scheduler_infos[0],
            )
        )
        app.is_single_tokenizer_mode = True
        app.server_args = self._engine.server_args
        count_by_route()
        # The lifespan's warm-up calls the engine's own HTTP port, which nobody serves. At False it ends.
        app.warmup_thread_kwargs = {"server_args": app.server_args, "execute_warmup_func": lambda _: False}
        self._manager.server_status = ServerStatus.Up  # our own warm-up is over: /health and /ready say so
        return app

    def serves(self, model: str) -> bool:
        """Whether requests that name `model` mean this engine's model (or `model:adapter`, or an adapter)."""
        names = (self._name, self._manager.served_model_name)  # new weights change SGLang's to their path
        return model.partition(":")[0] in names or self._is_adapter(model)

    def name_adapters(self, names: Collection[str]) -> None:
        """Let these names mean adapters in requests, also while they are not loaded: a request that names one is then
        refused, where it would natively be answered by the bare model."""
        self._adapters = frozenset(names)

    def _let_adapters_be_models(self) -> None:
        """SGLang lists adapters among its models, and then knows `model:adapter` only."""
        native = OpenAIServingBase._parse_model_parameter

        def parse(serving: OpenAIServingBase, model: str) -> tuple[str, str | None]:
            if self._is_adapter(model):
                return self._manager.served_model_name, model
            base, adapter = native(serving, model)
            return base, adapter

        OpenAIServingBase._parse_model_parameter = parse

    def _is_adapter(self, name: str) -> bool:
        return name in self._adapters or name in self._manager.lora_registry.get_all_adapters()

    async def load_adapter(self, name: str, path: Path) -> None:
        """Load a LoRA adapter; requests may name it afterwards. Raises RuntimeError with SGLang's reason."""
        if name in self._manager.pending_lora_unloads:  # some ranks loaded it, others could not
            await self._unload(name)
        said = await self._manager.load_lora_adapter(LoadLoRAAdapterReqInput(lora_name=name, lora_path=str(path)))
        if not said.success:
            raise RuntimeError(said.error_message)

    async def unload_adapter(self, name: str) -> None:
        """Unload a LoRA adapter; returns when the requests that use it are over. Raises RuntimeError."""
        manager = self._manager
        manager.lora_ref_cache.pop(name, None)  # SGLang would load it again for the next request that names it
        if name in manager.lora_registry.get_all_adapters():
            manager.pending_lora_unloads[name] = await manager.lora_registry.unregister(name)
        if name in manager.pending_lora_unloads:
            # SGLang would wait for these under its lora_update_lock, and load no other until a long stream is over.
            await manager.lora_registry.wait_for_unload(manager.pending_lora_unloads[name])
            await self._unload(name)

    async def _unload(self, name: str) -> None:
        said = await self._manager.unload_lora_adapter(UnloadLoRAAdapterReqInput(lora_name=name))
        if not said.success:
            raise RuntimeError(said.error_message)

    async def warm_up(self) -> None:
        """Run a first request of a few tokens on each rank: no client shall wait for kernels to be compiled."""
        await self._run_on_all("warm-up", WARM_UP_TOKENS)

    async def answer(self) -> None:
        """Run one minimal request on each rank; a busy engine drops it, but `last_heard` shows that it lives.

        The name of the request makes it one of SGLang's own health checks: not logged, not measured.
        """
        await self._run_on_all(HEALTH_CHECK_RID_PREFIX, 1)

    async def _run_on_all(self, name: str, tokens: int) -> None:
        """Ranks with requests of their own (copies, groups of the attention) get one each; all others share it."""
        await asyncio.gather(*(self._run(f"{name}_{uuid.uuid4().hex}", tokens, rank) for rank in range(self._ranks)))

    async def _run(self, rid: str, tokens: int, rank: int) -> None:
        kind = GenerateReqInput if self._manager.is_generation else EmbeddingReqInput
        # SGLang cannot send embeddings to a rank of one's choice; what comes at once goes round.
        where = {"routed_dp_rank": rank} if self._ranks > 1 and self._manager.is_generation else {}
        sampling = {"max_new_tokens": tokens, "temperature": 0.0}
        request = kind(rid=rid, input_ids=[0], sampling_params=sampling, log_metrics=False, **where)
        try:
            async for _ in self._manager.generate_request(request, None):
                pass
        finally:
            self._manager.rid_to_state.pop(rid, None)  # of a dropped request nobody else removes it

    @property
    def _ranks(self) -> int:
        """That have requests of their own: copies of the model, or groups of its attention."""
        return int(self._manager.elastic_worker_count)

    @property
    def last_heard(self) -> float:
        """When its processes last sent anything, in seconds of `time.time`: of several copies, which do not wait for
        one another, the one that has been silent for the longest. Groups of the attention go step by step together."""
        heard = float(self._manager.last_receive_tstamp)
        return min(heard, *self._ranks_heard()) if self._engine.server_args.dp_size > 1 else heard

    def _ranks_heard(self) -> Sequence[float]:
        """Each rank's scheduler notes its load, and when it did, while it works. 0 is one that cannot: not counted."""
        loads = self._manager.load_snapshot_reader.read_all()
        return [float(load.timestamp) for load in loads if load.timestamp]

    @property
    def is_paused(self) -> bool:
        """Whether an administrator told it to answer nothing for now."""
        return bool(self._manager.is_pause)

    @property
    def has_order(self) -> bool:
        """Whether its scheduler carries out an order over which it is silent: to take new weights, to load or unload an
        adapter, to begin a profile or to write it down.

        While new weights wait for running requests it is not: these show that the engine lives. Afterwards SGLang lets
        no request in, ours neither.
        """
        orders = (self._manager.update_lora_adapter_communicator, self._manager.profile_communicator)
        return bool(self._manager.model_update_lock._writer_active) or any(_is_awaited(one) for one in orders)

    async def freeze_gc(self) -> None:
        """Take what was allocated up to now out of garbage collection, in all processes."""
        await self._manager.freeze_gc()

    def shutdown(self) -> None:
        """Kill its processes, and every other child of this one; returns when they are gone."""
        self._engine.shutdown()


def count_by_route() -> None:
    """Let SGLang's three series of requests have one label for all paths without a route. Each would get its own, and
    who has no key may ask for as many as there are: they take memory and files until the replica ends."""
    native = http_request_metrics._get_fastapi_request_path

    def path_of(request: Any) -> tuple[str, bool]:
        path, is_route = native(request)
        is_known = is_route or path in {getattr(route, "path", None) for route in request.app.routes}
        return path if is_known else NO_ROUTE, is_route

    http_request_metrics._get_fastapi_request_path = path_of


def _is_awaited(order: FanOutCommunicator[Any]) -> bool:
    """Whether the scheduler owes its answer, also when whoever gave the order has left."""
    return order._result_event is not None and not order._result_event.is_set()


def is_admin_endpoint(endpoint: object) -> bool:
    """Whether SGLang marks this function of a route as one for administrators (its @auth_level)."""
    return getattr(endpoint, "_auth_level", AuthLevel.NORMAL) is not AuthLevel.NORMAL
