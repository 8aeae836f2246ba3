"""Rules of `spec.parallelism`: what does not divide, what exceeds a node, what SGLang does not combine.

Where a rule is SGLang's own, its source is named; all of SGLang 0.5.23 below `sglang/srt`.
"""

from __future__ import annotations

from typing import Any, Final

from sglang_operator.api.rule import Rule, either
from sglang_operator.api.spec import EndpointSpec
from sglang_operator.api.spec_pods import Accelerator, Parallelism

MIG: Final = "/mig-"  # in the resources of NVIDIA's device plugin that are slices of a GPU
LARGEST_NODE: Final = 16  # accelerators of the largest machines that vendors sell as one node


def accelerators(spec: EndpointSpec) -> int:
    """Accelerators of one replica (with vendor cpu: its engine processes)."""
    return spec.accelerator.count * spec.parallelism.nodes


def tensor(spec: EndpointSpec) -> int:
    """Ranks that split each layer, where no rule is broken."""
    parallelism = spec.parallelism
    return parallelism.tensor or accelerators(spec) // (parallelism.pipeline * parallelism.data)


def _product(spec: EndpointSpec) -> int:
    parallelism = spec.parallelism
    return (parallelism.tensor or 1) * parallelism.pipeline * parallelism.data


def _advise_count(spec: EndpointSpec) -> str:
    nodes, product = spec.parallelism.nodes, _product(spec)
    if product % nodes:
        return f"{product} ranks do not spread evenly over {nodes} nodes: correct parallelism.nodes or the others"
    return f"set spec.accelerator.count to {product // nodes} (now {spec.accelerator.count}), or {_LEAVE_OUT}"


def _divides(part: str) -> str:
    """CEL: the field divides tensor, given or computed. Where tensor cannot be computed, another rule says so."""
    given = f"{_TENSOR} % {part} == 0"
    computed = f"({_TOTAL} % ({_REST}) != 0 || ({_TOTAL} / ({_REST})) % {part} == 0)"
    return f"{part} == 1 || ({_TENSOR} != 0 ? {given} : {computed})"


def _divides_tensor(spec: EndpointSpec, part: int) -> bool:
    parallelism = spec.parallelism
    if parallelism.tensor is None and accelerators(spec) % (parallelism.pipeline * parallelism.data):
        return True
    return tensor(spec) % part == 0


_LEAVE_OUT: Final = "leave tensor out: it then becomes accelerator.count * nodes / (pipeline * data)"
_COUNT: Final = either("self.accelerator.count", "1")
_TENSOR: Final = either("self.parallelism.tensor", "0")
_PIPELINE: Final = either("self.parallelism.pipeline", "1")
_DATA: Final = either("self.parallelism.data", "1")
_NODES: Final = either("self.parallelism.nodes", "1")
_TOTAL: Final = f"{_COUNT} * {_NODES}"
_REST: Final = f"{_PIPELINE} * {_DATA}"

# Of the part itself.
_PART_NODES: Final = either("self.nodes", "1")
_PART_PIPELINE: Final = either("self.pipeline", "1")
_PART_DATA: Final = either("self.data", "1")
_PART_ATTENTION: Final = either("self.attentionData", "1")
_NOTHING: Final = "''"
_NO_RESOURCE: Final = either("self.resourceName", _NOTHING) + " != ''"
_CPU: Final = either("self.vendor", "'nvidia'") + " == 'cpu'"

RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        of=EndpointSpec,
        field="parallelism",
        cel=f"{_TENSOR} == 0 || {_TENSOR} * {_REST} == {_TOTAL}",
        holds=lambda s: s.parallelism.tensor is None or _product(s) == accelerators(s),
        message="tensor * pipeline * data must equal spec.accelerator.count * nodes",
        remedy=f"correct accelerator.count, or {_LEAVE_OUT}",
        advice=_advise_count,
    ),
    Rule(
        of=EndpointSpec,
        field="parallelism",
        cel=f"{_TENSOR} != 0 || {_TOTAL} % ({_REST}) == 0",
        holds=lambda s: s.parallelism.tensor is not None or accelerators(s) % _product(s) == 0,
        message="pipeline * data must divide spec.accelerator.count * nodes",
        remedy="correct accelerator.count, parallelism.pipeline or parallelism.data",
    ),
    Rule(
        of=EndpointSpec,
        field="parallelism.attentionData",
        cel=_divides(either("self.parallelism.attentionData", "1")),  # arg_groups/parallel_hook.py
        holds=lambda s: _divides_tensor(s, s.parallelism.attention_data),
        message="must divide tensor, whose ranks it groups",
        remedy="choose a divisor of tensor (by default accelerator.count * nodes / (pipeline * data))",
    ),
    Rule(
        of=EndpointSpec,
        field="parallelism.expert",
        cel=_divides(either("self.parallelism.expert", "1")),  # runtime_context.py: moe_tp_size = tp_size / ep_size
        holds=lambda s: _divides_tensor(s, s.parallelism.expert),
        message="must divide tensor, over whose ranks experts are spread",
        remedy="choose a divisor of tensor (by default accelerator.count * nodes / (pipeline * data))",
    ),
    Rule(
        of=Parallelism,
        field="attentionData",
        cel=f"{_PART_ATTENTION} == 1 || {_PART_DATA} == 1",  # arg_groups/parallel_hook.py
        holds=lambda p: p.attention_data == 1 or p.data == 1,
        message="SGLang does not combine attentionData with data",
        remedy="keep one of them: attentionData for one model over all ranks, data for copies of it",
    ),
    Rule(
        of=Parallelism,
        field="data",
        cel=f"{_PART_DATA} == 1 || {_PART_NODES} == 1",  # arg_groups/validation_hook.py
        holds=lambda p: p.data == 1 or p.nodes == 1,
        message="SGLang does not spread copies of a model over several nodes",
        remedy="use spec.replicas for copies on other nodes, or attentionData for groups inside tensor",
    ),
    Rule(
        of=Parallelism,
        field="nodes",
        # entrypoints/engine.py: ranks of a node are whole stages, or nodes share one stage evenly.
        cel=f"{_PART_NODES} % {_PART_PIPELINE} == 0 || {_PART_PIPELINE} % {_PART_NODES} == 0",
        holds=lambda p: p.nodes % p.pipeline == 0 or p.pipeline % p.nodes == 0,
        message="nodes must divide pipeline, or pipeline must divide nodes",
        remedy="give each node the same number of stages, or each stage the same number of nodes",
    ),
    Rule(
        of=Accelerator,
        field="count",
        cel=f"{_CPU} || {_NO_RESOURCE} || {either('self.count', '1')} <= {LARGEST_NODE}",
        holds=lambda a: a.vendor == "cpu" or bool(a.resource_name) or a.count <= LARGEST_NODE,
        message=f"counts accelerators of one node, and none has more than {LARGEST_NODE}",
        remedy="spread a replica over several nodes with spec.parallelism.nodes",
    ),
    Rule(
        of=Accelerator,
        field="count",
        cel=f"{either('self.count', '1')} == 1 || !{either('self.resourceName', _NOTHING)}.contains('{MIG}')",
        holds=lambda a: a.count == 1 or MIG not in a.resource_name,
        message="a CUDA process sees one MIG slice only, however many its pod has",
        remedy="set accelerator.count: 1 and request a larger profile, or use spec.replicas for copies on other slices",
    ),
)
