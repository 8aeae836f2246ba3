"""Peers of a NetworkPolicy, as networking.k8s.io/v1 has them: pods by labels, or addresses.

Nothing here has a default but none: the API server would write another one into the items of the user's list.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from sglang_operator.api.base import CIDR, MAX_ITEMS, Items, LabelKey, Labels, LabelValue, Model, text, unset_items

Block = ipaddress.IPv4Network | ipaddress.IPv6Network


def _block(value: str) -> Block | None:
    """The addresses of a CIDR; None if it is none."""
    try:
        return ipaddress.ip_network(value, strict=False) if re.fullmatch(CIDR, value) else None
    except ValueError:
        return None


def _require_block(value: str) -> str:
    block = _block(value)
    if block is None:
        raise PydanticCustomError("cidr", "must be a CIDR, such as 10.0.0.0/8 or 2001:db8::/32")
    if not _is_strict(value, block):
        message = "must be a CIDR as Kubernetes 1.36 wants it: {block}"
        raise PydanticCustomError("cidr", message, {"block": str(block)})
    return value


def _is_strict(value: str, block: Block) -> bool:
    """No bits behind the prefix, no zero before its length, no IPv4 in IPv6 (StrictIPCIDRValidation). Otherwise the API
    server refuses the whole NetworkPolicy, which its own `format: cidr` lets pass."""
    address, _, length = value.partition("/")
    is_mapped = block.version == 6 and block.network_address.ipv4_mapped is not None  # noqa: PLR2004
    return ipaddress.ip_address(address) == block.network_address and length == str(block.prefixlen) and not is_mapped


# The API server parses it as well, by its format.
Cidr = Annotated[str, text(CIDR, 64), Field(json_schema_extra={"format": "cidr"}), AfterValidator(_require_block)]


class _Part(Model):
    """Part of a peer: of it is shown and rendered what is written, as a NetworkPolicy has it."""

    @model_serializer(mode="wrap")
    def _without_unset(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if value is not None}


class LabelExpression(_Part):
    """A condition on one label."""

    key: LabelKey = Field(description="Key of the label. Required.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How the label is compared with values. Required."
    )
    values: Annotated[Items[LabelValue], Field(max_length=MAX_ITEMS)] | None = unset_items(
        "Values for In and NotIn, at least one. Default: none, for Exists and DoesNotExist."
    )


class LabelSelector(_Part):
    """Selects by labels; all conditions hold at once, and an empty selector ({}) selects all."""

    match_labels: Labels | None = Field(default=None, description="Labels to have. Default: none.")
    match_expressions: Annotated[Items[LabelExpression], Field(max_length=16)] | None = unset_items(
        "Conditions on labels. Default: none."
    )


class IpBlock(_Part):
    """A range of addresses, of whoever has no pod."""

    cidr: Cidr = Field(description="The range, for example 10.0.0.0/8. Required.")
    excluded: Annotated[Items[Cidr], Field(max_length=MAX_ITEMS)] | None = unset_items(
        "Ranges inside cidr that are left out. Default: none.", alias="except"
    )

    @field_validator("excluded")
    @classmethod
    def _require_inside(cls, excluded: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        """CEL knows of addresses from Kubernetes 1.31 on only."""
        whole = _block(info.data.get("cidr", ""))
        for one in excluded or ():
            if whole and not _is_inside(_block(one), whole):
                raise PydanticCustomError("except", "must be parts of cidr, and {one} is none", {"one": one})
        return excluded


def _is_inside(part: Any, whole: Any) -> bool:
    """A part of it, and not all of it."""
    return part.version == whole.version and part != whole and bool(part.subnet_of(whole))


class Peer(_Part):
    """Pods by their labels and those of their namespace, or a range of addresses."""

    pod_selector: LabelSelector | None = Field(
        default=None,
        description="Pods with these labels, in the endpoint's namespace or in those of namespaceSelector. Default: "
        "not set, every pod of them.",
    )
    namespace_selector: LabelSelector | None = Field(
        default=None,
        description="Namespaces with these labels; {} is all of them, and kubernetes.io/metadata.name is a "
        "namespace's name. Default: not set, the endpoint's own.",
    )
    ip_block: IpBlock | None = Field(
        default=None, description="Addresses outside of the cluster, instead of selectors. Default: not set, none."
    )
