"""spec.podTemplate: what a patch may not touch, and what each refusal says."""

from __future__ import annotations

from typing import Any

import pytest
import schemas
from hypothesis import event, given
from hypothesis import strategies as st
from unit.api_objects import endpoint
from unit.test_render_pod_template import BASE, container

from sglang_operator.api import InvalidEndpoint, parse_endpoint
from sglang_operator.render import pod_fields, render_endpoint
from sglang_operator.render.pod_template import patch_pod

Json = dict[str, Any]


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
