"""Why a replica could not start: one reason out of a closed list, and what to do about it."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Reason = Literal[
    "ModelNotFound",
    "AccessDenied",
    "DownloadFailed",
    "OutOfMemory",
    "DriverTooOld",
    "UnsupportedArchitecture",
    "BadArgument",
    "EngineFailed",
]

REMEDIES: dict[Reason, str] = {
    "ModelNotFound": "correct spec.model.uri and spec.model.revision; the directory must hold config.json and weights",
    "AccessDenied": "set spec.model.tokenSecret to a token that may read the model (a gated one: accept its licence on "
    "the hub first); files of a volume must be readable by the pod's user",
    "DownloadFailed": "check that the hub answers from this pod (proxy, DNS, network policy) and that the cache volume "
    "(spec.model.cache.size) has room; or fill a model mirror",
    "OutOfMemory": "use more or larger accelerators (spec.accelerator.count), a smaller or quantised model, or lower "
    "spec.engine.args mem_fraction_static (if it had served), max_total_tokens or context_length; on CPU raise "
    "spec.resources.memory",
    "DriverTooOld": "update the driver of the node, or choose an engine image for the driver that it has "
    "(spec.engine.image), or other nodes (spec.scheduling.nodeSelector)",
    "UnsupportedArchitecture": "choose a model that this SGLang supports, or an engine image with a newer SGLang "
    "(spec.engine.image); check spec.task",
    "BadArgument": "correct spec.engine.args or spec.parallelism",
    "EngineFailed": "read the replica's log; the traceback of the engine is in it",
}
NO_DRIVER = (
    "the node gives the pod no driver: check its driver, its device plugin and the runtime class of its containers "
    "(spec.podTemplate.worker)"
)
NO_KFD = (
    "of AMD GPUs this says that none can be opened: the number of the node's group that owns /dev/kfd (getent group "
    "render) has to be among the supplementalGroups of spec.podTemplate.worker; else check the node's driver and its "
    "device plugin"
)
NO_GRAPH = (
    "set spec.engine.args cuda_graph_backend_decode and cuda_graph_backend_prefill to disabled, which is slower, to "
    "see whether the model runs at all; then lower mem_fraction_static or cuda_graph_max_bs_decode, or choose the "
    "dtype or attention_backend that the kernel wants"
)
DISK_FULL = "raise spec.resources.ephemeralStorage, or spec.model.cache.size if the model's volume is full"
# Of a model; without one of these in it, a line about a missing file is about something else, such as a compiler.
_FILE = r".*(config\.json|tokenizer|\.safetensors|\.bin\b|\.pth?\b|\.gguf|/models?/)"


class StartError(Exception):
    """A replica cannot start: `reason`, what happened in one line, and the remedy."""

    def __init__(self, reason: Reason, message: str, remedy: str = "") -> None:
        super().__init__(reason, message, remedy)  # all of it, so that it survives pickling
        self.reason = reason
        self.message = message
        self.remedy = remedy or REMEDIES[reason]

    def __str__(self) -> str:
        return f"{self.reason}: {self.message} | remedy: {self.remedy}"


@dataclass(frozen=True)
class _Sign:
    """What in an engine's error text tells the reason."""

    reason: Reason
    pattern: re.Pattern[str]
    remedy: str = ""
    """In place of the reason's."""


def _sign(reason: Reason, *patterns: str, remedy: str = "") -> _Sign:
    return _Sign(reason, re.compile("|".join(patterns), re.IGNORECASE), remedy)


