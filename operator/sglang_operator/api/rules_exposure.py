"""Rules of `spec.api.ingress` and `spec.api.route`: what an Ingress or an HTTPRoute would be refused for."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any, Final

from sglang_operator.api.rule import Rule, either
from sglang_operator.api.spec_api import Ingress, Route

_ADDRESS: Final = r"^[0-9]+([.][0-9]+){3}$"
_NO_PREFIX: Final = r"//|/[.][.]?(/|$)"
_NOTHING: Final = "''"


def _are_told_apart(route: Route) -> bool:
    sections = defaultdict[tuple[str, str], list[str]](list)
    for one in route.parent_refs:
        sections[one.name, one.namespace].append(one.section_name)
    return all(len(names) == 1 or (all(names) and len(set(names)) == len(names)) for names in sections.values())


RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        of=Ingress,
        field="host",
        cel=f"!{either('self.host', _NOTHING)}.matches(r'{_ADDRESS}')",
        holds=lambda i: not re.search(_ADDRESS, i.host),
        message="must be a host name, and is an address",
        remedy="write a name that leads to the ingress controller, or leave it out for every host",
    ),
    Rule(
        of=Ingress,
        field="path",
        cel=f"!{either('self.path', _NOTHING)}.matches(r'{_NO_PREFIX}')",
        holds=lambda i: not re.search(_NO_PREFIX, i.path),
        message="must have something between two slashes, and neither `.` nor `..`",
        remedy="write it as the controller shall match it, for example /v1",
    ),
    Rule(
        of=Route,
        field="parentRefs",
        # __namespace__ is how the API server spells a field of that name, a reserved word of CEL.
        cel="self.parentRefs.all(p, self.parentRefs.exists_one(q, q.name == p.name && "
        "q.__namespace__ == p.__namespace__ && (q.sectionName == p.sectionName || q.sectionName == '' || "
        "p.sectionName == '')))",
        holds=_are_told_apart,
        message="names one Gateway twice without a sectionName of its own for each",
        remedy="keep one of them for every listener, or give each the name of another listener",
    ),
)
