"""What the parts of the API are made of: the base model, field helpers and the text types that Kubernetes accepts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    Strict,
    StringConstraints,
    model_validator,
)
from pydantic.alias_generators import to_camel

from sglang_operator.api.frozen import freeze

T = TypeVar("T")

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
QUALIFIED_NAME = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
)
LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
RESOURCE_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
HOSTNAME = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
DATA_KEY = r"^[-._A-Za-z0-9]+$"
ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
IMAGE = r"^([^\s/]+(/[^\s/]+)*)?$"
REVISION = r"^[A-Za-z0-9_][-A-Za-z0-9_./]*$"
SERVED_NAME = r"^[!-9;-~]+$"  # printable ASCII but the colon: SGLang reads `model:adapter` as an adapter of a model
ADAPTER_NAME = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
_PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
REDIS_ADDRESS = rf"^(rediss?://)?[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?:{_PORT}$"  # no user, no password
CIDR = r"^[0-9A-Fa-f:.]+/[0-9]{1,3}$"  # the rest of it is parsed
URL_PATH = r"^/[-A-Za-z0-9_.~/]*$"
QUANTITY = r"^([0-9]*[1-9][0-9]*(\.[0-9]+)?|0+\.[0-9]*[1-9][0-9]*)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"

_WORDS = {
    DNS_LABEL: "lower-case letters, digits and '-'",
    DNS_SUBDOMAIN: "lower-case letters, digits, '-' and '.', as every Kubernetes name",
    QUALIFIED_NAME: "at most 63 letters, digits, '-', '_' and '.', with at most one domain/ before them",
    LABEL_VALUE: "letters, digits, '-', '_' and '.', as every label value",
    RESOURCE_NAME: "domain/name, as every extended resource",
    HOSTNAME: "a host name in lower case",
    DATA_KEY: "letters, digits, '-', '_' and '.'",
    ENV_NAME: "letters, digits and '_'",
    IMAGE: "an image: names between single slashes, without white space and scheme",
    REVISION: "a branch, tag or commit",
    SERVED_NAME: "printable ASCII without spaces and colons",
    ADAPTER_NAME: "letters, digits, '-', '_' and '.'",
    REDIS_ADDRESS: "<host>:<port>, with rediss:// before it for TLS, and without a password",
    CIDR: "a CIDR, such as 10.0.0.0/8 or 2001:db8::/32",
    URL_PATH: "a path that starts with /",
    QUANTITY: "a quantity greater than zero, such as 4, 500m or 16Gi",
}
# What each pattern means, in words for messages. An optional text may also be empty.
PATTERN_WORDS = _WORDS | {f"^$|{pattern}": words for pattern, words in _WORDS.items()}

MAX_ITEMS = 64  # of every list and map: Kubernetes prices a CEL rule by the largest value it could see


class Model(BaseModel):
    """Base of every part of the API: camelCase as in YAML, frozen, strict about types, unknown fields refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, strict=True, defer_build=True, validate_default=True
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        """A null is an absent field, as the API server treats it (`resources:` with nothing behind it is no error)."""
        if not isinstance(data, Mapping):
            return data
        return {name: value for name, value in data.items() if value is not None}


def computed(description: str, **constraints: Any) -> Any:
    """A field whose default follows from others: None only until `endpoint.resolve`, so nothing behind it sees None."""
    return Field(default=None, validate_default=False, description=description, **constraints)


def part(description: str, **constraints: Any) -> Any:
    """A nested object that is always there, with the defaults of its own fields."""
    return Field(default={}, description=description, **constraints)


def items(
    description: str, *, key: str = "", unique: bool = False, required: bool = False, max_length: int = MAX_ITEMS
) -> Any:
    """A list: a map by `key` or a set if `unique` (server-side apply merges those), otherwise replaced as a whole."""
    schema: dict[str, Any] = {"x-kubernetes-list-type": "map" if key else "set" if unique else "atomic"}
    if key:
        schema["x-kubernetes-list-map-keys"] = [key]
    return Field(
        default=... if required else (),
        description=description,
        min_length=1 if required else None,
        max_length=max_length,
        json_schema_extra=schema,
    )


def unset_items(description: str, *, alias: str | None = None) -> Any:
    """A list that is None unless it is written, replaced as a whole. Its bounds stand with its type."""
    schema: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
    return Field(default=None, alias=alias, description=description, json_schema_extra=schema)


def _whole_number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _written_as_json(value: Any) -> Any:
    """Raises ValueError for what YAML, or an escape of JSON, can say and no file holds: .nan, half a surrogate pair."""
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    return value


def text(pattern: str, max_length: int, *, optional: bool = False) -> Any:
    """The constraint of a text that matches `pattern`, or may also be empty if `optional`."""
    return StringConstraints(pattern=f"^$|{pattern}" if optional else pattern, max_length=max_length)


Seconds = Annotated[int, Field(ge=0, le=86_400)]
# A list in YAML, a tuple once parsed: an Endpoint is frozen to the bottom.
Items = Annotated[tuple[T, ...], Strict(strict=False)]
Name = Annotated[str, text(DNS_SUBDOMAIN, 253)]
OptionalName = Annotated[str, text(DNS_SUBDOMAIN, 253, optional=True)]
LabelKey = Annotated[str, text(QUALIFIED_NAME, 317)]
LabelValue = Annotated[str, text(LABEL_VALUE, 63)]
Frozen = AfterValidator(freeze)  # for every mapping
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=MAX_ITEMS), Frozen]
Annotations = Annotated[dict[LabelKey, Annotated[str, Field(max_length=16_384)]], Field(max_length=MAX_ITEMS), Frozen]
# Kubernetes takes `4` and `"4"` alike.
Quantity = Annotated[
    str,
    text(QUANTITY, 32),
    Field(json_schema_extra={"x-kubernetes-int-or-string": True, "minimum": 1}),
    BeforeValidator(_whole_number_as_text),
]
# The two places without a schema, podTemplate and the values of engine.args: anything that JSON can say.
AnyJson = Annotated[
    JsonValue, AfterValidator(_written_as_json), Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
]
