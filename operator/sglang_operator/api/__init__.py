"""The `SGLangEndpoint` API: fields, parsing, rules, engine arguments, and the CRD generated from them."""

from sglang_operator.api.endpoint import Endpoint
from sglang_operator.api.errors import FieldError, InvalidEndpoint
from sglang_operator.api.parse import parse_endpoint
from sglang_operator.api.spec import API_VERSION, GROUP, KIND, VERSION, EndpointSpec

__all__ = [
    "API_VERSION",
    "GROUP",
    "KIND",
    "VERSION",
    "Endpoint",
    "EndpointSpec",
    "FieldError",
    "InvalidEndpoint",
    "parse_endpoint",
]
