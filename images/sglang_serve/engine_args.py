"""From the application's args to SGLang's server arguments and environment."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sglang_serve.args import ServeArgs
from sglang_serve.tasks import architectures, model_args, task_args
from sglang_serve.weights import streams

# CPU only: an engine sizes its cache by free memory, and would take most of a laptop's.
CPU_TOKENS = 65_536  # of the key-value cache, all requests together
CPU_RUNNING_REQUESTS = 64
LORAS_PER_BATCH = 8  # SGLang's default; each is a slot in accelerator memory
# PyTorch from PyPI brings NCCL also where there is no GPU, and SGLang takes it for one. A library that does not exist
# makes ranks talk through gloo.
NO_NCCL = "libnccl-without-a-gpu.so"


@dataclass(frozen=True)
class Place:
    """Where the ranks of one node belong."""

    port: int
    """Nobody listens there; other ports of the engine derive from it."""
    node: int = 0
    """Number of the node among those of the replica; its HTTP server is on the first."""
    rendezvous: str = ""
    """`host:port` on the first node, where the ranks of several nodes find each other."""
    nccl_port: int | None = None
    """Where the ranks of one node do; None: SGLang draws one, and another engine may be faster to bind it."""

    def server_args(self) -> dict[str, Any]:
        """SGLang's arguments for it, by field name."""
        among = {"node_rank": self.node, "dist_init_addr": self.rendezvous} if self.rendezvous else {}
        return {"port": self.port, "nccl_port": self.nccl_port, **among}


def engine_args(args: ServeArgs, model_path: Path, place: Place) -> dict[str, Any]:
    """Keyword arguments of SGLang's ServerArgs. What the user set in spec.engine.args wins over our defaults only.

    Raises StartError when the model cannot do the task.
    """
    found = architectures(model_path)
    return {**_defaults(args), **model_args(found), **args.engine, **_owned(args, model_path, place, found)}


def _defaults(args: ServeArgs) -> dict[str, Any]:
    common: dict[str, Any] = {"log_level": "info"}
    if args.vendor != "cpu":
        return common
    # An idle CPU scheduler would poll, and keep a core busy.
    return common | {
        "sleep_on_idle": True,
        "max_total_tokens": CPU_TOKENS,
        "max_running_requests": CPU_RUNNING_REQUESTS,
    }


def _owned(args: ServeArgs, model_path: Path, place: Place, found: tuple[str, ...]) -> dict[str, Any]:
    """What other fields of the spec, or the way we run the engine, decide."""
    return {
        "model_path": args.model.uri if streams(args.model.uri, args.load_format) else str(model_path),
        "served_model_name": args.model.served_name or args.endpoint,
        "device": "cpu" if args.vendor == "cpu" else "cuda",  # PyTorch's name for AMD's too
        **task_args(args.task, found),
        **args.parallelism.server_args(),
        **_lora(args),
        **place.server_args(),
        **_admin_key(args),
    }


def _lora(args: ServeArgs) -> dict[str, Any]:
    """SGLang counts the base model among the adapters of a batch, so both numbers are one more than the adapters are.

    None is pinned: SGLang pins at most two fewer than a batch has. What is loaded is within the budget, so nothing is
    evicted unless somebody loads more through the admin route.
    """
    if args.lora is None:
        return {}
    batch = args.engine.get("max_loras_per_batch") or min(LORAS_PER_BATCH, args.lora.max_loaded + 1)
    return {
        "enable_lora": True,
        "max_lora_rank": args.lora.max_rank,
        "lora_target_modules": list(args.lora.target_modules),
        "max_loras_per_batch": batch,
        "max_loaded_loras": max(args.lora.max_loaded + 1, batch),
    }


def _admin_key(args: ServeArgs) -> dict[str, str]:
    """SGLang's HiCache routes answer only if there is an admin key. Nobody knows this one: ours is checked before."""
    return {"admin_api_key": secrets.token_hex(32)} if args.admin else {}


def engine_environment(args: ServeArgs, cores: Sequence[int], *, has_compiler: bool = True) -> dict[str, str]:
    """Environment that SGLang reads when it is imported. `cores`: those that this process may use."""
    if args.vendor != "cpu":
        return {}
    environment = {"SGLANG_USE_CPU_ENGINE": "1"}
    if not has_compiler:  # of C++: on a CPU torch.compile, which SGLang uses with two ranks and more, makes C++
        environment["TORCH_COMPILE_DISABLE"] = "1"
    ranks, nodes = args.parallelism.ranks, args.parallelism.node_count
    if ranks > 1:  # otherwise it takes one NUMA node for each rank, and refuses more ranks than nodes
        environment["SGLANG_CPU_OMP_THREADS_BIND"] = "|".join(_shares(ranks // nodes, cores) * nodes)
        environment["SGLANG_NCCL_SO_PATH"] = NO_NCCL
    return environment


def _shares(ranks: int, cores: Sequence[int]) -> list[str]:
    """Each rank's own cores; with more ranks than cores they share."""
    width = max(1, len(cores) // ranks)
    starts = [rank * width % len(cores) for rank in range(ranks)]
    return [",".join(map(str, cores[start : start + width])) for start in starts]


def command_line(arguments: Mapping[str, Any]) -> list[str]:
    """Server arguments by field name as flags of native SGLang: true is a bare flag; false and null, its absence."""
    return [part for name, value in arguments.items() for part in _flag(f"--{name.replace('_', '-')}", value)]


def _flag(flag: str, value: Any) -> list[str]:
    if value is None or value is False:
        return []
    if value is True:
        return [flag]
    if isinstance(value, list):
        return [flag, *map(str, value)]
    return [flag, json.dumps(value) if isinstance(value, dict) else str(value)]