# From the texts of SGLang 0.5.17 and 0.5.23, transformers, torch and the kernel. The first that fits counts.
_SIGNS = (
    _sign(
        "OutOfMemory",
        r"out of memory",  # torch.OutOfMemoryError, cudaErrorMemoryAllocation, HIP
        r"can't allocate memory",  # torch's CPU allocator
        r"CUBLAS_STATUS_ALLOC_FAILED",
        r"not enough memory|leave no GPU memory",  # SGLang, sizing its key-value cache
        r"MemoryError",
        r"exit code: -9\b",  # the kernel's OOM killer
        r"SIGKILL\) killed by",
        r"No space left on device.*shm|Bus error|exit code: -7\b",  # a full /dev/shm
    ),
    _sign(
        "DriverTooOld",
        r"driver on your system is too old",  # torch, when it first asks for a device
        r"driver version is insufficient",  # cudaErrorInsufficientDriver, hipErrorInsufficientDriver
        r"forward compatibility was attempted on non supported HW",  # cudaErrorCompatNotSupportedOnDevice
        r"PTX was compiled with an unsupported toolchain",  # cudaErrorUnsupportedPtxVersion
    ),
    _sign(
        "UnsupportedArchitecture",
        r"architectures .* are not supported",
        r"does not recognize this architecture",
        r"Unsupported architectures?",
        r"is not a registered model",  # neither SGLang nor transformers has the class
        r"has no \w+ implementation",
    ),
    _sign(
        "EngineFailed",
        r"lib(cuda|nvidia-ml|amdhip64|hsa-runtime64)\S*: cannot open shared",
        r"Found no NVIDIA driver",
        remedy=NO_DRIVER,
    ),
    # The library is in the ROCm image, so it is missed nowhere. By source, not provoked.
    _sign(
        "EngineFailed",
        r"GPU arch from rocminfo failed|No gfx arch found in rocminfo",  # AITER, when it is imported
        r"No HIP GPUs are available|no ROCm-capable device",  # torch
        r"could not convert string to float: ''",  # SGLang, which adds up the memory that rocminfo lists
        remedy=NO_KFD,
    ),
    _sign("EngineFailed", r"No space left on device", remedy=DISK_FULL),
    _sign("AccessDenied", r"GatedRepoError", r"Permission denied" + _FILE, r"403 Forbidden", r"gated repo"),
    _sign(
        "ModelNotFound",
        r"does not appear to have a file named",
        r"Cannot find any model weights",
        r"no file named (model\.safetensors|pytorch_model)",
        r"Can't load (tokenizer|the configuration)",
        r"Unrecognized model in",  # config.json without a model_type
        r"is not a valid model identifier",
        r"Incorrect path_or_model_id",
        r"No such file or directory" + _FILE,
    ),
    _sign(
        "DownloadFailed",
        r"LocalEntryNotFoundError",
        r"\b(httpx|httpcore|requests|urllib3)\.\S*(Error|Timeout)\b",
        r"^(ConnectError|ConnectTimeout|ReadTimeout|RemoteProtocolError)\b",  # httpx's, of this process
        r"couldn't connect to",
        r"Max retries",
    ),
    _sign("EngineFailed", r"Capture .*cuda graph failed", remedy=NO_GRAPH),
    _sign("BadArgument", r"unexpected keyword argument", r"ValueError: (Invalid|Unknown|Unsupported) "),
)
_QUERY = re.compile(r"(https?://[^\s?\"'<>]*)\?([^\s\"<>]*[^\s\"<>'()\[\]:,.;])?")  # not what stands behind an address
# SGLang ends some of its messages with advice that is the same whatever failed.
_ADVICE = re.compile(r"Possible (solutions|suggestions):|Fail when using backend:|Open an issue on GitHub")
# Raised in the replica itself, before any process of the engine runs, these mean that arguments do not fit.
_ARGUMENT_ERRORS = (TypeError, ValueError, AssertionError)


def without_queries(text: str) -> str:
    """The text, with addresses cut where their query begins: a storage's signed ones have what opens a file in it, and
    the text goes to logs and into the status."""
    return _QUERY.sub(r"\1", text)


def classify(error: BaseException, child_errors: str = "") -> StartError:
    """The StartError that an exception of the engine's start amounts to; `child_errors`: what its processes wrote."""
    if isinstance(error, StartError):
        return error
    # A process that is killed writes nothing: then the replica's own error tells, and others wrote of the sequel only.
    texts = [text for text in (child_errors, f"{type(error).__name__}: {error}") if text]
    for text, sign in itertools.product(texts, _SIGNS):
        if sign.pattern.search(text):
            return StartError(sign.reason, _essence(text, sign.pattern), sign.remedy)
    if not child_errors and isinstance(error, _ARGUMENT_ERRORS):
        return StartError("BadArgument", _essence(texts[0]))
    return StartError("EngineFailed", _essence(texts[0]))


def _essence(text: str, pattern: re.Pattern[str] | None = None) -> str:
    """The line that says it, or the last one before any advice, where a traceback has its error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = list(itertools.takewhile(lambda line: not _ADVICE.match(line), lines))
    said = [line for line in lines if pattern and pattern.search(line)]
    line, last = (said or lines or ["the engine ended without a message"])[-1], (lines or [""])[-1]
    return (f"{line} {last}" if line.endswith(":") and line != last else line)[:1000]


def first_child_error(directory: Path) -> str:
    """What the first of the engine's processes to fail wrote, "" if none: the others fail because of it."""
    files = [path for path in directory.iterdir() if path.stat().st_size]
    return min(files, key=lambda path: path.stat().st_mtime).read_text(errors="replace") if files else ""
