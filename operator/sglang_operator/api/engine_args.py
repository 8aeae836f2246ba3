"""Checks `spec.engine.args` offline against the server arguments of the pinned SGLang.

`engine_args.json` beside this file is written by hack/engine_args.py from SGLang itself and read only when there are
arguments to check.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from sglang_operator.api import engine_ranges
from sglang_operator.api.errors import IN_QUOTES, FieldError, show
from sglang_operator.api.findings import closest, path_of
from sglang_operator.api.other_tools import VLLM_ARGUMENTS
from sglang_operator.api.secrets import is_secret

_HALF: Final = "leave it out: an endpoint is a whole server, and prefill, decode and encoder are not split"
_NOT_SERVED: Final = "leave it out: Ray Serve is the HTTP server of a replica"
_NODES: Final = "use spec.parallelism.nodes: the ranks of a replica find each other"
_TLS: Final = "use spec.api.ingress.tls: TLS ends at the ingress or gateway"

# Arguments that the platform sets or that would break what it promises, and what to do instead.
PLATFORM_OWNED: Final[Mapping[str, str]] = {
    "admin_api_key": "use spec.api.adminKeySecret",
    "api_key": "use spec.api.keysSecret",
    "attn_dp_size": "use spec.parallelism.attentionData",
    "base_gpu_id": "leave it out: a pod sees its own accelerators only",
    "custom_sigquit_handler": "leave it out: the replica ends and replaces its engine itself",
    "device": "use spec.accelerator.vendor",
    "disaggregation_mode": _HALF,
    "dist_init_addr": _NODES,
    "download_dir": "use spec.model.cache",
    "dp_size": "use spec.parallelism.data",
    "enable_dp_attention": "use spec.parallelism.attentionData",
    "enable_http2": _NOT_SERVED,
    "enable_http_worker_reuseport": _NOT_SERVED,
    "enable_ssl_refresh": _TLS,
    "encoder_only": _HALF,
    "ep_size": "use spec.parallelism.expert",
    "fastapi_root_path": _NOT_SERVED,
    "gpu_id_step": "leave it out: a pod sees its own accelerators only",
    "grpc_mode": _NOT_SERVED,
    "grpc_port": _NOT_SERVED,
    "grpc_response_timeout_secs": _NOT_SERVED,
    "grpc_worker_threads": _NOT_SERVED,
    "host": "leave it out; how the endpoint is reached is spec.api.service",
    "http2_initial_connection_window_size": _NOT_SERVED,
    "http2_max_concurrent_streams": _NOT_SERVED,
    "is_embedding": "use spec.task",
    "log_level_http": _NOT_SERVED,
    "model_path": "use spec.model.uri",
    "nccl_port": _NODES,
    "nnodes": _NODES,
    "node_rank": _NODES,
    "port": "use spec.api.service.port",
    "pp_size": "use spec.parallelism.pipeline",
    "revision": "use spec.model.revision",
    "served_model_name": "use spec.model.servedName",
    "sidecar": _NOT_SERVED,
    "sidecar_args": _NOT_SERVED,
    "skip_server_warmup": "leave it out: a replica warms up before it is Ready",
    "smg_grpc_mode": _NOT_SERVED,
    "smg_http_sidecar_port": _NOT_SERVED,
    "ssl_ca_certs": _TLS,
    "ssl_certfile": _TLS,
    "ssl_keyfile": _TLS,
    "ssl_keyfile_password": _TLS,
    "stat_loggers": "leave it out: it takes Python classes, which YAML cannot hold",
    "tokenizer_worker_num": "use spec.replicas: a replica has one tokenizer process",
    "tp_size": "use spec.parallelism.tensor",
    "use_ray": "leave it out: the platform decides how ranks are started",
    "uvicorn_access_log_exclude_prefixes": _NOT_SERVED,
}
# Also its own where spec.model.lora is set.
LORA_OWNED: Final[Mapping[str, str]] = {
    "enable_lora": "leave it out: spec.model.lora says so",
    "lora_paths": "use spec.model.adapters",
    "lora_target_modules": "use spec.model.lora.targetModules",
    "max_loaded_loras": "use spec.model.lora.maxLoaded",
    "max_lora_rank": "use spec.model.lora.maxRank",
}
# What SGLang's command line takes for the longer name.
_ABBREVIATED: Final[Mapping[str, str]] = {"dp": "dp_size", "pp": "pp_size", "tp": "tp_size"}
_HUB: Final = "hf://"
_BOOLS: Final = ("true", "false", "True", "False")
_SECRET: Final = frozenset({"admin_api_key", "api_key", "ssl_keyfile_password"})  # values that no message repeats

# How each kind of the table is recognised, and called in messages.
_KINDS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "int": (lambda value: isinstance(value, int) and not isinstance(value, bool), "a whole number"),
    "float": (lambda value: isinstance(value, int | float) and not isinstance(value, bool), "a number"),
    "str": (lambda value: isinstance(value, str), "text"),
    "dict": (lambda value: isinstance(value, dict), "a mapping"),
}


@dataclass(frozen=True)
class Argument:
    """One server argument of SGLang, as the table has it."""

    type: str  # kinds joined by |: bool, int, float, str, dict, list[kind]; "" if only Python can make a value
    help: str
    nullable: bool = False
    choices: tuple[Any, ...] = ()
    aliases: tuple[str, ...] = ()  # SGLang's other spellings on its command line
    default: Any = None


@dataclass(frozen=True)
class Table:
    """The server arguments of one version of SGLang."""

    sglang: str
    arguments: Mapping[str, Argument]


@cache
def table() -> Table:
    """The committed table of the pinned SGLang."""
    raw = json.loads(Path(__file__).with_name("engine_args.json").read_text(encoding="utf-8"))
    return Table(raw["sglang"], {name: Argument(**row) for name, row in raw["args"].items()})


def owned_args(args: Mapping[str, Any], *, lora: bool = False) -> tuple[FieldError, ...]:
    """The arguments that the platform owns, under whichever of their names they come. `lora`: spec.model has it."""
    owned = {**PLATFORM_OWNED, **LORA_OWNED} if lora else PLATFORM_OWNED
    return tuple(
        _finding(name, None if owner in _SECRET else value, "is set by the platform", owned[owner])
        for name, value in args.items()
        if (owner := canonical(name)) in owned
    )


def doubtful_args(args: Mapping[str, Any]) -> tuple[FieldError, ...]:
    """The arguments that the pinned SGLang does not know, or whose value it does not take."""
    return tuple(_doubts({name: value for name, value in args.items() if canonical(name) not in PLATFORM_OWNED}))


def _doubts(args: Mapping[str, Any]) -> Iterator[FieldError]:
    for name, value in args.items():
        argument = table().arguments.get(name)
        if argument is None:
            shown = None if is_secret(name, value) else value
            yield _finding(name, shown, f"SGLang {table().sglang} has no such argument", suggest(name))
        elif not _takes(argument, value):
            yield _finding(name, value, f"must be {type_words(argument)}", _explain(argument, value))
        elif wrong := _not_a_choice(argument, value):
            yield _finding(name, wrong[0], "is none of the values that SGLang takes", _offer(argument, wrong[0]))
        elif isinstance(value, str) and value.startswith(_HUB):  # as spec.model.uri has it
            yield _finding(name, value, f"SGLang knows no {_HUB} addresses", f"write {value.removeprefix(_HUB)}")
        elif outside := engine_ranges.refused(name, value):
            yield _finding(name, value, *outside)


def _finding(name: str, value: Any, message: str, remedy: str) -> FieldError:
    return FieldError(path_of(("spec", "engine", "args", name)), value, message, remedy)


def canonical(name: str) -> str:
    """The field name behind any spelling: `--tensor-parallel-size` -> `tp_size`. Unknown names are returned plain."""
    plain = name.removeprefix("--").replace("-", "_")
    plain = _ABBREVIATED.get(plain, plain)
    if plain in PLATFORM_OWNED or plain in table().arguments:
        return plain
    return next((known for known, argument in table().arguments.items() if plain in argument.aliases), plain)


def suggest(name: str) -> str:
    """The remedy for a name that SGLang does not have."""
    known = canonical(name)
    if known in VLLM_ARGUMENTS:
        return VLLM_ARGUMENTS[known]
    meant = known if known in table().arguments else closest(name, table().arguments)
    if meant:
        return f"did you mean {meant}?"
    return "`kubectl sglang args` lists all; an image with another SGLang needs spec.engine.argsCheck: Warn"


def _takes(argument: Argument, value: Any) -> bool:
    return (value is None and argument.nullable) or any(_is(kind, value) for kind in argument.type.split("|"))


def _is(kind: str, value: Any) -> bool:
    if kind.startswith("list["):
        return isinstance(value, list) and all(_is(kind[5:-1], item) for item in value)
    return kind in _KINDS and _KINDS[kind][0](value)


def type_words(argument: Argument) -> str:
    """Its type in plain words: `a whole number or text`; "" if YAML cannot hold its value."""
    return " or ".join(map(_word, filter(None, argument.type.split("|"))))


def _word(kind: str) -> str:
    return f"a list, each entry {_word(kind[5:-1])}" if kind.startswith("list[") else _KINDS[kind][1]


def _explain(argument: Argument, value: Any) -> str:
    if argument.type == "str" and isinstance(value, int | float):
        return IN_QUOTES
    if isinstance(value, str) and (_is_plain_number(value) or (value in _BOOLS and "bool" in argument.type)):
        return "remove the quotes"
    default = "" if argument.default is None else f" Default {show(argument.default)}."
    return f"SGLang's help: {argument.help}{default}"


def _is_plain_number(text: str) -> bool:
    return text.replace(".", "", 1).removeprefix("-").isdecimal()


def _not_a_choice(argument: Argument, value: Any) -> list[Any]:
    """The values that are not among the argument's choices; empty when all are, or when it has none."""
    values = value if isinstance(value, list) else [value]
    return [one for one in values if argument.choices and one is not None and one not in argument.choices]


def _offer(argument: Argument, value: Any) -> str:
    """The value that was meant; beside the others, unless it is clear."""
    found, choices = str(value), list(map(str, argument.choices))
    every = f"one of: {', '.join(choices)}"
    if begin_so := [choice for choice in choices if choice.startswith(found)]:
        return f"did you mean {' or '.join(map(show, begin_so))}?"
    meant = closest(found, choices)
    if not meant:
        return f"use {every}"
    return f"did you mean {show(meant)}?" + ("" if _letters(meant) == _letters(found) else f" Or {every}")


def _letters(word: str) -> str:
    return word.replace("_", "").replace("-", "").lower()
