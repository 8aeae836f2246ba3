"""Compares the installed SGLang with what `sglang_serve/sglang_private.py` uses of it. Run by the engine's Python.

Out: one line for each difference. Names, and shapes: parameters, fields, attributes that methods set.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from sglang.srt.constants import HEALTH_CHECK_RID_PREFIX
from sglang.srt.distributed import parallel_state
from sglang.srt.distributed.device_communicators import shm_broadcast
from sglang.srt.entrypoints import http_server
from sglang.srt.entrypoints.engine import Engine, SchedulerInitResult
from sglang.srt.entrypoints.openai.serving_base import OpenAIServingBase
from sglang.srt.lora.lora_registry import LoRARegistry
from sglang.srt.managers import (
    data_parallel_controller,
    detokenizer_manager,
    io_struct,
    load_snapshot,
    mm_utils,
    scheduler,
    tokenizer_control_mixin,
    tokenizer_manager,
)
from sglang.srt.managers.communicator import FanOutCommunicator
from sglang.srt.observability import http_request_metrics
from sglang.srt.server_args import PortArgs, ServerArgs
from sglang.srt.utils import auth, stale_shm_cleanup
from sglang.srt.utils.aio_rwlock import RWLock
from starlette.routing import Match


def missing(what: str, needed: set[str], found: Any) -> Iterator[str]:
    if lacking := needed - set(found):
        yield f"{what} has no {', '.join(sorted(lacking))}"


def parameters(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters)


def fields(cls: type) -> set[str]:
    names = getattr(cls, "__struct_fields__", None)  # msgspec
    return set(names) if names else {field.name for field in dataclasses.fields(cls)}


def differences() -> Iterator[str]:
    yield from missing(
        "http_server", {"app", "set_global_state", "_GlobalState", "lifespan", "_wait_and_warmup"}, dir(http_server)
    )
    state = {"tokenizer_manager", "template_manager", "scheduler_info"}
    yield from missing("http_server._GlobalState", state, fields(http_server._GlobalState))
    yield from missing(
        "http_server._wait_and_warmup", {"server_args", "execute_warmup_func"}, parameters(http_server._wait_and_warmup)
    )
    yield from missing("auth.AuthLevel", {"NORMAL"}, auth.AuthLevel.__members__)
    yield from missing("a function marked for administrators", {"_auth_level"}, vars(http_server.flush_cache))
    yield from engine()
    yield from manager()
    yield from orders()
    yield from shared_memory()
    yield from counted()
    yield from adapters()
    yield from order()


def engine() -> Iterator[str]:
    yield from missing("Engine", {"get_all_child_pids", "shutdown"}, dir(Engine))
    yield from texts(
        "Engine.__init__",
        inspect.getsource(Engine.__init__),
        "self.run_scheduler_process_func",
        "self.run_detokenizer_process_func",
        "self.tokenizer_manager =",
        "self.template_manager =",
        "self._scheduler_init_result =",
        "self.server_args =",
    )
    yield from missing("SchedulerInitResult", {"scheduler_infos"}, fields(SchedulerInitResult))
    for name, function in {
        "run_scheduler_process_func": scheduler.run_scheduler_process,
        "run_detokenizer_process_func": detokenizer_manager.run_detokenizer_process,
    }.items():
        if getattr(Engine, name, None) is not function:
            yield f"Engine.{name} is not {function.__name__}"
    yield from texts("scheduler's process", inspect.getsource(scheduler.run_scheduler_process), "SIGQUIT")
    yield from texts(
        "http_server.lifespan",
        inspect.getsource(http_server.lifespan),
        "is_single_tokenizer_mode",
        "warmup_thread_kwargs",
        ".server_args",
    )
    yield from texts("_wait_and_warmup", inspect.getsource(http_server._wait_and_warmup), "if not execute_warmup_func(")


def manager() -> Iterator[str]:
    cls = tokenizer_manager.TokenizerManager
    yield from missing("TokenizerManager", {"generate_request", "freeze_gc"}, dir(cls))
    yield from missing("TokenizerManager.generate_request", {"obj", "request"}, parameters(cls.generate_request))
    attributes = (
        "rid_to_state",
        "last_receive_tstamp",
        "server_status",
        "is_pause",
        "served_model_name",
        "elastic_worker_count",
    )
    yield from texts("TokenizerManager", inspect.getsource(cls), *(f"self.{name}" for name in attributes))
    update = inspect.getsource(cls.update_weights_from_disk)
    yield from texts("TokenizerManager.update_weights_from_disk", update, "self.model_update_lock.writer_lock")
    yield from texts("RWLock", inspect.getsource(RWLock), "self._writer_active = True")
    yield from texts("TokenizerManager", inspect.getsource(cls), "self.is_generation =")
    yield from missing("ServerStatus", {"Up"}, tokenizer_manager.ServerStatus.__members__)
    needed = {"rid", "input_ids", "sampling_params", "log_metrics"}
    for kind in (io_struct.GenerateReqInput, io_struct.EmbeddingReqInput):
        yield from missing(kind.__name__, needed, fields(kind))
    yield from missing("GenerateReqInput", {"routed_dp_rank"}, fields(io_struct.GenerateReqInput))
    yield from missing("ServerArgs", {"dp_size"}, fields(ServerArgs))
    yield from texts("TokenizerManager", inspect.getsource(cls), "self.load_snapshot_reader =")
    yield from missing("LoadSnapshot", {"timestamp"}, fields(load_snapshot.LoadSnapshot))
    yield from missing("ShmLoadSnapshotReader", {"read_all"}, dir(load_snapshot.ShmLoadSnapshotReader))
    route = inspect.getsource(data_parallel_controller.DataParallelController.dispatch_health_check)
    yield from texts("a health check of data-parallel ranks", route, "maybe_external_dp_rank_routing", "round_robin")
    if not HEALTH_CHECK_RID_PREFIX:
        yield "constants.HEALTH_CHECK_RID_PREFIX is empty"


def orders() -> Iterator[str]:
    """Whether the scheduler owes an answer, and how it takes its leave."""
    control = inspect.getsource(tokenizer_control_mixin)
    yield from texts(
        "TokenizerControlMixin", control, "self.profile_communicator(", "self.update_lora_adapter_communicator("
    )
    communicator = inspect.getsource(FanOutCommunicator)
    yield from texts(
        "FanOutCommunicator", communicator, "self._result_event = asyncio.Event()", "self._result_event.set()"
    )
    for kind in (scheduler, detokenizer_manager):
        yield from texts(kind.__name__, inspect.getsource(kind), " hit an exception: ")


def shared_memory() -> Iterator[str]:
    """Whether all names in /dev/shm begin with what we set, and load reports with the id that we extend."""
    stale_shm_cleanup._SGL_SHM_PREFIX = "sgl_shm-r"
    for module in (mm_utils, parallel_state, shm_broadcast):
        if not module.make_shm_name("kind").startswith("sgl_shm-r_kind_"):
            yield f"{module.__name__} names its shared memory otherwise"
    if not load_snapshot.shm_path_for("r_id").startswith("/dev/shm/sglang_loads_r_id_"):
        yield "load_snapshot.shm_path_for names its file otherwise"
    yield from missing("PortArgs", {"instance_id"}, fields(PortArgs))
    launch = " ".join(inspect.getsource(Engine._launch_subprocesses).split())
    yield from texts("Engine._launch_subprocesses", launch, "cls._launch_scheduler_processes( server_args, port_args,")


def counted() -> Iterator[str]:
    """Whether requests are counted by what we replace, and `metric_labels.py` asks for what is."""
    path_of = http_request_metrics._get_fastapi_request_path
    yield from missing("http_request_metrics._get_fastapi_request_path", {"request"}, parameters(path_of))
    count = inspect.getsource(http_request_metrics.add_http_request_metrics_middleware)
    yield from texts(
        "SGLang's counter of requests", count, "path, is_handled_path = _get_fastapi_request_path(request)"
    )


def adapters() -> Iterator[str]:
    cls = tokenizer_manager.TokenizerManager
    yield from missing("TokenizerManager", {"load_lora_adapter", "unload_lora_adapter"}, dir(cls))
    attributes = ("lora_registry", "lora_ref_cache", "pending_lora_unloads")
    yield from texts("TokenizerManager.init_lora", inspect.getsource(cls.init_lora), *(f"self.{n}" for n in attributes))
    yield from missing("LoRARegistry", {"get_all_adapters", "unregister", "wait_for_unload"}, dir(LoRARegistry))
    wait = inspect.getsource(LoRARegistry.wait_for_unload)
    yield from texts("LoRARegistry.wait_for_unload, the second time", wait, "if counter is None:")
    unload = inspect.getsource(cls._unload_lora_adapter_locked)
    yield from texts("_unload_lora_adapter_locked", unload, "self.pending_lora_unloads.get(obj.lora_name)")
    parse = OpenAIServingBase._parse_model_parameter
    yield from missing("OpenAIServingBase._parse_model_parameter", {"self", "model"}, parameters(parse))
    resolve = inspect.getsource(OpenAIServingBase._resolve_lora_path)
    yield from texts("OpenAIServingBase._resolve_lora_path", resolve, "self._parse_model_parameter(")
    yield from missing("LoadLoRAAdapterReqInput", {"lora_name", "lora_path"}, fields(io_struct.LoadLoRAAdapterReqInput))
    yield from missing("UnloadLoRAAdapterReqInput", {"lora_name"}, fields(io_struct.UnloadLoRAAdapterReqInput))


def order() -> Iterator[str]:
    """Routes of inference may be found first only if no other one answers their paths today."""
    for route in http_server.app.routes:
        path = getattr(route, "path", None) or ""
        is_moved = path == "/generate" or (path.startswith("/v1/") and "{" not in path)
        if is_moved and (first := answering(path, route)) != path:
            yield f"{path} is answered by {first}, see sglang_serve.asgi.find_inference_first"


def answering(path: str, asked: Any) -> str | None:
    """Path of the first route that takes a request of the kind that `asked` is made for."""
    methods = getattr(asked, "methods", None)
    kind = {"type": "http", "method": min(methods)} if methods else {"type": "websocket"}
    scope = {**kind, "path": path, "headers": [], "root_path": "", "app": http_server.app}
    found = next(one for one in http_server.app.routes if one.matches(dict(scope))[0] == Match.FULL)
    return getattr(found, "path", None)


def texts(where: str, source: str, *needed: str) -> Iterator[str]:
    for text in needed:
        if text not in source:
            yield f"{where} does not mention `{text}` any more"


if __name__ == "__main__":
    for difference in differences():
        print("difference:", difference)
