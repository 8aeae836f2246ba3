"""Rules of the peers in `spec.api.allowFrom`: what a NetworkPolicy would be refused for."""

from __future__ import annotations

from typing import Any, Final

from sglang_operator.api.rule import Rule
from sglang_operator.api.spec_api import Api
from sglang_operator.api.spec_peers import LabelExpression, Peer

_WITH_VALUES: Final = ("In", "NotIn")

RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        of=Api,
        field="allowFrom",
        cel="!has(self.allowFrom) || self.allowFrom.size() > 0",
        holds=lambda a: a.allow_from != (),
        message="is empty, which reads as nobody and means everybody to a NetworkPolicy",
        remedy="remove it for everybody; for nobody name a label that no pod has",
    ),
    Rule(
        of=Peer,
        field="",
        cel="has(self.podSelector) || has(self.namespaceSelector) || has(self.ipBlock)",
        holds=lambda p: p.pod_selector is not None or p.namespace_selector is not None or p.ip_block is not None,
        message="must have podSelector, namespaceSelector or ipBlock",
        remedy="write one of them; podSelector {} is every pod of the endpoint's namespace, namespaceSelector {} every "
        "pod of the cluster",
    ),
    Rule(
        of=Peer,
        field="ipBlock",
        cel="!has(self.ipBlock) || (!has(self.podSelector) && !has(self.namespaceSelector))",
        holds=lambda p: p.ip_block is None or (p.pod_selector is None and p.namespace_selector is None),
        message="stands alone: a selector is of pods, an ipBlock of addresses outside of the cluster",
        remedy="make two peers of it",
    ),
    Rule(
        of=LabelExpression,
        field="values",
        cel="(self.operator == 'In' || self.operator == 'NotIn') == (has(self.values) && self.values.size() > 0)",
        holds=lambda e: (e.operator in _WITH_VALUES) == bool(e.values),
        message="In and NotIn need values, Exists and DoesNotExist take none",
        remedy="correct values or operator",
    ),
)
