"""Every Dockerfile is really built, and what is in its image really run; those for GPUs on a base without a GPU."""

from __future__ import annotations

import subprocess
import sys

import pytest
from image.builder import ROOT, Builder, BuildFailed

from sglang_operator.api.versions import versions

IMPORT = "import sglang_serve.server, sglang_serve.sglang_private; print('imported')"
VERSIONS = "from importlib.metadata import *; print(*sorted({f'{d.name}=={d.version}' for d in distributions()}))"
CONFORMANCE_SECONDS = 600
WHOLE_CONFORMANCE_SECONDS = 1800
EXAMPLE = ROOT / "examples" / "smollm2.yaml"


def packages(builder: Builder, image: str) -> set[str]:
    return set(builder.run(image, "python", "-c", VERSIONS).split())


@pytest.fixture(scope="session", params=["cuda", "rocm"])
def gpu(request: pytest.FixtureRequest, builder: Builder, sglang_base: str) -> str:
    """The instructions of Dockerfile.cuda and Dockerfile.rocm above a base that has SGLang."""
    return builder.build(request.param, ROOT / f"Dockerfile.{request.param}", base=sglang_base)


def test_cpu_image_imports_the_server(builder: Builder, cpu: str) -> None:
    assert "imported" in builder.run(cpu, "python", "-c", IMPORT)


def test_cpu_image_has_what_kuberay_starts_for_a_user_without_rights(builder: Builder, cpu: str) -> None:
    shell = "id -u; command -v ray python wget; touch ~/writable; test ! -w /opt/sglang"
    assert builder.run(cpu, "bash", "-lc", shell).split() == [
        "1000",
        "/opt/sglang/bin/ray",
        "/opt/sglang/bin/python",
        "/usr/bin/wget",
    ]


def test_cpu_image_serves_as_the_conformance_program_asks(builder: Builder, cpu: str) -> None:
    said = builder.run(cpu, "python", "-m", "sglang_serve.conformance", "--quick", seconds=CONFORMANCE_SECONDS)
    assert "# Conformance: PASS (7 pass)" in said


@pytest.mark.long
@pytest.mark.timeout(2 * WHOLE_CONFORMANCE_SECONDS)
def test_cpu_image_passes_the_whole_conformance_program(builder: Builder, cpu: str) -> None:
    """Also a lost and a hung engine, and parity with native; adapters and several ranks need accelerators."""
    said = builder.run(cpu, "python", "-m", "sglang_serve.conformance", seconds=WHOLE_CONFORMANCE_SECONDS)
    assert "# Conformance: PASS (9 pass, 6 skip)" in said


def test_cpu_image_says_what_it_is(builder: Builder, cpu: str, debian: str) -> None:
    config = builder.config(cpu)
    found = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert found["title"] == "sglang-serve-cpu"
    assert found["base.name"] == debian  # with its tag
    assert config["User"] == "1000:1000"


def test_gpu_image_imports_the_server(builder: Builder, gpu: str) -> None:
    assert "imported" in builder.run(gpu, "python", "-c", IMPORT)


def test_gpu_image_keeps_every_package_of_its_base(builder: Builder, gpu: str, sglang_base: str) -> None:
    before, after = packages(builder, sglang_base), packages(builder, gpu)
    assert before <= after
    assert f"ray=={versions()['ray']}" in after - before


# Read inside: buildah, when the container ends early, may lose what of a long output is still in the pipe.
PLANNED = """
import json
for entry in json.load(open("/usr/share/sglang-serve/pip-report.json"))["install"]:
    print(entry["metadata"]["name"].lower())
"""


def test_pip_report_of_gpu_image_has_nothing_of_the_accelerator(builder: Builder, gpu: str) -> None:
    planned = set(builder.run(gpu, "python", "-c", PLANNED).split())
    assert "ray" in planned
    accelerator = ("torch", "triton", "nvidia", "cuda", "rocm", "hip", "amd", "flashinfer", "sgl")
    assert not [name for name in planned if name.startswith(accelerator)]


def test_gpu_image_brings_no_stub_of_sgl_kernel(builder: Builder, gpu: str) -> None:
    assert builder.run(gpu, "ls", "/opt/sglang-serve").split() == ["sglang_serve"]
    assert builder.config(gpu)["User"] == "1000:1000"


def test_rocm_image_lets_its_user_compile_kernels_of_aiter(builder: Builder, sglang_base: str) -> None:
    image = builder.build("rocm", ROOT / "Dockerfile.rocm", base=sglang_base)
    compile_one = 'touch "$(python -c "import aiter; print(*aiter.__path__)")/jit/build/module.so"'
    assert "ok" in builder.run(image, "bash", "-c", f"{compile_one} && test ! -e /tmp/aiter_configs && echo ok")


def test_build_ends_when_torch_would_be_replaced(builder: Builder, sglang_base: str) -> None:
    """Another torch, asked for by name: pip refuses, and so does the build."""
    script = ROOT / "images" / "setup" / "add_serve.py"
    ask = "echo torch==2.12.0 > /tmp/wrong.in; python /tmp/add_serve.py /tmp/wrong.in /tmp/out"
    with pytest.raises(BuildFailed, match="Remedy: build FROM"):
        builder.run(sglang_base, "bash", "-c", ask, volume=f"{script}:/tmp/add_serve.py:ro")


def test_operator_image_renders_as_this_checkout_does(builder: Builder, debian: str, uv_cache: str) -> None:
    image = builder.build("operator", ROOT / "operator" / "Dockerfile", base=debian, volume=uv_cache)
    rendered = builder.run(image, "kubectl-sglang", "render", "-f", "/e.yaml", volume=f"{EXAMPLE}:/e.yaml:ro")
    here = [sys.executable, "-m", "sglang_operator", "render", "-f", str(EXAMPLE)]
    assert rendered == subprocess.run(here, check=True, capture_output=True, text=True).stdout
    assert builder.config(image)["User"] == "65532:65532"
    assert not {name.partition("==")[0] for name in packages(builder, image)} & {"torch", "ray", "sglang", "vllm"}
