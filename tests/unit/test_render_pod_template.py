"""spec.podTemplate: the strategic merge, and what a patch may not touch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import schemas
from hypothesis import event, given
from hypothesis import strategies as st
from unit.api_objects import endpoint

from sglang_operator.api import InvalidEndpoint, parse_endpoint
from sglang_operator.render import pod_fields, render_endpoint
from sglang_operator.render.pod_template import patch_pod
from sglang_operator.render.strategic_merge import BadPatch, merge

Json = dict[str, Any]
BASE: Json = {
    "metadata": {"labels": {"a": "1"}},
    "spec": {
        "hostname": "h",
        "tolerations": [{"key": "a"}, {"key": "b"}],
        "containers": [
            {
                "name": "ray-worker",
                "image": "one",
                "command": ["a", "b"],
                "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}],
                "ports": [{"name": "serve", "containerPort": 8000}],
                "volumeMounts": [{"mountPath": "/a", "name": "a"}],
            },
        ],
        "volumes": [{"name": "a", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}],
    },
}


def container(merged: Json, position: int = 0) -> Json:
    found: Json = merged["spec"]["containers"][position]
    return found


def patched(**of_container: Any) -> Json:
    return container(merge(BASE, {"spec": {"containers": [{"name": "ray-worker", **of_container}]}}))


class TestMerge:
    def test_nothing_changes_nothing(self) -> None:
        assert merge(BASE, {}) == BASE

    def test_the_base_is_left_as_it_is(self) -> None:
        before = copy.deepcopy(BASE)
        merge(BASE, {"spec": {"containers": [{"name": "ray-worker", "env": [{"name": "X", "value": "9"}]}]}})
        assert before == BASE

    def test_maps_are_merged_and_null_removes(self) -> None:
        merged = merge(BASE, {"metadata": {"labels": {"b": "2"}}, "spec": {"hostname": None}})
        assert merged["metadata"]["labels"] == {"a": "1", "b": "2"}
        assert "hostname" not in merged["spec"]

    def test_a_map_can_be_replaced(self) -> None:
        assert merge(BASE, {"metadata": {"labels": {"$patch": "replace", "b": "2"}}})["metadata"]["labels"] == {
            "b": "2"
        }

    def test_containers_by_name(self) -> None:
        merged = merge(BASE, {"spec": {"containers": [{"name": "more"}, {"name": "ray-worker", "image": "two"}]}})
        assert [one["name"] for one in merged["spec"]["containers"]] == ["ray-worker", "more"]
        assert container(merged)["image"] == "two"
        assert container(merged)["command"] == ["a", "b"]

    @pytest.mark.parametrize(
        ("field", "patch", "expected"),
        [
            ("env", [{"name": "X", "value": "9"}], [{"name": "X", "value": "9"}, {"name": "Y", "value": "2"}]),
            ("env", [{"name": "X", "$patch": "delete"}], [{"name": "Y", "value": "2"}]),
            ("env", [{"name": "Z", "$patch": "delete"}], BASE["spec"]["containers"][0]["env"]),
            ("ports", [{"name": "serve", "containerPort": 9}], [{"name": "serve", "containerPort": 9}]),
            (
                "volumeMounts",
                [{"mountPath": "/a", "readOnly": True}, {"mountPath": "/b", "name": "b"}],
                [{"mountPath": "/a", "name": "a", "readOnly": True}, {"mountPath": "/b", "name": "b"}],
            ),
            ("command", ["c"], ["c"]),
        ],
    )
    def test_lists(self, field: str, patch: Any, expected: Any) -> None:
        assert patched(**{field: patch})[field] == expected

    def test_a_variable_has_one_source(self) -> None:
        source = {"fieldRef": {"fieldPath": "spec.nodeName"}}
        assert patched(env=[{"name": "X", "valueFrom": source}])["env"][0] == {"name": "X", "valueFrom": source}

    def test_a_volume_has_one_source(self) -> None:
        (volume,) = merge(BASE, {"spec": {"volumes": [{"name": "a", "hostPath": {"path": "/x"}}]}})["spec"]["volumes"]
        assert volume == {"name": "a", "hostPath": {"path": "/x"}}

    def test_the_same_source_is_merged(self) -> None:
        """A larger /dev/shm must stay memory."""
        (volume,) = merge(BASE, {"spec": {"volumes": [{"name": "a", "emptyDir": {"sizeLimit": "9Gi"}}]}})["spec"][
            "volumes"
        ]
        assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "9Gi"}

    @pytest.mark.parametrize("probe", ["livenessProbe", "readinessProbe", "startupProbe"])
    def test_a_probe_has_one_handler(self, probe: str) -> None:
        base = {probe: {"httpGet": {"path": "/", "port": 1}, "periodSeconds": 5}}
        assert merge(base, {probe: {"exec": {"command": ["a"]}}})[probe] == {
            "exec": {"command": ["a"]},
            "periodSeconds": 5,
        }
        assert merge(base, {probe: {"httpGet": {"path": "/x"}}})[probe] == {
            "httpGet": {"path": "/x", "port": 1},
            "periodSeconds": 5,
        }
        assert merge(base, {probe: {"grpc": None, "periodSeconds": 9}})[probe]["httpGet"] == {"path": "/", "port": 1}

    def test_a_hook_has_one_handler(self) -> None:
        base = {"lifecycle": {"preStop": {"exec": {"command": ["a"]}}}}
        merged = merge(base, {"lifecycle": {"preStop": {"sleep": {"seconds": 5}}, "postStart": {"exec": {}}}})
        assert merged["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}, "postStart": {"exec": {}}}

    def test_tolerations_are_one_value(self) -> None:
        assert merge(BASE, {"spec": {"tolerations": [{"key": "c"}]}})["spec"]["tolerations"] == [{"key": "c"}]

    def test_a_new_part_keeps_no_nulls_or_directives(self) -> None:
        merged = merge({}, {"spec": {"a": {"b": None, "$patch": "replace"}, "env": [{"name": "X", "value": None}]}})
        assert merged == {"spec": {"a": {}, "env": [{"name": "X"}]}}

    @pytest.mark.parametrize(
        ("patch", "path"),
        [
            ({"spec": []}, "spec"),
            ({"spec": {"containers": {}}}, "spec.containers"),
            ({"spec": {"hostname": ["a"]}}, "spec.hostname"),
            ({"spec": {"containers": ["a"]}}, "spec.containers[0]"),
            ({"spec": {"containers": [{"image": "a"}]}}, "spec.containers[0].name"),
            ({"spec": {"containers": [{"name": "ray-worker", "env": [{}]}]}}, "spec.containers[0].env[0].name"),
            ({"spec": {"$patch": "merge"}}, "spec.$patch"),
            ({"spec": {"$retainKeys": ["a"]}}, "spec.$retainKeys"),
        ],
    )
    def test_what_does_not_fit(self, patch: Json, path: str) -> None:
        with pytest.raises(BadPatch) as error:
            merge(BASE, patch)
        assert error.value.path == path

    @given(
        patch=st.recursive(
            st.none() | st.booleans() | st.text(max_size=2),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(["spec", "env", "containers", "name", "$patch", "a"]), inner, max_size=3
                )
            ),
            max_leaves=8,
        )
    )
    def test_any_patch_fits_or_is_refused_with_its_place(self, patch: Any) -> None:
        try:
            merged = merge(BASE, {"spec": patch})
        except BadPatch as bad:
            event(f"refused: {bad.message}")
        else:
            assert merge(merged, {"spec": patch}) == merged  # applied twice is applied once


def findings(patch: Json, group: str = "worker") -> list[str]:
    with pytest.raises(InvalidEndpoint) as error:
        patch_pod(BASE, patch, group)
    return [finding.path for finding in error.value.errors]


def remedy_of(spec: Json) -> str:
    with pytest.raises(InvalidEndpoint) as error:
        patch_pod(BASE, {"spec": spec}, "worker")
    (finding,) = error.value.errors
    return finding.remedy


class TestRefused:
    @pytest.mark.parametrize("label", ["ray.io/cluster", "app.kubernetes.io/name", "app.kubernetes.io/created-by"])
    @pytest.mark.parametrize("value", ["x", None])
    def test_labels_of_kuberay(self, label: str, value: str | None) -> None:
        patch = {"metadata": {"labels": {label: value}}}
        assert findings(patch, "head") == [f'spec.podTemplate.head.metadata.labels["{label}"]']

    def test_labels_of_the_operator(self) -> None:
        assert findings({"metadata": {"labels": {"serve.sglang.io/revision": "x"}}})

    @pytest.mark.parametrize("metadata", [None, {"labels": None}, {"labels": {"$patch": "replace"}}])
    def test_the_labels_that_select_the_pod_stay(self, metadata: Any) -> None:
        assert "spec.podTemplate.worker.metadata.labels" in findings({"metadata": metadata})

    def test_labels_are_text(self) -> None:
        assert findings({"metadata": {"labels": {"b": 1}}}) == ['spec.podTemplate.worker.metadata.labels["b"]']

    @pytest.mark.parametrize("labels", [{"team": "ml/llm"}, {"owner": "a@example.com"}, {"b": "x" * 64}, {"a b": "c"}])
    def test_labels_that_no_pod_can_have(self, labels: dict[str, str]) -> None:
        ((name, _),) = labels.items()
        assert findings({"metadata": {"labels": labels}}) == [f'spec.podTemplate.worker.metadata.labels["{name}"]']
        assert patch_pod(BASE, {"metadata": {"labels": {"a.b/c": "", "d": "e_f.1-G"}}}, "worker")

    @pytest.mark.parametrize("key", ["name", "namespace", "ownerReferences"])
    def test_other_metadata(self, key: str) -> None:
        assert findings({"metadata": {key: "x"}}) == [f"spec.podTemplate.worker.metadata.{key}"]

    def test_anything_beside_metadata_and_spec(self) -> None:
        assert findings({"containers": []}) == ["spec.podTemplate.worker.containers"]

    @pytest.mark.parametrize(
        "containers", [[{"name": "ray-worker", "$patch": "delete"}], None], ids=["deleted", "all deleted"]
    )
    def test_ray_stays_the_first_container(self, containers: Any) -> None:
        assert "spec.podTemplate.worker.spec.containers" in findings({"spec": {"containers": containers}})

    def test_restart_policy(self) -> None:
        assert findings({"spec": {"restartPolicy": "Always"}}) == ["spec.podTemplate.worker.spec.restartPolicy"]

    @pytest.mark.parametrize(
        ("spec", "path", "remedy"),
        [
            ({"nodeSelectr": {"a": "b"}}, "nodeSelectr", "did you mean nodeSelector?"),
            (
                {"containers": [{"name": "ray-worker", "envs": []}]},
                'containers["ray-worker"].envs',
                "did you mean env?",
            ),
            ({"containers": [{"name": "ray-wroker"}]}, 'containers["ray-wroker"]', 'did you mean "ray-worker"?'),
            ({"containers": [{"name": "proxy"}]}, 'containers["proxy"]', "give it one, or patch ray-worker"),
        ],
    )
    def test_what_was_meant_to_be_another(self, spec: Json, path: str, remedy: str) -> None:
        with pytest.raises(InvalidEndpoint) as error:
            patch_pod(BASE, {"spec": spec}, "worker")
        (finding,) = error.value.errors
        assert finding.path == f"spec.podTemplate.worker.spec.{path}"
        assert remedy in finding.remedy

    def test_what_is_like_no_other_is_told_nothing_of_others(self) -> None:
        assert remedy_of({"initContainers": [{"name": "fetch"}]}) == "give it one"

    def test_a_container_that_lost_its_image_is_not_asked_whether_it_is_itself(self) -> None:
        assert remedy_of({"containers": [{"name": "ray-worker", "image": None}]}).startswith("leave its image out")

    def test_a_field_of_a_later_kubernetes_is_left_to_the_api_server(self) -> None:
        merged = patch_pod(BASE, {"spec": {"quantumEntanglement": True}}, "worker")
        assert merged["spec"]["quantumEntanglement"]

    def test_a_container_beside_it_with_its_image(self) -> None:
        merged = patch_pod(BASE, {"spec": {"containers": [{"name": "proxy", "image": "proxy:1"}]}}, "worker")
        assert container(merged, 1) == {"name": "proxy", "image": "proxy:1"}

    def test_the_known_fields_are_those_of_kubernetes(self) -> None:
        assert frozenset(schemas.fields_of_kind("io.k8s.api.core.v1.PodSpec")) == pod_fields.POD
        assert frozenset(schemas.fields_of_kind("io.k8s.api.core.v1.Container")) == pod_fields.CONTAINER

    @pytest.mark.parametrize(
        ("patch", "path", "message"),
        [
            ({"spec": {"initContainers": {"name": "x", "image": "y"}}}, "spec.initContainers", "must be a list"),
            ({"spec": {"initContainers": "x"}}, "spec.initContainers", "must be a list"),
            ({"spec": {"$patch": "replace", "containers": {"a": "b"}}}, "spec.containers", "must be a list"),
            ({"metadata": {"$patch": "replace", "labels": ["a"]}}, "metadata.labels", "must be an object"),
            ({"$patch": "replace", "spec": []}, "spec", "must be an object"),
        ],
    )
    def test_another_shape_where_nothing_was(self, patch: Json, path: str, message: str) -> None:
        """It ended the pass of the operator, which said nothing in status, and the CLI with a traceback."""
        with pytest.raises(InvalidEndpoint) as error:
            patch_pod(BASE, patch, "worker")
        (finding,) = error.value.errors
        assert (finding.path, finding.message) == (f"spec.podTemplate.worker.{path}", message)

    @given(
        patch=st.recursive(
            st.none() | st.booleans() | st.sampled_from(["replace", "delete", "ray-worker"]),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(
                        ["metadata", "labels", "annotations", "spec", "initContainers", "containers", "name", "$patch"]
                    ),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=8,
        ).filter(lambda patch: isinstance(patch, dict))
    )
    def test_any_patch_is_applied_or_refused(self, patch: Json) -> None:
        try:
            assert patch_pod(BASE, patch, "worker")["spec"]["containers"]
        except InvalidEndpoint as refusal:
            event(f"refused: {refusal.errors[0].message}")

    def test_a_patch_that_does_not_fit_names_field_and_remedy(self) -> None:
        with pytest.raises(InvalidEndpoint, match=r"spec\.podTemplate\.worker\.spec: must be an object(?s:.*)remedy: "):
            patch_pod(BASE, {"spec": "x"}, "worker")

    def test_rendering_says_it(self) -> None:
        parsed = parse_endpoint(endpoint(podTemplate={"worker": {"spec": {"containers": "none"}}}))
        with pytest.raises(InvalidEndpoint, match=r"spec\.podTemplate\.worker\.spec\.containers: must be a list"):
            render_endpoint(parsed)
