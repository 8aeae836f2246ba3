"""What is rendered around the pods of a revision: who reaches them, and where their files, state and nodes are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from unit.api_objects import endpoint
from unit.rendered import Json, cluster, deployment, env, head, render, volumes, worker

from sglang_operator.api import InvalidEndpoint, parse_endpoint
from sglang_operator.render import Platform
from sglang_serve import args


class TestNetwork:
    """Ray's job API runs what it is sent: only the API is open, and each other port to those who need it."""

    def test_it_holds_for_every_pod_of_every_revision(self) -> None:
        objects = render()
        selector = objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
        assert selector == {"serve.sglang.io/endpoint": "qwen3"}
        for template in (head(objects), worker(objects)):
            assert selector.items() <= template["metadata"]["labels"].items()

    def test_who_may_reach_what(self) -> None:
        spec = render()["NetworkPolicy"]["spec"]
        assert spec["policyTypes"] == ["Ingress"]
        assert sorted(openings(spec["ingress"])) == [
            ("8000", "everybody"),
            ("8080", "any namespace: app.kubernetes.io/name=prometheus"),
            ("8081", "any namespace: app.kubernetes.io/name=prometheus"),
            ("8265", "any namespace: app.kubernetes.io/name=kuberay,app.kubernetes.io/component=kuberay-operator"),
            ("8265", "any namespace: app.kubernetes.io/name=kuberay-operator"),
            ("9101", "any namespace: app.kubernetes.io/name=prometheus"),
            ("every port", "here: serve.sglang.io/endpoint=qwen3"),
        ]

    def test_kuberay_may_be_where_the_platform_says(self) -> None:
        """A label is anybody's to give; a namespace is not."""
        spec = render(platform=Platform(kuberay_namespace="kuberay"))["NetworkPolicy"]["spec"]
        (to_ray,) = (rule for rule in spec["ingress"] if rule.get("ports", [{}])[0].get("port") == 8265)
        there = {"matchLabels": {"kubernetes.io/metadata.name": "kuberay"}}
        assert [peer["namespaceSelector"] for peer in to_ray["from"]] == [there, there]

    def test_ports_are_those_of_the_pods(self) -> None:
        objects = render()
        pods = (head(objects), worker(objects))
        declared = {port["containerPort"] for pod in pods for port in pod["spec"]["containers"][0]["ports"]}
        rules = objects["NetworkPolicy"]["spec"]["ingress"]
        assert {port["port"] for rule in rules for port in rule.get("ports", [])} <= declared

    def test_it_is_there_before_the_pods(self) -> None:
        kinds = list(render())
        assert kinds.index("NetworkPolicy") < kinds.index("RayService")


def openings(rules: list[Json]) -> Iterator[tuple[str, str]]:
    """(port, by whom) of every way in."""
    for rule in rules:
        for port in rule.get("ports", [{"port": "every port"}]):
            for peer in rule.get("from", [None]):
                yield str(port["port"]), "everybody" if peer is None else described(peer)


def described(peer: Json) -> str:
    labels = ",".join(f"{name}={value}" for name, value in peer["podSelector"]["matchLabels"].items())
    return f"{'any namespace' if peer.get('namespaceSelector') == {} else 'here'}: {labels}"


