"""`spec.api`: who may ask, and how the endpoint is reached."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sglang_operator.api.base import (
    DNS_LABEL,
    HOSTNAME,
    URL_PATH,
    Annotations,
    Items,
    Model,
    Name,
    OptionalName,
    items,
    part,
    text,
    unset_items,
)
from sglang_operator.api.spec_model import SecretKey, SecretRef
from sglang_operator.api.spec_peers import Peer

Hostname = Annotated[str, text(HOSTNAME, 253)]
OptionalHostname = Annotated[str, text(HOSTNAME, 253, optional=True)]


class Service(Model):
    """The Service of the endpoint, named like it."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(
        default="ClusterIP",
        description="Kind of Service. Default ClusterIP: reachable inside the cluster only.",
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(default=80, description="TCP port of the Service. Default 80.")
    annotations: Annotations = Field(default={}, description="Annotations of the Service. Default: none.")


class IngressTls(Model):
    """TLS of the Ingress, for its host."""

    secret_name: OptionalName = Field(
        default="", description="Secret with tls.crt and tls.key. Default: empty, the controller's own certificate."
    )


class Ingress(Model):
    """A networking.k8s.io/v1 Ingress to the Service."""

    class_name: OptionalName = Field(
        default="", description="IngressClass. Default: empty, the cluster's default class."
    )
    host: OptionalHostname = Field(default="", description="Host name. Default: empty, every host.")
    path: Annotated[str, text(URL_PATH, 1024)] = Field(
        default="/",
        description="Path prefix. Default /. The API answers below / (/v1/models): /v1 publishes the OpenAI API alone, "
        "and a prefix of your own needs the rewrite annotation of your ingress controller.",
    )
    annotations: Annotations = Field(
        default={},
        description="Annotations of the Ingress. Default: none. Raise your controller's read time-out here: a long "
        "answer takes minutes.",
    )
    tls: IngressTls | None = Field(default=None, description="TLS for host. Default: not set, plain HTTP.")


class ParentRef(Model):
    """A Gateway that the HTTPRoute attaches to."""

    name: Name = Field(description="Name of the Gateway. Required.")
    namespace: Annotated[str, text(DNS_LABEL, 63, optional=True)] = Field(
        default="", description="Namespace of the Gateway. Default: the endpoint's own."
    )
    section_name: OptionalName = Field(
        default="", description="Listener of the Gateway. Default: empty, every listener."
    )


class Route(Model):
    """A gateway.networking.k8s.io/v1 HTTPRoute to the Service."""

    parent_refs: Items[ParentRef] = items(
        "Gateways to attach to, at least one. Required.", required=True, max_length=16
    )
    hostnames: Items[Hostname] = items(
        "Host names to match. Default: none, every host of the listeners.", unique=True, max_length=16
    )


class Limits(Model):
    """Bounds on requests."""

    max_body_bytes: Annotated[int, Field(ge=1024, le=2_147_483_647)] = Field(
        default=67_108_864,
        description="Largest request body in bytes; a larger one is answered 413. Default 67108864 (64 MiB).",
    )


class Api(Model):
    """Keys, behaviour and exposure of the HTTP API."""

    keys_secret: SecretRef | None = Field(
        default=None,
        description="[R] Secret whose every entry is one API key, the entry's name being the key's name in the logs. A "
        "changed Secret takes effect without a restart. Default: not set, open to everybody who reaches the Service.",
    )
    admin_key_secret: SecretKey | None = Field(
        default=None,
        description="[R] Key for administrative routes (weights, cache, profiling). Default: not set, they answer 403.",
    )
    allow_anonymous: bool = Field(
        default=False,
        description="Allow ingress, route, NodePort or LoadBalancer without keysSecret. Default false. Say true only "
        "if something in front of the endpoint asks for credentials.",
    )
    allow_from: Annotated[Items[Peer], Field(max_length=32)] | None = unset_items(
        "Peers of a NetworkPolicy that may connect to port 8000, the API. The endpoint's own pods, the operator and "
        "KubeRay always may. Requests by ingress or route come from their controller's pods. Default: not set, "
        "everybody.",
    )
    unknown_model: Literal["Answer", "NotFound"] = Field(
        default="Answer",
        description="Answer to a request for a model name that is not served. Default Answer: serve it, as `sglang "
        "serve` does. NotFound: 404, as OpenAI does.",
    )
    service: Service = part("The Service of the endpoint. Default: a ClusterIP Service on port 80.")
    ingress: Ingress | None = Field(default=None, description="Create an Ingress. Default: not set, none.")
    route: Route | None = Field(default=None, description="Create a Gateway API HTTPRoute. Default: not set, none.")
    limits: Limits = part("Bounds on requests. Default: those of its fields.")
