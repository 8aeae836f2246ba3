"""The contract between the renderer and the serving image.

`sglang_operator.render` writes these values into `serveConfigV2`, `sglang_serve.server` reads them. It is the one
module that both sides import, so it imports neither ray nor sglang. Nothing secret may enter it: serveConfigV2 is
logged in clear.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

IMPORT_PATH = "sglang_serve.server:build"
DEPLOYMENT = "SGLangServer"
BODY_SECONDS = 600  # without anything of a request that is not whole, until it gets 408
# Five lines of HAProxy's configuration: Ray Serve puts this value after `retry-on` in its defaults section. It also
# sets `option splice-request` there, under which HAProxy 2.8 misses in one of ten cases that a client has gone
# which waits for its first byte, and the engine works on for nobody (docs/adr/0006-no-splice-request.md).
# `option httpclose`: each response ends its connection, so that no client stays on a revision that traffic has left
# (docs/adr/0008-one-request-per-connection.md).
# `option http-buffer-request`: a request goes to a replica when it is whole, and only such a one is sent again to
# another (docs/adr/0013-requests-are-whole-before-they-are-sent.md).
# `timeout http-request`: Ray sets none, so that a connection which brings nothing kept one of HAProxy's 4096 places for
# as long as a silent websocket may, a day. It ends when a request is whole, or fills the buffer: no large body is cut.
# For the rest of that one `sglang_serve.limits` waits, as long for each piece.
HAPROXY_RETRY_ON = "\n".join(
    (
        "conn-failure empty-response",
        "no option splice-request",
        "option httpclose",
        "option http-buffer-request",
        f"timeout http-request {BODY_SECONDS}s",
    )
)
HAPROXY_THREADS = "RAY_SERVE_HAPROXY_NBTHREAD"
MOST_HAPROXY_THREADS = 4  # Ray's default
COMMIT = re.compile(r"[0-9a-f]{40}")  # what a branch or tag of the hub is at a time
SERVE_MIDDLEWARES = "sglang_serve.asgi:serve_middlewares"  # what Ray Serve puts before its own handling of a request

# Where the pod mounts things; the environment carries them so that a laptop can point elsewhere with the same app args.
ENV_KEYS_DIR = "SGLANG_SERVE_KEYS_DIR"  # a directory, one file per key, re-read when it changes
ENV_ADMIN_KEY_FILE = "SGLANG_SERVE_ADMIN_KEY_FILE"
ENV_STATE_DIR = "SGLANG_SERVE_STATE_DIR"  # short path: engine sockets below it must stay under 108 bytes
ENV_MODEL_MIRROR = "SGLANG_SERVE_MODEL_MIRROR"  # <dir>/<org>/<name> is used before the hub is asked
ENV_PVC_ROOT = "SGLANG_SERVE_PVC_ROOT"  # pvc://claim/path is read from <root>/claim/path
ENV_METRICS_PORT = "SGLANG_SERVE_METRICS_PORT"  # of the pod's page of SGLang's series; 0: none
ENV_OBJECTS_DIR = "SGLANG_SERVE_OBJECTS_DIR"  # s3:// and gs:// models are downloaded below it
FRONT_PORT = 8000  # of a pod's HAProxy: where clients' requests come in
DEFAULT_METRICS_PORT = 8081
DEFAULT_STATE_DIR = "/tmp/sglang-serve"  # noqa: S108 - per-replica directories below it are created 0700

Task = Literal["generate", "embed", "rerank", "score", "classify", "transcribe"]
Vendor = Literal["nvidia", "amd", "cpu"]
UnknownModel = Literal["Answer", "NotFound"]


def haproxy_threads(cores: int) -> str:
    """One for two cores, so that none waits for the core on which the engine is. Four on two cores took 2.2 s of
    processor time for 2048 streams of 32 tokens, one takes 1.6 s (docs/performance.md)."""
    return str(max(1, min(MOST_HAPROXY_THREADS, cores // 2)))


@dataclass(frozen=True)
class ModelArgs:
    """Which model, as the user wrote it: `uri`, hub `revision`, name that /v1/models shows."""

    uri: str
    revision: str = "main"
    served_name: str = ""


@dataclass(frozen=True)
class LoraArgs:
    """What the engine reserves for LoRA adapters when it starts."""

    max_rank: int
    target_modules: Sequence[str]  # modules of the model that adapters may change; ["all"]: every one that SGLang can
    max_loaded: int  # adapters at a time


@dataclass(frozen=True)
class AdapterArgs:
    """A LoRA adapter as the user wrote it: `name` in requests, `uri`, hub `revision`."""

    name: str
    uri: str
    revision: str = "main"


@dataclass(frozen=True)
class ParallelArgs:
    """Ranks of one replica along each axis; accelerators of a replica = tensor * pipeline * data.

    What an image of an earlier version does not know is None unless it is used.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    attention_data: int | None = None  # groups inside tensor; adds no accelerator
    expert: int | None = None  # ranks inside tensor that share the experts; adds no accelerator
    nodes: int | None = None  # over which the ranks are spread evenly

    @property
    def ranks(self) -> int:
        """Processes that compute, one for each accelerator."""
        return self.tensor * self.pipeline * self.data

    @property
    def node_count(self) -> int:
        """Nodes of one replica."""
        return self.nodes or 1

    def server_args(self) -> dict[str, int]:
        """SGLang's arguments for it, by field name."""
        sizes = {"tp_size": self.tensor, "pp_size": self.pipeline, "dp_size": self.data}
        more = {"attn_dp_size": self.attention_data, "ep_size": self.expert, "nnodes": self.nodes}
        return sizes | {name: size for name, size in more.items() if size is not None}


