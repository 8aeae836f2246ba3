"""Sets of values, and parts of what the chart renders from them."""

from __future__ import annotations

import hashlib
from typing import Any

Json = dict[str, Any]
DIGEST = "sha256:" + hashlib.sha256(b"").hexdigest()

EVERYTHING: Json = {
    "nameOverride": "models",
    "image": {"registry": "registry.example.org:5000", "tag": "v9", "digest": DIGEST, "pullPolicy": "Always"},
    "images": {"amd": "r.example.org/rocm:1", "cpu": f"r.example.org:5000/cpu:1@{DIGEST}"},
    "imagePullSecrets": [{"name": "pull"}],
    "replicas": 3,
    "defaults": {"upgrade": {"drainSeconds": 60}, "scheduling": {"priorityClassName": "inference"}},
    "workers": 8,
    "resyncSeconds": 60,
    "log": {"format": "text", "level": "debug"},
    "serviceAccount": {"name": "operator", "annotations": {"a.example.org/b": "c"}},
    "metrics": {
        "service": {"port": 9090, "annotations": {"a": "b"}},
        "serviceMonitor": {"enabled": True, "interval": "1m", "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True},
        "podMonitor": {"enabled": True, "interval": "1m", "labels": {"release": "prometheus"}},
    },
    "podAnnotations": {"a": "1"},
    "podLabels": {"team": "serving"},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "infra", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    "priorityClassName": "system-cluster-critical",
    "podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None, "supplementalGroups": [1]},
    "securityContext": {"runAsUser": 7},
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
}


def one(objects: list[Json], kind: str) -> Json:
    (found,) = (one for one in objects if one["kind"] == kind)
    return found


def pod(objects: list[Json]) -> Json:
    template: Json = one(objects, "Deployment")["spec"]["template"]
    return template


def container(objects: list[Json]) -> Json:
    (found,) = pod(objects)["spec"]["containers"]
    assert isinstance(found, dict)
    return found
