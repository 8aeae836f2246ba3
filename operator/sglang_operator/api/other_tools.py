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
_ARGS: Final = "use spec.engine.args"
_COOLDOWN: Final = "use spec.scaling.downscaleDelaySeconds, and spec.scaling.idleSecondsBeforeZero for the last replica"
_ENV: Final = "use spec.engine.env"
_MIGRATE: Final = "docs/how-to/migrate.md"
_PART_OF_SERVER: Final = "leave it out: an endpoint is a whole server, and prefill and decode are not split"
_PROBES: Final = "leave it out: the platform sets the probes, and a busy engine passes them"
_ROUTER: Final = (
    "leave it out: a request goes to the replica with the fewest connections; an HTTPRoute is spec.api.route"
)
_RUNTIME: Final = "leave it out, or use spec.engine.image and spec.engine.args: there is one runtime"
_KEYS: Final = "use spec.api.keysSecret: {name: …}, a Secret whose every entry is a key"
_OF_REDIS: Final = "use spec.highAvailability.redis.passwordSecret: {name: …, key: …}, an entry of a Secret"
_OF_HUB: Final = "use spec.model.tokenSecret: {name: …, key: …}, an entry of a Secret"
_UPGRADE: Final = "use spec.upgrade.strategy: BlueGreen, the default, or Recreate"
_HEAD: Final = "use spec.podTemplate.head.spec"
_WORKER: Final = "use spec.podTemplate.worker.spec"
# Fields of a pod that the API leaves to podTemplate, wherever somebody looks for them.
_OF_A_POD: Final[Mapping[str, str]] = {
    name: f"{_WORKER}.{name}"
    for name in (
        *("affinity", "hostNetwork", "initContainers", "runtimeClassName", "schedulerName", "securityContext"),
        "topologySpreadConstraints",
    )
}
# And of its container.
_OF_A_CONTAINER: Final[Mapping[str, str]] = {
    name: f"{_WORKER}.containers: [{{name: ray-worker, {name}: …}}]"
    for name in ("envFrom", "imagePullPolicy", "volumeMounts")
}

