"""What depends on engine arguments and other fields together: refused where SGLang would end, else a warning.

Checked by operator and CLI alone: the CRD has no schema for the values of engine arguments, and CEL's own functions do
not know what a quantity is worth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sglang_operator.api.environment import overridden
from sglang_operator.api.errors import FieldError
from sglang_operator.api.mounts import unmounted
from sglang_operator.api.quantity import digits_of, number
from sglang_operator.api.replaced import replaced
from sglang_operator.api.spec import EndpointSpec

INGRESS_CLASS: Final = "kubernetes.io/ingress.class"
LEAST_BYTES: Final = 64 * 2**20  # neither Ray alone nor any model fits into less: a unit is missing


def refused(spec: EndpointSpec) -> tuple[FieldError, ...]:
    """Combinations that SGLang 0.5.23 ends at."""
    return tuple(_refused(spec))


def hopeless(spec: EndpointSpec) -> tuple[FieldError, ...]:
    """What no image makes work, whatever its SGLang."""
    return (*_not_served(spec), *_too_small(spec))


def advised(spec: EndpointSpec) -> tuple[FieldError, ...]:
    """What works, and otherwise than its user may expect. `spec` has its computed defaults."""
    return (
        *_adapters_on_cpu(spec),
        *_slow_nodes(spec),
        *_large_shared_memory(spec),
        *_addresses_of_nodes(spec),
        *_two_classes(spec),
        *replaced(spec),
        *unmounted(spec),
        *overridden(spec),
    )


def _two_classes(spec: EndpointSpec) -> Iterator[FieldError]:
    """Refused of an Ingress that is new (ValidateIngressCreate), and taken of one that is there."""
    ingress = spec.api.ingress
    named = ingress.annotations.get(INGRESS_CLASS) if ingress else None
    if ingress and ingress.class_name and named and named != ingress.class_name:
        message = f"is another class than annotation {INGRESS_CLASS} names: no API server makes such an Ingress"
        remedy = "keep className alone: the annotation is the old way to say it"
        yield FieldError("spec.api.ingress.className", ingress.class_name, message, remedy)


def _not_served(spec: EndpointSpec) -> Iterator[FieldError]:
    for name in ("load_format", "quantization"):
        value = spec.engine.args.get(name)
        if isinstance(value, str) and value.lower() == "gguf":
            # SGLang wants the path of one file there, and a model is a directory here.
            yield _finding(
                name, value, "GGUF is not served yet", "use the repository that has the model as safetensors"
            )


def _too_small(spec: EndpointSpec) -> Iterator[FieldError]:
    cache = spec.model.cache
    sizes = {
        "resources.memory": spec.resources.memory,
        "resources.ephemeralStorage": spec.resources.ephemeral_storage,
        "resources.sharedMemory": spec.resources.shared_memory,
        "head.memory": spec.head.memory,
        "model.cache.size": cache.size if cache else None,
    }
    for path, size in sizes.items():
        if size is not None and number(size) < LEAST_BYTES:
            yield FieldError(f"spec.{path}", size, "is less than 64Mi", f"did you mean {digits_of(size)}Gi?")


def _large_shared_memory(spec: EndpointSpec) -> Iterator[FieldError]:
    """Pages of /dev/shm count as memory of the pod: its size is no limit where the pod's is lower."""
    shared, memory = spec.resources.shared_memory, spec.resources.memory
    if number(shared) >= number(memory):
        message = (
            f"shared memory of the size of the pod's memory ({memory}) or more: using it ends the pod with OOMKilled"
        )
        yield FieldError("spec.resources.sharedMemory", shared, message, "set it to less, or raise resources.memory")


def _refused(spec: EndpointSpec) -> Iterator[FieldError]:
    args, parallelism = spec.engine.args, spec.parallelism
    # managers/tokenizer_control_mixin.py asserts it at the first adapter, not at the start.
    if parallelism.data > 1 and args.get("enable_lora") and not args.get("lora_paths"):
        message = "SGLang loads no adapter at run time into copies of a model (parallelism.data)"
        yield _finding("enable_lora", True, message, "use spec.replicas for copies, or name the adapters in lora_paths")
    algorithm = args.get("speculative_algorithm")
    # arg_groups/validation_hook.py: check_pipeline_parallel_compat
    if parallelism.pipeline > 1 and isinstance(algorithm, str) and algorithm.upper() != "EAGLE":
        message = "over pipeline stages SGLang speculates with EAGLE only"
        yield _finding("speculative_algorithm", algorithm, message, "use EAGLE, or parallelism.tensor for pipeline")


def _finding(name: str, value: Any, message: str, remedy: str) -> FieldError:
    return FieldError(f"spec.engine.args.{name}", value, message, remedy)


def _adapters_on_cpu(spec: EndpointSpec) -> Iterator[FieldError]:
    if spec.model.lora and spec.accelerator.vendor == "cpu":
        message = (
            "the engine does not start: SGLang's LoRA asks for page-locked memory, which PyTorch has only beside an "
            "accelerator"
        )
        yield FieldError("spec.model.lora", None, message, "use vendor nvidia or amd, or remove lora and adapters")


def _slow_nodes(spec: EndpointSpec) -> Iterator[FieldError]:
    nodes, pipeline = spec.parallelism.nodes, spec.parallelism.pipeline
    if nodes == 1 or spec.accelerator.vendor == "cpu" or spec.network.rdma:
        return
    if pipeline >= nodes:
        message = f"without RDMA the {pipeline} stages on {nodes} nodes hand each token over by TCP"
        yield FieldError("spec.network.rdma", None, message, "request the nodes' RDMA devices, if they have any")
        return
    message = (
        f"without RDMA the ranks on {nodes} nodes exchange every layer of every token by TCP, several times slower"
    )
    remedy = (
        f"request the nodes' RDMA devices, or set parallelism.pipeline: {nodes}, which crosses nodes once per token"
    )
    yield FieldError("spec.network.rdma", None, message, remedy)


def _addresses_of_nodes(spec: EndpointSpec) -> Iterator[FieldError]:
    """What a pod on its node's network sends carries the node's address, which no podSelector of a policy matches.
    Where head and workers are all there, no policy holds for any of them."""
    patches = {"head": spec.pod_template.head, "worker": spec.pod_template.worker}
    on_host = [part for part, patch in patches.items() if _is_on_host(patch)]
    if len(on_host) != 1:
        return
    (part,) = on_host
    other = "worker" if part == "head" else "head"
    message = (
        f"the {part}'s traffic carries its node's address, which the endpoint's NetworkPolicy does not admit: where "
        f"policies are enforced, it reaches no {other} on another node"
    )
    remedy = (
        "add a NetworkPolicy of yours that admits the CIDR of the nodes, on all ports, to the pods with the endpoint's "
        "label serve.sglang.io/endpoint"
    )
    yield FieldError(f"spec.podTemplate.{part}.spec.hostNetwork", True, message, remedy)


def _is_on_host(patch: Mapping[str, Any]) -> bool:
    of_pod = patch.get("spec")
    return isinstance(of_pod, Mapping) and of_pod.get("hostNetwork") is True
