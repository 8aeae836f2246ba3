"""What is rendered, field by field where a wrong value loses requests, secrets or accelerators."""

from __future__ import annotations

import json
from typing import Final

import pytest
import schemas
from hypothesis import HealthCheck, assume, given, settings
from unit.api_objects import endpoint, well_formed_specs
from unit.rendered import Json, cluster, deployment, env, head, render, serve_config, volumes, worker, worker_group

from sglang_operator.api import InvalidEndpoint, parse_endpoint
from sglang_operator.api.versions import versions
from sglang_operator.render import Platform, render_endpoint, to_yaml
from sglang_operator.render.context import KILL_SECONDS
from sglang_serve import args


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

    def test_the_head_gets_none_but_keys(self) -> None:
        """It answers for the endpoint at zero replicas, which `scaling.min` makes possible under a head that runs."""
        template = head(render(**self.SPEC))
        secrets = {source["secret"]["secretName"] for source in volumes(template).values() if "secret" in source}
        assert secrets == {"sentinel-keys", "sentinel-admin"}
        others = {name: value for name, value in env(template).items() if name != args.ENV_ADMIN_KEY_FILE}
        assert "sentinel" not in json.dumps([others, template["spec"]["containers"][0].get("envFrom")])

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
        del serve[args.HAPROXY_THREADS]  # each node's own
        assert serve.items() <= of_head.items()
        assert of_head["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] == "7200"

    @pytest.mark.parametrize(("cpu", "threads"), [("500m", "1"), ("2", "1"), ("5", "2"), ("64", "4")])
    def test_haproxy_has_a_thread_for_two_cores(self, cpu: str, threads: str) -> None:
        objects = render(resources={"cpu": cpu}, head={"cpu": "4"})
        assert env(worker(objects))[args.HAPROXY_THREADS] == threads
        assert env(head(objects))[args.HAPROXY_THREADS] == "2"

    def test_a_short_drain_does_not_shorten_streams_of_healthy_replicas(self) -> None:
        assert env(head(render(upgrade={"drainSeconds": 1})))["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] == "3600"

    def test_the_platform_wins(self) -> None:
        user = [{"name": "RAY_SERVE_ENABLE_HA_PROXY", "value": "0"}, {"name": "MINE", "value": "1"}]
        template = worker(render(engine={"env": user}))
        assert env(template)["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
        assert env(template)["MINE"] == "1"
        listed = [one["name"] for one in template["spec"]["containers"][0]["env"]]
        assert len(listed) == len(set(listed))

    @pytest.mark.parametrize(("vendor", "jobs"), [("nvidia", None), ("amd", "12"), ("cpu", None)])
    def test_aiter_compiles_with_the_cores_of_the_pod(self, vendor: str, jobs: str | None) -> None:
        spec: Json = {"accelerator": {"vendor": vendor}, "resources": {"cpu": "12"}}
        assert env(worker(render(**spec))).get("MAX_JOBS") == jobs

    def test_the_users_number_of_compilers_counts(self) -> None:
        mine = {"env": [{"name": "MAX_JOBS", "value": "2"}]}
        assert env(worker(render(accelerator={"vendor": "amd"}, engine=mine)))["MAX_JOBS"] == "2"

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
        avoided = {one["key"] for one in term["matchExpressions"]}
        assert {"nvidia.com/gpu.present", "amd.com/gpu.product-name"} <= avoided
        # All that AMD's Helm chart has its labeller set, and what the GPU operator's rule sets on virtual machines.
        assert {"amd.com/gpu.device-id", "feature.node.kubernetes.io/amd-vgpu"} <= avoided

    def test_the_object_store_fits_into_shared_memory(self) -> None:
        """Otherwise Ray moves it to disk."""
        start = worker_group(render(resources={"sharedMemory": "512Mi"}))["rayStartParams"]
        assert int(start["object-store-memory"]) == 256 * 2**20


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