# Fields of Kubernetes, KServe, KubeAI and others by the object they are written in.
FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "spec": {
        **_OF_A_POD,
        **_OF_A_CONTAINER,
        "annotations": "use spec.podTemplate.worker.metadata.annotations",
        "apiKey": _KEYS,
        "apiKeys": _KEYS,
        "args": _ARGS,
        "containers": f"{_WORKER}.containers",
        "decode": _PART_OF_SERVER,
        "decoder": _PART_OF_SERVER,
        "extraArgs": _ARGS,
        "features": "use spec.task, one of generate, embed, rerank, score, classify and transcribe",
        "gpu": "use spec.accelerator.count",
        "gpuCount": "use spec.accelerator.count",
        "gpus": "use spec.accelerator.count",
        "hfToken": _OF_HUB,
        "labels": "use spec.podTemplate.worker.metadata.labels",
        "livenessProbe": _PROBES,
        "maxReplicas": "use spec.scaling.max",
        "minReplicas": "use spec.scaling.min",
        "modelName": "use spec.model.servedName",
        "modelUri": "use spec.model.uri",
        "monitoring": "leave it out: metrics are always on, and the chart's metrics.podMonitor makes a PodMonitor",
        "nodes": "use spec.parallelism.nodes",
        "predictor": f"spec is the endpoint itself: {_MIGRATE} has KServe's fields",
        "prefill": _PART_OF_SERVER,
        "readinessProbe": _PROBES,
        "resourceProfile": "use spec.accelerator.count, spec.accelerator.products and spec.resources",
        "router": _ROUTER,
        "runtime": _RUNTIME,
        "servedModelName": "use spec.model.servedName",
        "sidecars": f"{_WORKER}.containers",
        "startupProbe": _PROBES,
        "storageUri": "use spec.model.uri",
        "suspend": "use spec.replicas: 0 to stop it, or spec.paused: true to have nothing written",
        "targetRequests": "use spec.scaling.targetOngoingRequests",
        "tensorParallelSize": "use spec.parallelism.tensor",
        "terminationGracePeriodSeconds": "use spec.upgrade.drainSeconds, which it follows from",
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
        "apiKey": _KEYS,
        "apiKeySecret": _KEYS,
        "apiKeys": _KEYS,
        "keySecret": _KEYS,
        "keys": _KEYS,
    },
    "spec.engine": {
        **_OF_A_CONTAINER,
        "command": "leave it out: the platform starts SGLang; its arguments are spec.engine.args",
        "extraArgs": _ARGS,
        "livenessProbe": _PROBES,
        "readinessProbe": _PROBES,
        "runtime": _RUNTIME,
        "volumes": f"{_WORKER}.volumes",
    },
    "spec.head": {
        "affinity": f"{_HEAD}.affinity",
        "nodeSelector": f"{_HEAD}.nodeSelector",
        "tolerations": f"{_HEAD}.tolerations",
    },
    "spec.highAvailability.redis": {"password": _OF_REDIS},
    "spec.model": {
        "args": _ARGS,
        "contextLength": f"{_ARGS}.context_length",
        "dtype": f"{_ARGS}.dtype",
        "env": _ENV,
        "hfToken": _OF_HUB,
        "id": "use spec.model.uri",
        "maxModelLen": f"{_ARGS}.context_length",
        "modelFormat": "leave it out: the files of the model say it",
        "modelUri": "use spec.model.uri",
        "name": "use spec.model.servedName; what is loaded is spec.model.uri",
        "path": "use spec.model.uri",
        "quantization": f"{_ARGS}.quantization",
        "runtime": _RUNTIME,
        "storageUri": "use spec.model.uri",
        "token": _OF_HUB,
        "trustRemoteCode": f"{_ARGS}.trust_remote_code",
    },
    "spec.network": {"hostNetwork": _OF_A_POD["hostNetwork"]},
    "spec.podTemplate": {"metadata": "use spec.podTemplate.worker.metadata", "spec": _WORKER},
    "spec.resources": {"gpu": _RESOURCES, "limits": _RESOURCES, "nvidia.com/gpu": _RESOURCES, "requests": _RESOURCES},
    "spec.scaling": {
        "cooldownPeriod": _COOLDOWN,
        "cooldownSeconds": _COOLDOWN,
        "maxReplicas": "use spec.scaling.max",
        "minReplicas": "use spec.scaling.min",
        "scaleTarget": "use spec.scaling.targetOngoingRequests",
        "target": "use spec.scaling.targetOngoingRequests",
    },
    "spec.scheduling": _OF_A_POD,
    "spec.upgrade": {"rollingUpdate": _UPGRADE, "type": _UPGRADE},
}

# Values of Kubernetes where the API has a list of its own.
VALUES: Final[Mapping[str, Mapping[str, str]]] = {
    "spec.upgrade.strategy": {
        "RollingUpdate": 'use "BlueGreen", the default: a new revision starts beside the old one; "Recreate" needs no '
        "second set of accelerators",
    },
}

# Kinds of objects that serve models elsewhere, and whose they are.
KINDS: Final[Mapping[str, str]] = {
    "ClusterServingRuntime": "KServe",
    "DynamoGraphDeployment": "NVIDIA Dynamo",
    "InferenceService": "KServe",
    "LLMInferenceService": "KServe",
    "LeaderWorkerSet": "LeaderWorkerSet",
    "Model": "KubeAI",
    "ModelDeployment": "another tool",
    "RayCluster": "KubeRay",
    "RayService": "KubeRay",
    "SeldonDeployment": "Seldon",
    "ServingRuntime": "KServe",
    "VLLMRuntime": "the vLLM production stack",
    "Workspace": "KAITO",
}


def of_kind(found: str) -> str:
    """What to do about an object of another tool; "" if nothing is known of its kind."""
    return f"coming from {KINDS[found]}: {_MIGRATE}" if found in KINDS else ""