class TestModels:
    def test_downloads_end_with_the_pod_unless_there_is_a_cache(self) -> None:
        template = worker(render())
        assert env(template)["HF_HOME"].startswith("/models/cache/")
        assert volumes(template)["/models/cache"]["emptyDir"] == {}
        assert "PersistentVolumeClaim" not in render()

    def test_cache_claim(self) -> None:
        objects = render(model={"uri": "hf://a/b", "cache": {"size": "5Gi"}})
        claim = objects["PersistentVolumeClaim"]
        assert claim["spec"]["resources"]["requests"]["storage"] == "5Gi"
        assert "storageClassName" not in claim["spec"]  # "" would mean no class, absent means the default one
        source = volumes(worker(objects))["/models/cache"]["persistentVolumeClaim"]
        assert source == {"claimName": claim["metadata"]["name"]}

    def test_claim_of_the_users(self) -> None:
        objects = render(model={"uri": "hf://a/b", "cache": {"claimName": "ours"}})
        assert "PersistentVolumeClaim" not in objects
        assert volumes(worker(objects))["/models/cache"]["persistentVolumeClaim"] == {"claimName": "ours"}

    @pytest.mark.parametrize("uri", ["pvc://claim/a/b", "pvc://claim"])
    def test_model_on_a_claim(self, uri: str) -> None:
        template = worker(render(model={"uri": uri, "servedName": "m"}))
        mounted = volumes(template)[f"{env(template)[args.ENV_PVC_ROOT]}/claim"]
        assert mounted["persistentVolumeClaim"] == {"claimName": "claim", "readOnly": True}

    @pytest.mark.parametrize(
        ("claim", "model"),
        [
            ("ours", {"uri": "hf://a/b", "cache": {"claimName": "ours"}, "lora": {"claimName": "ours"}}),
            ("ours", {"uri": "pvc://ours/m", "servedName": "m", "cache": {"claimName": "ours"}, "lora": {}}),
            ("qwen3-cache", {"uri": "hf://a/b", "cache": {"size": "5Gi"}, "lora": {"claimName": "qwen3-cache"}}),
            ("qwen3-cache", {"uri": "pvc://qwen3-cache", "servedName": "m", "cache": {"size": "5Gi"}, "lora": {}}),
        ],
    )
    def test_the_claim_of_the_cache_is_one_volume_mounted_twice(self, claim: str, model: Json) -> None:
        """Two volumes of one claim keep a pod from starting, or make the cache read-only."""
        template = worker(render(model=model))
        claims = [one for one in template["spec"]["volumes"] if "persistentVolumeClaim" in one]
        assert claims == [{"name": "model-cache", "persistentVolumeClaim": {"claimName": claim}}]
        mounts = [one for one in template["spec"]["containers"][0]["volumeMounts"] if one["name"] == "model-cache"]
        assert mounts == [
            {"name": "model-cache", "mountPath": "/models/cache", "readOnly": False},
            {"name": "model-cache", "mountPath": f"/models/pvc/{claim}", "readOnly": True},
        ]


class TestAccess:
    @pytest.mark.parametrize(
        "count", [{"scaling": {"min": 0, "max": 2}}, {"scaling": {"min": 1, "max": 2}}, {}], ids=str
    )
    def test_a_head_knows_the_keys_whether_it_holds_requests_yet_or_not(self, count: dict[str, Any]) -> None:
        """`scaling.min: 0` reaches it in place: it must not take any key for a right one then."""
        api = {"keysSecret": {"name": "keys"}, "adminKeySecret": {"name": "admin", "key": "k"}}
        objects = render(api=api, **count)
        places = {args.ENV_KEYS_DIR, args.ENV_ADMIN_KEY_FILE}
        assert places <= set(env(worker(objects)))
        assert all(env(head(objects))[name] == env(worker(objects))[name] for name in places)
        mounted = {source["secret"]["secretName"] for source in volumes(head(objects)).values() if "secret" in source}
        assert mounted == {"keys", "admin"}

    def test_the_service_selects_the_workers_of_one_revision(self) -> None:
        objects = render()
        labels = worker(objects)["metadata"]["labels"]
        assert objects["Service"]["spec"]["selector"] == {**labels, "ray.io/serve": "true"}
        assert objects["RayService"]["spec"]["excludeHeadPodFromServeSvc"] is True
        (port,) = objects["Service"]["spec"]["ports"]
        assert port["targetPort"] in {one["name"] for one in worker(objects)["spec"]["containers"][0]["ports"]}

    @pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", "LoadBalancer"])
    def test_no_load_balancer_is_told_to_probe_by_http(self, kind: str) -> None:
        """Azure's would ask for `/` and take the 401 of an endpoint with keys for a dead node."""
        (port,) = render(api={"allowAnonymous": True, "service": {"type": kind}})["Service"]["spec"]["ports"]
        assert port.get("appProtocol") == (None if kind == "LoadBalancer" else "http")

    def test_a_drain_of_nodes_takes_one_replica_at_a_time(self) -> None:
        objects = render(replicas=3)
        budget = objects["PodDisruptionBudget"]["spec"]
        assert budget["minAvailable"] == 2
        assert budget["selector"]["matchLabels"] == objects["Service"]["spec"]["selector"]
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"

    def test_pods_that_are_never_ready_are_under_the_budget_where_replicas_have_such(self) -> None:
        budget = render(replicas=3, parallelism={"nodes": 2})["PodDisruptionBudget"]["spec"]
        assert budget["unhealthyPodEvictionPolicy"] == "IfHealthyBudget"

    @pytest.mark.parametrize("replicas", [0, 1])
    def test_a_budget_for_one_replica_could_only_forbid_every_drain(self, replicas: int) -> None:
        assert "PodDisruptionBudget" not in render(replicas=replicas)

    def test_a_route_has_no_time_limit(self) -> None:
        objects = render(
            api={"allowAnonymous": True, "route": {"parentRefs": [{"name": "g"}]}, "service": {"port": 81}}
        )
        (rule,) = objects["HTTPRoute"]["spec"]["rules"]
        assert rule["timeouts"] == {"request": "0s"}
        assert rule["backendRefs"] == [{"name": "qwen3", "port": 81}]

    def test_ingress(self) -> None:
        objects = render(api={"allowAnonymous": True, "ingress": {"host": "a.example.com", "tls": {"secretName": "t"}}})
        spec = objects["Ingress"]["spec"]
        assert spec["tls"] == [{"hosts": ["a.example.com"], "secretName": "t"}]
        assert spec["rules"][0]["host"] == "a.example.com"
        assert "ingressClassName" not in spec

    def test_what_outlives_a_revision_does_not_carry_its_name(self) -> None:
        before = render(model={"uri": "hf://a/b", "cache": {}})["PersistentVolumeClaim"]
        after = render(model={"uri": "hf://a/c", "cache": {}})["PersistentVolumeClaim"]
        assert before == after


