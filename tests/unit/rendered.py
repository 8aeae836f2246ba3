"""Parts of the rendered objects of an endpoint, by name."""

from __future__ import annotations

from typing import Any

import yaml
from unit.api_objects import endpoint

from sglang_operator.api import parse_endpoint
from sglang_operator.render import Platform, render_endpoint

Json = dict[str, Any]


def render(platform: Platform | None = None, **spec: Any) -> dict[str, Json]:
    """The objects of an endpoint by kind."""
    return {one["kind"]: one for one in render_endpoint(parse_endpoint(endpoint(**spec)), platform)}


def cluster(objects: dict[str, Json]) -> Json:
    config: Json = objects["RayService"]["spec"]["rayClusterConfig"]
    return config


def worker_group(objects: dict[str, Json]) -> Json:
    (group,) = cluster(objects)["workerGroupSpecs"]
    assert isinstance(group, dict)
    return group


def worker(objects: dict[str, Json]) -> Json:
    template: Json = worker_group(objects)["template"]
    return template


def head(objects: dict[str, Json]) -> Json:
    template: Json = cluster(objects)["headGroupSpec"]["template"]
    return template


def env(template: Json) -> Json:
    container = template["spec"]["containers"][0]
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def serve_config(objects: dict[str, Json]) -> Json:
    config: Json = yaml.load(objects["RayService"]["spec"]["serveConfigV2"], yaml.CSafeLoader)
    return config


def deployment(objects: dict[str, Json]) -> Json:
    (application,) = serve_config(objects)["applications"]
    (only,) = application["deployments"]
    assert isinstance(only, dict)
    return only


def volumes(template: Json) -> dict[str, Json]:
    """Sources of the volumes by where the first container mounts them."""
    sources = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    return {mount["mountPath"]: sources[mount["name"]] for mount in template["spec"]["containers"][0]["volumeMounts"]}
