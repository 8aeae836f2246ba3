"""spec.podTemplate: the strategic merge."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

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
