"""Rules of `spec.model.lora` and `spec.model.adapters`. Where a rule is SGLang's own, its source is named (0.5.23)."""

from __future__ import annotations

from typing import Any, Final

from sglang_operator.api.rule import Rule, either
from sglang_operator.api.rules_address import address
from sglang_operator.api.spec import EndpointSpec
from sglang_operator.api.spec_model import Adapter, Lora, ModelSource

_DATA: Final = either("self.parallelism.data", "1")
_ATTENTION: Final = either("self.parallelism.attentionData", "1")
_NODES: Final = either("self.parallelism.nodes", "1")
_MOST: Final = either("self.lora.maxLoaded", "8")
_CLAIM: Final = either("self.lora.claimName", "''")
_NONE: Final = "!has(self.adapters)"


def _is_called(model: ModelSource, name: str) -> bool:
    if model.served_name:
        return name == model.served_name
    return model.uri.endswith((f"/{name}", f"/{name}/"))


def _reads_claim(model: ModelSource, adapter: Adapter) -> bool:
    claim = model.lora.claim_name if model.lora else ""
    return bool(claim) and f"{adapter.uri}/".startswith(f"pvc://{claim}/")


RULES: Final[tuple[Rule[Any], ...]] = (
    *address(Adapter, "hf://org/sql-lora"),
    Rule(
        of=Lora,
        field="targetModules",
        cel="!has(self.targetModules) || !('all' in self.targetModules) || self.targetModules.size() == 1",
        holds=lambda lora: "all" not in lora.target_modules or len(lora.target_modules) == 1,
        message="has `all` beside others",
        remedy="keep `all` alone, or name the modules",
    ),
    Rule(
        of=ModelSource,
        field="adapters",
        cel=f"{_NONE} || self.adapters.size() == 0 || has(self.lora)",
        holds=lambda m: not m.adapters or m.lora is not None,
        message="no room is reserved for adapters",
        remedy="set spec.model.lora, for example {maxRank: 64, maxLoaded: 8}; it needs new pods, adapters then do not",
    ),
    Rule(
        of=ModelSource,
        field="lora.maxLoaded",
        cel=f"{_NONE} || !has(self.lora) || self.adapters.size() <= {_MOST}",
        holds=lambda m: m.lora is None or len(m.adapters) <= m.lora.max_loaded,
        message="is less than there are spec.model.adapters",
        remedy="raise it (8 by default), which needs new pods, or remove adapters",
    ),
    Rule(
        of=ModelSource,
        field="adapters",
        cel=f"{_NONE} || self.adapters.all(one, has(self.servedName) ? one.name != self.servedName : "
        "!self.uri.endsWith('/' + one.name) && !self.uri.endsWith('/' + one.name + '/'))",
        holds=lambda m: not any(_is_called(m, one.name) for one in m.adapters),
        message="one has the name of the model (spec.model.servedName, by default the last part of spec.model.uri)",
        remedy="choose another name for it",
    ),
    Rule(
        of=ModelSource,
        field="adapters",
        cel=f"{_NONE} || self.adapters.all(one, !one.uri.startsWith('pvc://') || "
        f"({_CLAIM} != '' && (one.uri + '/').startsWith('pvc://' + {_CLAIM} + '/')))",
        holds=lambda m: all(not one.uri.startswith("pvc://") or _reads_claim(m, one) for one in m.adapters),
        message="a pvc:// adapter is on another claim than spec.model.lora.claimName, and no running pod can mount one",
        remedy="set claimName to its claim, which needs new pods",
    ),
    Rule(
        of=EndpointSpec,
        field="model.lora",
        # managers/tokenizer_control_mixin.py asserts dp_size == 1; lora/lora_manager.py takes with attention groups
        # only pinned adapters; and each node would need the files.
        cel=f"!has(self.model.lora) || ({_DATA} == 1 && {_ATTENTION} == 1 && {_NODES} == 1)",
        holds=lambda s: (
            s.model.lora is None or s.parallelism.data == s.parallelism.attention_data == s.parallelism.nodes == 1
        ),
        message="adapters are loaded into one copy of a model on one node (data, attentionData, nodes)",
        remedy="use spec.replicas for copies and parallelism.tensor or pipeline on one node",
    ),
)
