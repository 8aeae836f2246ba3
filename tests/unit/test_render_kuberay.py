"""What is rendered for KubeRay: what keeps it from rolling, restarting or starving what serves."""

from __future__ import annotations

from unit.rendered import cluster, head, render, volumes, worker, worker_group


class TestKubeRay:
    def test_a_revision_is_never_upgraded_in_place(self) -> None:
        assert render()["RayService"]["spec"]["upgradeStrategy"] == {"type": "None"}

    def test_a_fixed_count_is_both_bounds_of_the_autoscaler(self) -> None:
        objects = render(replicas=3)
        group = worker_group(objects)
        assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (3, 3, 3)
        assert cluster(objects)["enableInTreeAutoscaling"] is True
        assert cluster(objects)["autoscalerOptions"]["version"] == "v2"

    def test_no_time_out_of_the_autoscaler_ends_a_wait_for_a_node(self) -> None:
        told = {one["name"]: one["value"] for one in cluster(render())["autoscalerOptions"]["env"]}
        longest = 86_400  # of spec.upgrade
        assert int(told["RAY_AUTOSCALER_RECONCILE_ALLOCATE_STATUS_TIMEOUT_S"]) > 5 * longest
        assert int(told["RAY_AUTOSCALER_PENDING_NODE_IDLE_TIMEOUT_S"]) == 3600, "nobody asks for that pod any more"

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
