"""Rules across fields. Each is written once and holds in both places: `cel` goes into the CRD, `holds` is run offline.

tests/unit/test_api_rules.py runs good and bad cases of every rule through both.
"""

from __future__ import annotations

import re
from typing import Any, Final

from sglang_operator.api.base import Model
from sglang_operator.api.rule import Rule, either
from sglang_operator.api.rules_adapters import RULES as ADAPTERS
from sglang_operator.api.rules_address import BUCKETS, address
from sglang_operator.api.rules_exposure import RULES as EXPOSURE
from sglang_operator.api.rules_parallelism import RULES as PARALLELISM
from sglang_operator.api.rules_peers import RULES as PEERS
from sglang_operator.api.spec import EndpointSpec, SGLangEndpoint
from sglang_operator.api.spec_api import Api
from sglang_operator.api.spec_model import Cache, Engine, EnvSource, EnvVar, ModelSource
from sglang_operator.api.spec_pods import Accelerator, Toleration
from sglang_operator.api.spec_scaling import Scaling

# RayService names end at 47 characters and a revision adds 9: `-` and eight of its hash.
NAME_LENGTH: Final = 38
NAME: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"  # DNS-1035, as for a Service

_NOTHING: Final = "''"
_IN_BUCKET: Final = "self.uri.startsWith('s3://') || self.uri.startsWith('gs://')"
_VENDOR: Final = either("self.vendor", "'nvidia'")
_STRICT: Final = "'Strict'"
_CLUSTER_IP: Final = "'ClusterIP'"
_BLUE_GREEN: Final = "'BlueGreen'"
_RETAIN: Final = "'Retain'"
_NODES: Final = either("self.parallelism.nodes", "1")

RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        of=SGLangEndpoint,
        field="metadata.name",
        cel=f"self.metadata.name.size() <= {NAME_LENGTH} && self.metadata.name.matches(r'{NAME}')",
        holds=lambda o: len(o.metadata.name) <= NAME_LENGTH and bool(re.fullmatch(NAME, o.metadata.name)),
        message=f"must be lower-case letters, digits and '-', start with a letter, at most {NAME_LENGTH} characters",
        remedy="choose a shorter or simpler name; the Service and the model's pods are named after it",
    ),
    *address(ModelSource, "hf://Qwen/Qwen3-8B"),
    Rule(
        of=ModelSource,
        field="cache",
        cel=f"!has(self.cache) || has(self.lora) || self.uri.startsWith('hf://') || {_IN_BUCKET}",
        holds=lambda m: m.cache is None or m.lora is not None or m.uri.startswith(("hf://", *BUCKETS)),
        message="only hf://, s3:// and gs:// models are downloaded, so there is nothing to cache",
        remedy="remove spec.model.cache",
    ),
    Rule(
        of=ModelSource,
        field="tokenSecret",
        cel="!has(self.tokenSecret) || has(self.lora) || self.uri.startsWith('hf://')",
        holds=lambda m: m.token_secret is None or m.lora is not None or m.uri.startswith("hf://"),
        message="only hf:// models are fetched with a token",
        remedy="remove spec.model.tokenSecret",
    ),
    Rule(
        of=ModelSource,
        field="storageSecret",
        cel=f"!has(self.storageSecret) || has(self.lora) || {_IN_BUCKET}",
        holds=lambda m: m.storage_secret is None or m.lora is not None or m.uri.startswith(BUCKETS),
        message="only s3:// and gs:// models are fetched with credentials of object storage",
        remedy="remove spec.model.storageSecret",
    ),
    Rule(
        of=EndpointSpec,
        field="model.cache.accessMode",
        cel=f"{either('self.model.cache.accessMode', _NOTHING)} != 'ReadWriteOnce' || "
        f"(self.replicas <= 1 && {either('self.scaling.max', '1')} <= 1 && {_NODES} == 1)",
        holds=lambda s: (
            s.model.cache is None
            or s.model.cache.access_mode != "ReadWriteOnce"
            or max(s.replicas, s.most, s.parallelism.nodes) <= 1
        ),
        message="a ReadWriteOnce volume is mounted on one node only, which more than one worker pod does not fit",
        remedy="use a StorageClass that offers ReadWriteMany, or at most one replica of one node",
    ),
    Rule(
        of=EndpointSpec,
        field="model.cache.accessMode",
        cel=f"{either('self.model.cache.accessMode', _NOTHING)} != 'ReadWriteOnce' || "
        f"{either('self.upgrade.strategy', _BLUE_GREEN)} == 'Recreate'",
        holds=lambda s: (
            s.model.cache is None or s.model.cache.access_mode != "ReadWriteOnce" or s.upgrade.strategy == "Recreate"
        ),
        message="a ReadWriteOnce volume is mounted on one node only, and with upgrade.strategy BlueGreen the new pod "
        "starts while the old one has it",
        remedy="set spec.upgrade.strategy: Recreate, or use a StorageClass that offers ReadWriteMany",
    ),
    Rule(
        of=Cache,
        field="reclaim",
        cel=f"{either('self.reclaim', _RETAIN)} == 'Retain' || {either('self.claimName', _NOTHING)} == ''",
        holds=lambda c: c.reclaim == "Retain" or not c.claim_name,
        message="a claim of yours is never deleted",
        remedy="remove reclaim, or remove claimName: a claim is then created",
    ),
    Rule(
        of=EndpointSpec,
        field="replicas",
        # 1 is what the API server stores when nobody writes it. So is refused what `kubectl scale` writes, too.
        cel="!has(self.scaling) || self.replicas == 1",
        holds=lambda s: s.scaling is None or s.replicas == 1,
        message="spec.scaling decides how many replicas there are",
        remedy="change spec.scaling.min and spec.scaling.max; for a fixed number, or 0 to stop, remove spec.scaling",
    ),
    Rule(
        of=Scaling,
        field="max",
        cel=f"self.max >= {either('self.min', '1')}",
        holds=lambda s: s.max >= s.min,
        message="must not be less than spec.scaling.min",
        remedy="raise spec.scaling.max, or lower spec.scaling.min",
    ),
    Rule(
        of=Accelerator,
        field="products",
        cel=f"{_VENDOR} != 'cpu' || !has(self.products) || self.products.size() == 0",
        holds=lambda a: a.vendor != "cpu" or not a.products,
        message="vendor cpu has no accelerator products",
        remedy="remove it, or choose nodes with spec.scheduling.nodeSelector",
    ),
    Rule(
        of=Accelerator,
        field="resourceName",
        cel=f"{_VENDOR} != 'cpu' || {either('self.resourceName', _NOTHING)} == ''",
        holds=lambda a: a.vendor != "cpu" or not a.resource_name,
        message="vendor cpu requests no device",
        remedy="remove it; CPU cores are spec.resources.cpu",
    ),
    *PARALLELISM,
    *ADAPTERS,
    Rule(
        of=Toleration,
        field="key",
        cel="self.key != '' || self.operator == 'Exists'",
        holds=lambda t: bool(t.key) or t.operator == "Exists",
        message="must not be empty with operator Equal",
        remedy="name the taint's key, or use operator: Exists",
    ),
    Rule(
        of=Toleration,
        field="value",
        cel="self.value == '' || self.operator == 'Equal'",
        holds=lambda t: not t.value or t.operator == "Equal",
        message="has no meaning with operator Exists",
        remedy="remove it, or use operator: Equal",
    ),
    Rule(
        of=Toleration,
        field="tolerationSeconds",
        cel="!has(self.tolerationSeconds) || self.effect == 'NoExecute'",
        holds=lambda t: t.toleration_seconds is None or t.effect == "NoExecute",
        message="only a NoExecute taint ends",
        remedy="remove it, or set effect: NoExecute",
    ),
    Rule(
        of=EnvVar,
        field="valueFrom",
        cel="!has(self.valueFrom) || self.value == ''",
        holds=lambda e: e.value_from is None or not e.value,
        message="value and valueFrom are both given",
        remedy="keep one of them",
    ),
    Rule(
        of=EnvSource,
        field="",
        cel="has(self.secretKeyRef) != has(self.configMapKeyRef)",
        holds=lambda s: (s.secret_key_ref is None) != (s.config_map_key_ref is None),
        message="must name either secretKeyRef or configMapKeyRef",
        remedy="keep one of them",
    ),
    Rule(
        of=Engine,
        field="argsCheck",
        cel=f"{either('self.argsCheck', _STRICT)} == 'Strict' || {either('self.image', _NOTHING)} != ''",
        holds=lambda e: e.args_check == "Strict" or bool(e.image),
        message="Warn is for an image whose SGLang differs from the platform's",
        remedy="set spec.engine.image, or leave argsCheck at Strict",
    ),
    *PEERS,
    *EXPOSURE,
    Rule(
        of=Api,
        field="allowAnonymous",
        cel=f"{either('self.allowAnonymous', 'false')} || has(self.keysSecret) || "
        f"(!has(self.ingress) && !has(self.route) && {either('self.service.type', _CLUSTER_IP)} == 'ClusterIP')",
        holds=lambda a: (
            a.allow_anonymous
            or a.keys_secret is not None
            or (a.ingress is None and a.route is None and a.service.type == "ClusterIP")
        ),
        message="ingress, route, NodePort and LoadBalancer open the endpoint to everybody outside the cluster",
        remedy="set spec.api.keysSecret, or spec.api.allowAnonymous: true if something in front asks for credentials",
    ),
)


def rules_of(part: type[Model]) -> tuple[Rule[Any], ...]:
    """The rules on one part of the API, in the order they are checked."""
    return tuple(rule for rule in RULES if rule.of is part)
