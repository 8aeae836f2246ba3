"""What is rendered, field by field where a wrong value loses requests, secrets or accelerators."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
import schemas
import yaml
from hypothesis import HealthCheck, assume, given, settings
from unit.api_objects import endpoint, well_formed_specs

from sglang_operator.api import InvalidEndpoint, parse_endpoint
from sglang_operator.render import Platform, render_endpoint, to_yaml
from sglang_operator.render.context import KILL_SECONDS
from sglang_operator.render.platform import versions
from sglang_serve import args

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


@settings(max_examples=25, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow], deadline=None)
@given(spec=well_formed_specs)
def test_every_valid_endpoint_renders_to_objects_that_an_api_server_takes(spec: Json) -> None:
    try:
        parsed = parse_endpoint(endpoint(**spec))
    except InvalidEndpoint:
        assume(False)
    objects = render_endpoint(parsed)
    assert to_yaml(*objects) == to_yaml(*render_endpoint(parsed))
    for rendered in objects:
        assert schemas.errors(rendered) == []


class TestServeConfig:
    def test_the_replica_reads_its_arguments_back(self) -> None:
        objects = render(engine={"args": {"log_level": "warning"}}, accelerator={"count": 4})
        (application,) = serve_config(objects)["applications"]
        read = args.serve_args(application["args"])
        assert read.model == args.ModelArgs("hf://Qwen/Qwen3-8B", "main", "Qwen3-8B")
        assert (read.parallelism.tensor, read.engine) == (4, {"log_level": "warning"})
        assert read.revision == objects["RayService"]["metadata"]["name"]
        assert application["import_path"] == args.IMPORT_PATH
        assert (application["name"], application["route_prefix"]) == ("qwen3", "/")

    def test_live_arguments_have_an_id_that_changes_with_them(self) -> None:
        one = args.live_args(deployment(render())["user_config"])
        other = args.live_args(deployment(render(api={"unknownModel": "NotFound"}))["user_config"])
        assert one.config_id
        assert one.config_id != other.config_id

    def test_a_change_in_place_touches_no_application_argument(self) -> None:
        before, after = render(), render(replicas=2, api={"limits": {"maxBodyBytes": 4096}})
        assert serve_config(before)["applications"][0]["args"] == serve_config(after)["applications"][0]["args"]

    def test_streams_have_the_drain_limit_to_finish(self) -> None:
        objects = render(upgrade={"drainSeconds": 5000})
        graceful = deployment(objects)["graceful_shutdown_timeout_s"]
        command = worker(objects)["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert graceful == 5000 + 10 + 30
        assert command[-1] == str(graceful)
        assert worker(objects)["spec"]["terminationGracePeriodSeconds"] == graceful + KILL_SECONDS

    def test_serve_takes_zero_replicas_only_as_a_lower_bound(self) -> None:
        only = deployment(render(replicas=0))
        assert "num_replicas" not in only
        assert only["autoscaling_config"] == {"min_replicas": 0, "initial_replicas": 0, "max_replicas": 1}

    def test_no_queue_in_front_of_the_engines_own(self) -> None:
        only = deployment(render())
        assert (only["max_ongoing_requests"], only["max_queued_requests"]) == (100_000, -1)

    def test_engine_arguments_do_not_depend_on_their_order(self) -> None:
        first = {"log_level": "warning", "context_length": 4096}
        second = dict(reversed(first.items()))
        assert render(engine={"args": first}) == render(engine={"args": second})


class TestSecrets:
    SPEC: Final[Json] = {
        "model": {"uri": "hf://a/b", "tokenSecret": {"name": "sentinel-hub", "key": "sentinel-token"}},
        "engine": {"env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "sentinel-s", "key": "sentinel-k"}}}]},
        "api": {
            "keysSecret": {"name": "sentinel-keys"},
            "adminKeySecret": {"name": "sentinel-admin", "key": "sentinel-key"},
        },
    }

    def test_none_is_near_the_text_that_kuberay_logs(self) -> None:
        assert "sentinel" not in render(**self.SPEC)["RayService"]["spec"]["serveConfigV2"]

    def test_literal_environment_of_the_user_stays_out_of_it_too(self) -> None:
        objects = render(engine={"env": [{"name": "PASSWORD", "value": "sentinel"}]})
        assert "sentinel" not in objects["RayService"]["spec"]["serveConfigV2"]

    def test_the_head_gets_none(self) -> None:
        assert "sentinel" not in json.dumps(head(render(**self.SPEC)))

    def test_keys_are_directories(self) -> None:
        """A subPath is not updated when the Secret changes."""
        template = worker(render(**self.SPEC))
        mounted = volumes(template)
        assert mounted[env(template)[args.ENV_KEYS_DIR]]["secret"] == {"secretName": "sentinel-keys"}
        directory, _, file = env(template)[args.ENV_ADMIN_KEY_FILE].rpartition("/")
        item = {"key": "sentinel-key", "path": file}
        assert mounted[directory]["secret"] == {"secretName": "sentinel-admin", "items": [item]}
        assert "subPath" not in json.dumps(template)

    def test_the_hub_token_is_a_reference(self) -> None:
        source = env(worker(render(**self.SPEC)))["HF_TOKEN"]
        assert source == {"secretKeyRef": {"name": "sentinel-hub", "key": "sentinel-token"}}


class TestEnvironment:
    def test_controller_and_proxies_read_the_same_settings(self) -> None:
        objects = render(upgrade={"drainSeconds": 7200})
        of_head, of_worker = env(head(objects)), env(worker(objects))
        serve = {name: value for name, value in of_worker.items() if name.startswith("RAY_")}
        assert serve.items() <= of_head.items()
        assert of_head["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] == "7200"

    def test_a_short_drain_does_not_shorten_streams_of_healthy_replicas(self) -> None:
        assert env(head(render(upgrade={"drainSeconds": 1})))["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] == "3600"

    def test_the_platform_wins(self) -> None:
        user = [{"name": "RAY_SERVE_ENABLE_HA_PROXY", "value": "0"}, {"name": "MINE", "value": "1"}]
        template = worker(render(engine={"env": user}))
        assert env(template)["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
        assert env(template)["MINE"] == "1"
        listed = [one["name"] for one in template["spec"]["containers"][0]["env"]]
        assert len(listed) == len(set(listed))

    @pytest.mark.parametrize("vendor", ["nvidia", "amd", "cpu"])
    def test_ray_chooses_the_devices(self, vendor: str) -> None:
        """In-process ranks see what Ray gives their replica: no NOSET flag, and nothing set by hand."""
        names = " ".join(env(worker(render(accelerator={"vendor": vendor}))))
        assert "VISIBLE_DEVICES" not in names


class TestAccelerators:
    @pytest.mark.parametrize(
        ("vendor", "device", "image"),
        [("nvidia", "nvidia.com/gpu", "cuda"), ("amd", "amd.com/gpu", "rocm"), ("cpu", None, "cpu")],
    )
    def test_vendor(self, vendor: str, device: str | None, image: str) -> None:
        objects = render(accelerator={"vendor": vendor, "count": 2})
        spec = worker(objects)["spec"]
        container = spec["containers"][0]
        assert f"sglang-serve-{image}:" in container["image"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert [key for key in container["resources"]["limits"] if "/" in key] == ([device] if device else [])
        assert worker_group(objects)["rayStartParams"]["num-gpus"] == ("2" if device else "0")
        assert deployment(objects)["ray_actor_options"].get("num_gpus") == (2 if device else None)
        assert [one["key"] for one in spec.get("tolerations", [])] == ([device] if device else [])

    def test_a_replica_takes_its_whole_pod(self) -> None:
        objects = render(resources={"cpu": "1500m"})
        assert worker_group(objects)["rayStartParams"]["num-cpus"] == "2"
        assert deployment(objects)["ray_actor_options"]["num_cpus"] == 2

    def test_a_slice_of_a_gpu_counts_as_one_for_ray(self) -> None:
        """Ray takes no number of GPUs from a resource that is not called gpu."""
        objects = render(accelerator={"resourceName": "nvidia.com/mig-1g.10gb"})
        limits = worker(objects)["spec"]["containers"][0]["resources"]["limits"]
        assert limits["nvidia.com/mig-1g.10gb"] == "1"
        assert "nvidia.com/gpu" not in limits
        assert worker_group(objects)["rayStartParams"]["num-gpus"] == "1"

    @pytest.mark.parametrize(
        ("vendor", "label"), [("nvidia", "nvidia.com/gpu.product"), ("amd", "amd.com/gpu.product-name")]
    )
    def test_products(self, vendor: str, label: str) -> None:
        objects = render(accelerator={"vendor": vendor, "products": ["A", "B"]})
        required = worker(objects)["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (term,) = required["nodeSelectorTerms"]
        assert term["matchExpressions"] == [{"key": label, "operator": "In", "values": ["A", "B"]}]

    def test_the_head_takes_no_node_with_accelerators_and_no_replica(self) -> None:
        objects = render()
        assert cluster(objects)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        assert cluster(objects)["headGroupSpec"]["rayStartParams"]["num-gpus"] == "0"
        required = head(objects)["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (term,) = required["nodeSelectorTerms"]
        assert {one["operator"] for one in term["matchExpressions"]} == {"DoesNotExist"}
        assert {"nvidia.com/gpu.present", "amd.com/gpu.product-name"} <= {
            one["key"] for one in term["matchExpressions"]
        }

    def test_the_object_store_fits_into_shared_memory(self) -> None:
        """Otherwise Ray moves it to disk."""
        start = worker_group(render(resources={"sharedMemory": "512Mi"}))["rayStartParams"]
        assert int(start["object-store-memory"]) == 256 * 2**20


class TestKubeRay:
    def test_a_revision_is_never_upgraded_in_place(self) -> None:
        assert render()["RayService"]["spec"]["upgradeStrategy"] == {"type": "None"}

    def test_a_fixed_count_is_both_bounds_of_the_autoscaler(self) -> None:
        objects = render(replicas=3)
        group = worker_group(objects)
        assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (3, 3, 3)
        assert cluster(objects)["enableInTreeAutoscaling"] is True
        assert cluster(objects)["autoscalerOptions"]["version"] == "v2"

    def test_start_parameters_are_text(self) -> None:
        objects = render()
        groups = [cluster(objects)["headGroupSpec"], worker_group(objects)]
        assert all(isinstance(value, str) for group in groups for value in group["rayStartParams"].values())

    def test_labels_of_pods_are_ours_alone(self) -> None:
        """KubeRay lets a template override its own labels, which breaks the selector of the head's Service."""
        objects = render()
        revision = objects["RayService"]["metadata"]["name"]
        expected = {"serve.sglang.io/endpoint": "qwen3", "serve.sglang.io/revision": revision}
        assert head(objects)["metadata"]["labels"] == worker(objects)["metadata"]["labels"] == expected

    def test_the_head_declares_every_port_that_kuberay_needs(self) -> None:
        """It adds its own only if there are none."""
        ports = {port["name"]: port["containerPort"] for port in head(render())["spec"]["containers"][0]["ports"]}
        wanted = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "serve": 8000, "metrics": 8080}
        assert ports == wanted

    def test_readiness_asks_haproxy_and_is_patient(self) -> None:
        probe = worker(render())["spec"]["containers"][0]["readinessProbe"]
        assert probe["httpGet"] == {"path": "/-/healthz", "port": "serve"}
        assert probe["failureThreshold"] > 1
        assert probe["timeoutSeconds"] >= 5

    def test_the_autoscaler_alone_gets_a_token_of_the_api_server(self) -> None:
        objects = render()
        spec = head(objects)["spec"]
        mount = "/var/run/secrets/kubernetes.io/serviceaccount"
        assert spec["automountServiceAccountToken"] is False
        assert mount not in volumes(head(objects))
        (of_autoscaler,) = cluster(objects)["autoscalerOptions"]["volumeMounts"]
        assert of_autoscaler["mountPath"] == mount
        (volume,) = [one for one in spec["volumes"] if one["name"] == of_autoscaler["name"]]
        assert {key for source in volume["projected"]["sources"] for key in source} == {
            "serviceAccountToken",
            "configMap",
            "downwardAPI",
        }

    def test_workers_get_a_token_only_with_an_account(self) -> None:
        assert worker(render())["spec"]["automountServiceAccountToken"] is False
        assert "serviceAccountName" not in head(render(serviceAccountName="reader"))["spec"]
        spec = worker(render(serviceAccountName="reader"))["spec"]
        assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("reader", True)

    def test_pods_are_restricted(self) -> None:
        objects = render()
        for template in (head(objects), worker(objects)):
            assert template["spec"]["securityContext"]["runAsNonRoot"] is True
            assert template["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            security = template["spec"]["containers"][0]["securityContext"]
            assert security == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

    def test_kueue_admits_only_what_is_declared_elastic(self) -> None:
        metadata = render(scheduling={"queueName": "q"})["RayService"]["metadata"]
        assert metadata["labels"]["kueue.x-k8s.io/queue-name"] == "q"
        assert metadata["annotations"] == {"kueue.x-k8s.io/elastic-job": "true"}
        assert "annotations" not in render()["RayService"]["metadata"]


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

    def test_mirror_of_the_platform(self) -> None:
        template = worker(render(Platform(model_mirror_claim="mirror")))
        mounted = volumes(template)[env(template)[args.ENV_MODEL_MIRROR]]
        assert mounted["persistentVolumeClaim"] == {"claimName": "mirror", "readOnly": True}
        assert args.ENV_MODEL_MIRROR not in env(worker(render()))


class TestAccess:
    def test_the_service_selects_the_workers_of_one_revision(self) -> None:
        objects = render()
        labels = worker(objects)["metadata"]["labels"]
        assert objects["Service"]["spec"]["selector"] == {**labels, "ray.io/serve": "true"}
        assert objects["RayService"]["spec"]["excludeHeadPodFromServeSvc"] is True
        (port,) = objects["Service"]["spec"]["ports"]
        assert port["targetPort"] in {one["name"] for one in worker(objects)["spec"]["containers"][0]["ports"]}

    def test_a_drain_of_nodes_takes_one_replica_at_a_time(self) -> None:
        objects = render(replicas=3)
        budget = objects["PodDisruptionBudget"]["spec"]
        assert budget["minAvailable"] == 2
        assert budget["selector"]["matchLabels"] == objects["Service"]["spec"]["selector"]

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


def test_everything_is_labelled_and_in_the_endpoints_namespace() -> None:
    document = {
        **endpoint(replicas=2, model={"uri": "hf://a/b", "cache": {}}),
        "metadata": {"name": "e", "namespace": "n"},
    }
    for rendered in render_endpoint(parse_endpoint(document)):
        assert rendered["metadata"]["namespace"] == "n"
        assert rendered["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "sglang-operator"
        assert rendered["metadata"]["labels"]["serve.sglang.io/endpoint"] == "e"


def test_the_default_image_says_which_versions_it_holds() -> None:
    tag = Platform().images["nvidia"].rpartition(":")[2]
    assert tag == f"sglang{versions()['sglang']}-ray{versions()['ray']}"
    assert cluster(render())["rayVersion"] == versions()["ray"]


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
        assert (only["num_replicas"], only["ray_actor_options"]) == (3, {"num_cpus": 64, "num_gpus": 8})

    def test_its_pods_ask_for_rdma_devices(self) -> None:
        objects = render(network={"rdma": {"resourceName": "rdma/hca", "count": 4}}, **WIDE)
        limits = worker(objects)["spec"]["containers"][0]["resources"]["limits"]
        assert (limits["rdma/hca"], limits["nvidia.com/gpu"]) == ("4", "8")

    def test_one_node_is_rendered_as_ever(self) -> None:
        explicit = {"attentionData": 1, "expert": 1, "nodes": 1}
        assert render(parallelism=explicit) == render()
        assert not {"placement_group_bundles", "placement_group_strategy"} & deployment(render()).keys()
