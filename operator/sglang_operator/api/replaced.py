"""What a patch of `spec.podTemplate.worker` takes away without a word: strategic merge replaces lists as a whole.

Warnings, as it may be meant. The renderer has the same names of taints and labels; a test holds both together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sglang_operator.api.errors import FieldError
from sglang_operator.api.free_json import part_at
from sglang_operator.api.spec import EndpointSpec

TAINTS: Final = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "cpu": ""}
PRODUCT_LABELS: Final = {"nvidia": "nvidia.com/gpu.product", "amd": "amd.com/gpu.product-name", "cpu": ""}
_POD: Final = "spec.podTemplate.worker.spec"
_TERMS: Final = ("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")


def replaced(spec: EndpointSpec) -> Iterator[FieldError]:
    """A warning for each of these lists."""
    patch = spec.pod_template.worker.get("spec")
    yield from _tolerations(spec, part_at(patch, ("tolerations",)))
    yield from _products(spec, part_at(patch, _TERMS))


def _tolerations(spec: EndpointSpec, given: Any) -> Iterator[FieldError]:
    if not isinstance(given, list):
        return
    keys = {str(one.get("key") or "") for one in given if isinstance(one, Mapping)}
    needed = dict.fromkeys((TAINTS[spec.accelerator.vendor], *(one.key for one in spec.scheduling.tolerations)))
    lost = [key for key in needed if key and not keys & {key, ""}]  # one without a key tolerates every taint
    if lost:
        message = f"stands in place of the tolerations that are there without it: none of {', '.join(lost)} any more"
        remedy = "use spec.scheduling.tolerations, which are added, or repeat those here"
        yield FieldError(f"{_POD}.tolerations", given, message, remedy)


def _products(spec: EndpointSpec, terms: Any) -> Iterator[FieldError]:
    label, products = PRODUCT_LABELS[spec.accelerator.vendor], spec.accelerator.products
    if products and isinstance(terms, list) and not all(label in str(term) for term in terms):
        message = "stands in place of what spec.accelerator.products makes: nodes of any product are taken"
        expression = f"{{key: {label}, operator: In, values: [{', '.join(products)}]}}"
        remedy = f"add {expression} to the matchExpressions of each term"
        yield FieldError(".".join((_POD, *_TERMS)), terms, message, remedy)
