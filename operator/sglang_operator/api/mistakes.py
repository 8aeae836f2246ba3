"""What is valid and near certainly not meant: warnings, as there may be a case that nobody thought of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

from sglang_operator.api import engine_ranges
from sglang_operator.api.errors import FieldError
from sglang_operator.api.secrets import names_secret
from sglang_operator.api.spec import EndpointSpec
from sglang_operator.api.versions import versions

# SGLang without Ray Serve under other names: nightly ROCm builds, and AMD's own.
_OTHER_BASES: Final = frozenset({"lmsysorg/sglang-rocm", "rocm/sgl-dev"})


def mistakes(spec: EndpointSpec) -> tuple[FieldError, ...]:
    """The warnings of one spec, in the order of its fields."""
    return (*_gguf(spec), *_base_image(spec), *engine_ranges.doubtful(spec.engine.args), *_readable_secrets(spec))


def _gguf(spec: EndpointSpec) -> Iterator[FieldError]:
    if spec.model.uri.rstrip("/").lower().endswith(("-gguf", ".gguf")):
        message = "GGUF is not served yet: the serving image refuses it"
        yield FieldError(
            "spec.model.uri", spec.model.uri, message, "use the repository that has the model as safetensors"
        )


def _base_image(spec: EndpointSpec) -> Iterator[FieldError]:
    image = spec.engine.image
    if image and _repository(image) in _bases():
        message = "serving images are built FROM this one: it has neither Ray Serve nor sglang_serve, and no pod starts"
        remedy = "leave it out for the platform's image, or build one: docs/how-to/build-images.md"
        yield FieldError("spec.engine.image", image, message, remedy)


def _readable_secrets(spec: EndpointSpec) -> Iterator[FieldError]:
    for index, variable in enumerate(spec.engine.env):
        value = variable.value.lower()
        if value and names_secret(variable.name) and value not in ("true", "false") and not value.isdecimal():
            message = f"{variable.name} is readable by all who may read the endpoint or its pods; it is not shown here"
            remedy = "put it into a Secret, and write valueFrom: {secretKeyRef: {name: …, key: …}}"
            yield FieldError(f"spec.engine.env[{index}].value", None, message, remedy)


@cache
def _bases() -> frozenset[str]:
    """The repositories that the Dockerfiles build FROM, or could."""
    return frozenset(map(_repository, versions()["bases"].values())) | _OTHER_BASES


def _repository(image: str) -> str:
    """`docker.io/lmsysorg/sglang:v1@sha256:…` -> `lmsysorg/sglang`."""
    path, _, name = image.partition("@")[0].rpartition("/")
    repository = f"{path}/{name.partition(':')[0]}".removeprefix("/")
    for registry in ("docker.io/", "index.docker.io/", "library/"):
        repository = repository.removeprefix(registry)
    return repository
