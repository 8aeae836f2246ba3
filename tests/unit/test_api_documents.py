"""What a whole document may be: objects of other tools, fields beside spec, depth; and all findings at once."""

from __future__ import annotations

from typing import Any

import pytest
from unit.api_objects import endpoint, only_error, refused

from sglang_operator.api import InvalidEndpoint, parse_endpoint
from sglang_operator.api.other_tools import KINDS

QUOTES = "put it in quotes, as it is written in the file"  # YAML reads 1.10 as 1.1: what was written is lost
MIGRATED = ("InferenceService", "LLMInferenceService", "Model", "ModelDeployment", "RayService")
WORKER = "use spec.podTemplate.worker.spec."


class TestDocuments:
    def test_every_finding_at_once(self) -> None:
        errors = refused(endpoint(replicas=-1, model={"uri": 3}, unknown=1))
        assert [error.path for error in errors] == ["spec.replicas", "spec.model.uri", "spec.unknown"]

    @pytest.mark.parametrize(
        ("obj", "path"),
        [
            (None, "document"),
            ([], "document"),
            ({}, "kind"),
            ({"kind": ["Deployment"]}, "kind"),
            ({"kind": "Deployment", "apiVersion": "apps/v1"}, "kind"),
            ({"kind": "SGLangEndpoint", "apiVersion": "serve.sglang.io/v1"}, "apiVersion"),
        ],
    )
    def test_something_else_altogether(self, obj: Any, path: str) -> None:
        assert only_error(obj).path == path

    @pytest.mark.parametrize("kind", sorted({*KINDS, *MIGRATED}))
    def test_an_object_of_another_tool(self, kind: str) -> None:
        assert "docs/how-to/migrate.md" in only_error({"kind": kind}).remedy
        assert only_error({"kind": "Deployment"}).remedy == "write kind: SGLangEndpoint"

    @pytest.mark.parametrize(
        ("field", "remedy"),
        [
            ("replicas", "did you mean spec.replicas?"),
            ("podTemplate", "did you mean spec.podTemplate?"),
            ("specs", "did you mean spec?"),
            ("data", "remove it, or use one of: apiVersion, kind, metadata, spec"),
        ],
    )
    def test_a_field_beside_spec(self, field: str, remedy: str) -> None:
        """Out by one indentation: an API server refuses it, or leaves it out without a word."""
        error = only_error({**endpoint(), field: 2})
        assert (error.path, error.message, error.remedy) == (field, "unknown field", remedy)

    def test_status_is_the_operators(self) -> None:
        assert parse_endpoint({**endpoint(), "status": {"conditions": []}}) == parse_endpoint(endpoint())

    def test_text_has_field_value_and_remedy(self) -> None:
        text = str(InvalidEndpoint(refused(endpoint(replicas=-1))))
        assert text.splitlines() == [
            "spec.replicas: must be at least 0 (found -1)",
            "  remedy: use a number from 0 to 1000",
        ]

    def test_namespace(self) -> None:
        bad = endpoint()
        bad["metadata"]["namespace"] = "my.team"
        assert only_error(bad).path == "metadata.namespace"

    @pytest.mark.parametrize("depth", [100, 400, 5000])
    def test_deep_documents(self, depth: int) -> None:
        nest: Any = 1
        for _ in range(depth):
            nest = [nest]
        obj = endpoint()
        obj["spec"] |= {"replicas": nest, "engine": {"args": {"numa_node": nest}}}
        assert "spec.replicas" in str(InvalidEndpoint(refused(obj)))

    def test_levels_beyond_what_is_read(self) -> None:
        nest: Any = 1
        for _ in range(400):
            nest = {"a": nest}
        found = only_error(endpoint(engine={"args": {"json_model_override_args": nest}}))
        assert (found.message, found.remedy) == ("is nested too deeply", "write it with fewer levels")

    def test_documents_that_contain_themselves(self) -> None:
        args: dict[str, Any] = {}
        args["again"] = args
        assert only_error(endpoint(engine={"args": args})).message == "contains itself, or is nested too deeply"
        loop = endpoint()
        loop["spec"]["model"] = loop["spec"]
        assert str(InvalidEndpoint(refused(loop)))
