"""Reasons of failed starts, from the texts that engines really print."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from sglang_serve.errors import StartError, classify, first_child_error

SCHEDULER = 'Scheduler hit an exception: Traceback (most recent call last):\n  File "scheduler.py", line 1\n'
CHILD_ERRORS = [
    ("OutOfMemory", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 79.10 GiB"),
    (
        "OutOfMemory",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory",
    ),
    ("OutOfMemory", "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static."),
    ("OutOfMemory", "ValueError: Loaded weights leave no GPU memory for the KV cache under --mem-fraction-static=0.1."),
    (
        "DriverTooOld",
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12020). Please update",
    ),
    ("DriverTooOld", "RuntimeError: CUDA error: CUDA driver version is insufficient for CUDA runtime version"),
    ("UnsupportedArchitecture", "ValueError: Model architectures ['FooForCausalLM'] are not supported for now."),
    ("UnsupportedArchitecture", "ValueError: Cannot find model module. 'FooForCausalLM' is not a registered model in"),
    ("ModelNotFound", "RuntimeError: Cannot find any model weights with `/models/x`"),
    ("AccessDenied", "PermissionError: [Errno 13] Permission denied: '/models/x/model.safetensors'"),
    ("ModelNotFound", "FileNotFoundError: [Errno 2] No such file or directory: '/models/x/config.json'"),
    ("DownloadFailed", "httpx.ConnectError: [Errno 111] Connection refused"),
    ("DownloadFailed", "requests.exceptions.ConnectionError: Remote end closed connection"),
    ("BadArgument", "ValueError: Invalid attention backend: no_such_backend"),
    ("EngineFailed", "FileNotFoundError: [Errno 2] No such file or directory: 'ninja'"),
    ("EngineFailed", "PermissionError: [Errno 13] Permission denied: '/home/ray/.cache/flashinfer'"),
    ("EngineFailed", "OSError: libcuda.so.1: cannot open shared object file: No such file or directory"),
    ("EngineFailed", "OSError: [Errno 28] No space left on device"),
    ("EngineFailed", "torch.distributed.DistNetworkError: ConnectionError while talking to rank 1"),
    ("EngineFailed", "RuntimeError: NCCL error: unhandled system error"),
]
OWN_ERRORS = [
    ("BadArgument", TypeError("ServerArgs.__init__() got an unexpected keyword argument 'fo'")),
    ("BadArgument", AssertionError("tp_size must be positive")),
    ("OutOfMemory", RuntimeError("Rank 0 scheduler died during initialization (exit code: -9).")),
    ("ModelNotFound", OSError("/models/x does not appear to have a file named config.json.")),
    ("UnsupportedArchitecture", ValueError("model type `foo` but Transformers does not recognize this architecture.")),
    ("EngineFailed", RuntimeError("Rank 0 scheduler died during initialization (exit code: -11).")),
]


@pytest.mark.parametrize(("reason", "text"), CHILD_ERRORS)
def test_what_a_child_process_wrote_decides(reason: str, text: str) -> None:
    found = classify(RuntimeError("Initialization failed. Please see the error messages above."), SCHEDULER + text)
    assert (found.reason, found.message) == (reason, text)
    assert found.remedy


# SGLang 0.5.23 on an H200, a model in float32; the end of the message is the same whatever failed.
GRAPH = """\
Exception: Capture cuda graph failed: rmsnorm()::<lambda()> failed to dispatch data type Float
Possible solutions:
1. set --mem-fraction-static to a smaller value (e.g., 0.8 or 0.7)
Open an issue on GitHub https://github.com/sgl-project/sglang/issues/new/choose
"""


SEVERAL_LINES = [
    (
        "triton.compiler.errors.CompilationError: at 33:22:\n  x = tl.dot(a)\nshapes should have M >= 16",
        "shapes should have M >= 16",
    ),
    ("RuntimeError: Error(s) in loading state_dict for Qwen2:\n\tsize mismatch for q_proj", "size mismatch for q_proj"),
    (
        "KeyError: 'a'\n\nDuring handling of the above exception, another exception occurred:\n\nAssertionError",
        "AssertionError",
    ),
    (
        "Exception: Capture cuda graph failed: at 33:22:\nM >= 16\nPossible solutions:\n1. set",
        "Exception: Capture cuda graph failed: at 33:22: M >= 16",
    ),
]


@pytest.mark.parametrize(("text", "said"), SEVERAL_LINES)
def test_of_several_lines_the_one_that_says_it_is_told(text: str, said: str) -> None:
    assert classify(RuntimeError("see above"), SCHEDULER + text).message == said


def test_advice_behind_an_error_is_not_taken_for_it() -> None:
    found = classify(RuntimeError("see above"), SCHEDULER + GRAPH)
    assert found.message == GRAPH.splitlines()[0]
    assert "cuda_graph_backend_decode" in found.remedy
    other = classify(RuntimeError("see above"), SCHEDULER + "RuntimeError: wrong\nOpen an issue on GitHub\n")
    assert (other.reason, other.message) == ("EngineFailed", "RuntimeError: wrong")
    full = classify(RuntimeError("see above"), SCHEDULER + GRAPH.replace("rmsnorm()", "CUDA out of memory"))
    assert full.reason == "OutOfMemory"


@pytest.mark.parametrize(("reason", "error"), OWN_ERRORS)
def test_an_exception_of_the_replica_is_classified(reason: str, error: Exception) -> None:
    found = classify(error)
    assert found.reason == reason
    assert str(error) in found.message


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("ImportError: libcuda.so.1: cannot open shared object file", "device plugin"),
        (
            "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
            "device plugin",
        ),
        # AITER when it is imported, torch, SGLang 0.5.23 without AITER: /dev/kfd belongs to a group that the pod lacks.
        ("RuntimeError: Get GPU arch from rocminfo failed: Command '['/opt/rocm/bin/rocminfo']' returned", "render"),
        ("RuntimeError: No HIP GPUs are available", "render"),
        ("RuntimeError: HIP error: no ROCm-capable device is detected", "render"),
        ("ValueError: could not convert string to float: ''", "render"),
        ("OSError: [Errno 28] No space left on device", "ephemeralStorage"),
        ("OSError: [Errno 28] No space left on device: '/dev/shm/x'", "spec.accelerator.count"),
    ],
)
def test_what_is_not_of_the_model_has_a_remedy_of_its_own(text: str, remedy: str) -> None:
    assert remedy in classify(RuntimeError(text)).remedy


def test_a_gpu_that_may_not_be_opened_is_no_mistake_in_arguments() -> None:
    """SGLang adds up what rocminfo lists; of nothing it makes a ValueError in the replica itself."""
    assert classify(ValueError("could not convert string to float: ''")).reason == "EngineFailed"


# SGLang 0.5.23; a process that the kernel kills writes nothing, and the others write what they see of it.
DIED = (
    "Rank 0 scheduler died during initialization (exit code: {code}). If exit code is -9 (SIGKILL), a common cause is "
    "the OS OOM killer. Run `dmesg -T | grep -i oom` to check."
)
SEQUEL = SCHEDULER + "torch.distributed.DistBackendError: Connection closed by peer [10.0.0.1]:29500"


@pytest.mark.parametrize(
    ("code", "written", "reason"),
    [
        (-9, SEQUEL, "OutOfMemory"),
        (-11, SEQUEL, "EngineFailed"),
        (-9, SCHEDULER + "RuntimeError: Cannot find any model weights with `/models/x`", "ModelNotFound"),
    ],
)
def test_a_process_that_was_killed_is_told_by_the_one_that_waited_for_it(code: int, written: str, reason: str) -> None:
    assert classify(RuntimeError(DIED.format(code=code)), written).reason == reason


def test_a_start_error_stays_as_it_is() -> None:
    error = StartError("DownloadFailed", "no way", "dig one")
    assert classify(error, "CUDA out of memory") is error


def test_a_start_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(StartError("AccessDenied", "what", "do this")))
    assert str(error) == "AccessDenied: what | remedy: do this"


def test_the_first_process_to_fail_counts(tmp_path: Path) -> None:
    assert first_child_error(tmp_path) == ""
    for name, text, at in (("21", "because of 20", 200), ("20", "the cause", 100), ("19", "", 50)):
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (at, at))
    assert first_child_error(tmp_path) == "the cause"
