"""What people write who come from other tools, and what it is here: remedies that no likeness of words would find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_DEFAULT_HERE: Final = "leave it out: it is so by default"
_SPECULATIVE: Final = "use speculative_algorithm and its neighbours"

# Arguments of vLLM by their name there. docs/how-to/migrate.md has them as a table; a test sees to it that both agree.
VLLM_ARGUMENTS: Final[Mapping[str, str]] = {
    "block_size": "use page_size, or leave it out",
    "disable_log_requests": "leave it out: a request is one line of the log, without its prompt",
    "distributed_executor_backend": "leave it out: the platform decides how ranks are started",
    "enable_auto_tool_choice": "leave it out: tool_call_parser alone switches it on",
    "enable_chunked_prefill": f"{_DEFAULT_HERE}; chunked_prefill_size: -1 switches it off",
    "enable_expert_parallel": "use spec.parallelism.expert, a number",
    "enable_prefix_caching": f"{_DEFAULT_HERE}; disable_radix_cache: true switches it off",
    "enforce_eager": "use cuda_graph_backend_decode: disabled and cuda_graph_backend_prefill: disabled",
    "gpu_memory_utilization": "did you mean mem_fraction_static? It is not the same number: leave it out first",
    "guided_decoding_backend": "use grammar_backend",
    "hf_overrides": "use json_model_override_args",
    "limit_mm_per_prompt": "use limit_mm_data_per_request",
    "lora_modules": "use spec.model.adapters",
    "max_cpu_loras": "use spec.model.lora.maxLoaded",
    "max_loras": "use max_loras_per_batch, or spec.model.lora.maxLoaded for those that are kept",
    "max_model_len": "use context_length",
    "max_num_batched_tokens": "nothing is the same; chunked_prefill_size bounds the tokens of a chunk",
    "max_num_seqs": "use max_running_requests",
    "no_enable_prefix_caching": "use disable_radix_cache: true",
    "num_speculative_tokens": _SPECULATIVE,
    "runner": "use spec.task",
    "seed": "use random_seed",
    "speculative_config": _SPECULATIVE,
    "speculative_model": _SPECULATIVE,
    "swap_space": "leave it out; hicache_size is a cache in the host's memory",
    "task": "use spec.task",
    "tokenizer": "use tokenizer_path",
}

_RESOURCES: Final = (
    "use spec.resources.cpu and spec.resources.memory, which are request and limit; accelerators are "
    "spec.accelerator.count"
)
_HEAD: Final = "use spec.podTemplate.head.spec"
_WORKER: Final = "use spec.podTemplate.worker.spec"
# Fields of a pod that the API leaves to podTemplate, wherever somebody looks for them.
_OF_A_POD: Final[Mapping[str, str]] = {
    name: f"{_WORKER}.{name}" for name in ("affinity", "runtimeClassName", "schedulerName", "topologySpreadConstraints")
}

# Fields of Kubernetes, KServe, KubeAI and others by the object they are written in.
FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "spec": {
        **_OF_A_POD,
        "annotations": "use spec.podTemplate.worker.metadata.annotations",
        "containers": f"{_WORKER}.containers",
        "gpu": "use spec.accelerator.count",
        "gpus": "use spec.accelerator.count",
        "labels": "use spec.podTemplate.worker.metadata.labels",
        "maxReplicas": "use spec.scaling.max",
        "minReplicas": "use spec.scaling.min",
        "modelName": "use spec.model.servedName",
        "modelUri": "use spec.model.uri",
        "nodes": "use spec.parallelism.nodes",
        "predictor": "spec is the endpoint itself: docs/how-to/migrate.md has KServe's fields",
        "storageUri": "use spec.model.uri",
        "targetRequests": "use spec.scaling.targetOngoingRequests",
        "tensorParallelSize": "use spec.parallelism.tensor",
        "url": "use spec.model.uri",
        "volumes": f"{_WORKER}.volumes",
    },
    "spec.accelerator": {
        "gpus": "use spec.accelerator.count",
        "model": "use spec.accelerator.products",
        "product": "use spec.accelerator.products",
        "type": "use spec.accelerator.products",
    },
    "spec.api": {
        "apiKey": "use spec.api.keysSecret, the name of a Secret",
        "apiKeySecret": "use spec.api.keysSecret",
        "keySecret": "use spec.api.keysSecret",
    },
    "spec.head": {
        "affinity": f"{_HEAD}.affinity",
        "nodeSelector": f"{_HEAD}.nodeSelector",
        "tolerations": f"{_HEAD}.tolerations",
    },
    "spec.model": {
        "id": "use spec.model.uri",
        "modelUri": "use spec.model.uri",
        "name": "use spec.model.servedName; what is loaded is spec.model.uri",
        "path": "use spec.model.uri",
        "storageUri": "use spec.model.uri",
    },
    "spec.resources": {"gpu": _RESOURCES, "limits": _RESOURCES, "nvidia.com/gpu": _RESOURCES, "requests": _RESOURCES},
    "spec.scaling": {
        "maxReplicas": "use spec.scaling.max",
        "minReplicas": "use spec.scaling.min",
        "scaleTarget": "use spec.scaling.targetOngoingRequests",
    },
    "spec.scheduling": _OF_A_POD,
}