class TestRedis:
    def test_the_head_keeps_its_state_there(self) -> None:
        redis = {"address": "rediss://redis.example.org:6380", "passwordSecret": {"name": "redis", "key": "password"}}
        assert cluster(render(highAvailability={"redis": redis}))["gcsFaultToleranceOptions"] == {
            "redisAddress": "rediss://redis.example.org:6380",
            "redisPassword": {"valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}},
        }

    def test_without_a_password(self) -> None:
        options = cluster(render(highAvailability={"redis": {"address": "redis:6379"}}))["gcsFaultToleranceOptions"]
        assert options == {"redisAddress": "redis:6379"}

    def test_two_revisions_never_share_a_store(self) -> None:
        """Unset, it is the uid of the RayCluster."""
        options = cluster(render(highAvailability={"redis": {"address": "redis:6379"}}))["gcsFaultToleranceOptions"]
        assert "externalStorageNamespace" not in options

    @pytest.mark.parametrize(
        "address", ["redis", "redis:0", "user:secret@redis:6379", "http://redis:6379", "redis:6379/0"]
    )
    def test_an_address_is_host_and_port(self, address: str) -> None:
        with pytest.raises(InvalidEndpoint, match=r"spec\.highAvailability\.redis\.address"):
            parse_endpoint(endpoint(highAvailability={"redis": {"address": address}}))


class TestSpread:
    def test_workers_of_a_revision_are_spread_where_there_is_room(self) -> None:
        objects = render()
        (constraint,) = worker(objects)["spec"]["topologySpreadConstraints"]
        assert constraint["topologyKey"] == "kubernetes.io/hostname"
        assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
        labels = constraint["labelSelector"]["matchLabels"]
        assert labels == {**worker(objects)["metadata"]["labels"], "ray.io/node-type": "worker"}

    def test_over_zones(self) -> None:
        (constraint,) = worker(render(highAvailability={"spread": "Zone"}))["spec"]["topologySpreadConstraints"]
        assert constraint["topologyKey"] == "topology.kubernetes.io/zone"

    def test_or_wherever_the_scheduler_puts_them(self) -> None:
        assert "topologySpreadConstraints" not in worker(render(highAvailability={"spread": "None"}))["spec"]


WIDE: dict[str, Any] = {"accelerator": {"count": 8}, "parallelism": {"nodes": 2}}


class TestSeveralNodes:
    def test_one_pod_and_one_bundle_for_each_node(self) -> None:
        objects = render(replicas=3, **WIDE)
        (group,) = cluster(objects)["workerGroupSpecs"]
        assert (group["replicas"], group["minReplicas"], group["maxReplicas"], group["numOfHosts"]) == (6, 6, 6, 1)
        only = deployment(objects)
        assert only["placement_group_bundles"] == [{"CPU": 64, "GPU": 8}] * 2
        assert only["placement_group_strategy"] == "STRICT_SPREAD"
        assert only["autoscaling_config"] == {"min_replicas": 3, "max_replicas": 3}
        assert only["ray_actor_options"] == {"num_cpus": 64, "num_gpus": 8}

    def test_its_pods_ask_for_rdma_devices(self) -> None:
        objects = render(network={"rdma": {"resourceName": "rdma/hca", "count": 4}}, **WIDE)
        limits = worker(objects)["spec"]["containers"][0]["resources"]["limits"]
        assert (limits["rdma/hca"], limits["nvidia.com/gpu"]) == ("4", "8")

    def test_one_node_is_rendered_as_ever(self) -> None:
        explicit, plain = render(parallelism={"attentionData": 1, "expert": 1, "nodes": 1}), render()
        names = [objects["RayService"]["metadata"]["name"] for objects in (explicit, plain)]
        assert str(explicit).replace(*names) == str(plain)
        assert not {"placement_group_bundles", "placement_group_strategy"} & deployment(render()).keys()
