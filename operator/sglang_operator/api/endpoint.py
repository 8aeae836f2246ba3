"""`Endpoint`: one valid, frozen, fully defaulted `SGLangEndpoint`, the value that every later step works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sglang_operator.api.errors import FieldError
from sglang_operator.api.rules_parallelism import tensor
from sglang_operator.api.spec import EndpointSpec
from sglang_operator.api.spec_pods import Resources


@dataclass(frozen=True)
class Endpoint:
    """A valid endpoint. `spec` has every default filled in, also those that follow from other fields.

    `written` has only the defaults that the CRD has, as the API server stores them: what later versions may compute
    differently (tensor, servedName, resources) is absent there, so it is what a revision may be named by.
    """

    name: str
    namespace: str
    uid: str  # "" when it was not read from a cluster
    spec: EndpointSpec
    written: EndpointSpec
    warnings: tuple[FieldError, ...] = ()  # findings that do not refuse the endpoint (engine.argsCheck: Warn)


@dataclass(frozen=True)
class _Share:
    """Host resources that a worker pod asks for: per rank, and once per pod."""

    cpu: int  # cores per rank
    memory_gi: int  # GiB per rank
    shared_memory: str
    ephemeral_storage: str


_ACCELERATOR = _Share(cpu=8, memory_gi=64, shared_memory="16Gi", ephemeral_storage="50Gi")
# A CPU rank of a small model takes 2.2 GB; two cores and 6 GiB leave a laptop usable.
_SHARES: Final = {"nvidia": _ACCELERATOR, "amd": _ACCELERATOR, "cpu": _Share(2, 6, "1Gi", "10Gi")}


def resolve(spec: EndpointSpec) -> EndpointSpec:
    """Fill in the defaults that depend on other fields: servedName, tensor, resources."""
    model = spec.model
    served_name = model.served_name or repository_name(model.uri)
    return spec.model_copy(
        update={
            "model": model.model_copy(update={"served_name": served_name}),
            "parallelism": spec.parallelism.model_copy(update={"tensor": tensor(spec)}),
            "resources": _resolve_resources(spec),
        }
    )


def repository_name(uri: str) -> str:
    """Last part of a model's address: `hf://Qwen/Qwen3-8B` -> `Qwen3-8B`."""
    return uri.rstrip("/").rpartition("/")[2]


def _resolve_resources(spec: EndpointSpec) -> Resources:
    share, count, given = _SHARES[spec.accelerator.vendor], spec.accelerator.count, spec.resources
    defaults = {
        "cpu": str(share.cpu * count),
        "memory": f"{share.memory_gi * count}Gi",
        "shared_memory": share.shared_memory,
        "ephemeral_storage": share.ephemeral_storage,
    }
    return given.model_copy(update={name: getattr(given, name) or default for name, default in defaults.items()})