@dataclass(frozen=True)
class ServeArgs:
    """The Serve application's `args`: everything whose change must restart the engine, and nothing else."""

    endpoint: str
    model: ModelArgs
    revision: str = ""  # name of the operator's revision, "" when run without a cluster
    task: Task = "generate"
    vendor: Vendor = "cpu"
    parallelism: ParallelArgs = field(default_factory=ParallelArgs)
    engine: Mapping[str, Any] = field(default_factory=dict)  # SGLang server arguments by field name
    require_keys: bool = False  # refuse every request without a key from ENV_KEYS_DIR
    admin: bool = False  # admin routes open to the key in ENV_ADMIN_KEY_FILE; otherwise they answer 403
    drain_seconds: int = 900
    lora: LoraArgs | None = None  # None: no adapters

    @property
    def load_format(self) -> str:
        """SGLang's: which files of the model it reads."""
        return str(self.engine.get("load_format", "auto"))


@dataclass(frozen=True)
class LiveArgs:
    """The deployment's `user_config`: what changes on a running replica (`reconfigure`), without a restart."""

    config_id: str = ""  # reported back by the replica; an in-place change is done when every replica reports it
    unknown_model: UnknownModel = "Answer"
    max_body_bytes: int = 67_108_864
    hold_seconds: int | None = None  # how long a request waits while no replica runs; None: for ever
    adapters: Sequence[AdapterArgs] | None = None  # all that shall be loaded; None: the engine takes none
    model_commit: str | None = None  # what the model's branch was for this revision's first Ray cluster; "": not known


T = TypeVar("T")


def to_wire(value: Any) -> dict[str, Any]:
    """A JSON-ready dict of one of the dataclasses above, in declaration order, without fields that are None: images
    from before such a field do not know it. What the user wrote as null in a mapping stays."""
    fields = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    return {name: _on_wire(part) for name, part in fields.items() if part is not None}


def _on_wire(part: Any) -> Any:
    if isinstance(part, tuple):
        return [_on_wire(one) for one in part]
    return to_wire(part) if dataclasses.is_dataclass(part) else copy.deepcopy(part)


def serve_args(wire: Mapping[str, Any]) -> ServeArgs:
    """Read what `to_wire(ServeArgs)` wrote. Unknown or missing keys raise TypeError: image and renderer disagree."""
    nested = dict(wire)
    nested["model"] = ModelArgs(**nested["model"])
    nested["parallelism"] = ParallelArgs(**nested.get("parallelism", {}))
    if "lora" in nested:
        nested["lora"] = LoraArgs(**nested["lora"])
    return ServeArgs(**nested)


def live_args(wire: Mapping[str, Any] | None) -> LiveArgs:
    """Read what `to_wire(LiveArgs)` wrote; None (no user_config) gives the defaults."""
    nested = dict(wire or {})
    if "adapters" in nested:
        nested["adapters"] = tuple(AdapterArgs(**one) for one in nested["adapters"])
    return LiveArgs(**nested)
