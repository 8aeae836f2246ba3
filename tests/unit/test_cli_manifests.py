from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from sglang_operator.api import InvalidEndpoint
from sglang_operator.cli.manifests import InvalidManifest, read_endpoints

DEEP = "neither YAML nor JSON: more than 500 levels\n  remedy: "
GOOD = """\
apiVersion: serve.sglang.io/v1alpha1
kind: SGLangEndpoint
metadata: {name: NAME}
spec:
  model: {uri: "hf://org/model"}
"""


def manifest(name: str) -> str:
    return GOOD.replace("NAME", name)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_file(name: str, text: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write_file


def names(files: list[str]) -> list[str]:
    return [endpoint.name for endpoint in read_endpoints(files)]


def findings(*files: str) -> str:
    with pytest.raises(InvalidManifest) as error:
        read_endpoints(list(files))
    return str(error.value)


def test_many_documents_many_files(write: Any) -> None:
    first = write("a.yaml", f"---\n{manifest('a')}---\n---\n{manifest('b')}")
    assert names([first, write("c.yaml", manifest("c"))]) == ["a", "b", "c"]


def test_a_list_as_kubectl_prints_it(write: Any) -> None:
    item = {"apiVersion": "serve.sglang.io/v1alpha1", "kind": "SGLangEndpoint", "metadata": {"name": "a"}}
    item["spec"] = {"model": {"uri": "hf://org/model"}}
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [item]})
    assert names([write("a.json", text)]) == ["a"]
    del item["spec"]
    bad = write("b.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": [item]}))
    assert f"{bad}, item 1: spec: " in findings(bad)


def test_directory(write: Any, tmp_path: Path) -> None:
    write("b.yml", manifest("b"))
    write("a.yaml", manifest("a"))
    write("README.md", "not this")
    assert names([str(tmp_path)]) == ["a", "b"]


def test_directory_without_manifests(tmp_path: Path) -> None:
    assert f"{tmp_path}: file: no .yaml, .yml or .json file" in findings(str(tmp_path))


def test_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(manifest("a").encode())))
    assert names(["-"]) == ["a"]


def test_namespace_of_the_document_wins(write: Any) -> None:
    own = manifest("b").replace("{name: b}", "{name: b, namespace: own}")
    found = read_endpoints([write("a.yaml", f"{manifest('a')}---\n{own}")], namespace="given")
    assert [endpoint.namespace for endpoint in found] == ["given", "own"]


def test_json_escapes_beyond_the_basic_plane(write: Any) -> None:
    text = json.dumps({"apiVersion": "serve.sglang.io/v1alpha1", "kind": "SGLangEndpoint", "metadata": {"name": "a"}})
    spec = '{"model": {"uri": "hf://o/m"}, "api": {"service": {"annotations": {"note": "\\ud83e\\udd99"}}}}'
    (endpoint,) = read_endpoints([write("a.json", f'{text[:-1]}, "spec": {spec}}}')])
    assert endpoint.spec.api.service.annotations == {"note": "\N{LLAMA}"}


def test_a_date_is_text(write: Any) -> None:
    (endpoint,) = read_endpoints([write("a.yaml", manifest("a").replace('"}', '", servedName: 2026-01-01}'))])
    assert endpoint.spec.model.served_name == "2026-01-01"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("scheduling: {nodeSelector: {gpu: y}}", "gpu: must be text (found true)"),  # as the API server says
        ("scheduling: {nodeSelector: {version: 1e3}}", "version: must be text (found 1000.0)"),
        ("replicas: 1e-1", "spec.replicas: must be a whole number (found 0.1)"),
        ("paused: yEs", 'spec.paused: must be true or false (found "yEs")'),
    ],
)
def test_a_word_is_what_it_is_in_the_cluster(write: Any, spec: str, said: str) -> None:
    assert said in findings(write("a.yaml", f"{manifest('a')}  {spec}\n"))


def test_what_is_text_in_the_cluster_is_text(write: Any) -> None:
    spec = "  api: {service: {annotations: {since: 12:30}}}\n  paused: on\n"
    (endpoint,) = read_endpoints([write("a.yaml", manifest("a") + spec)])
    assert endpoint.spec.api.service.annotations == {"since": "12:30"}
    assert endpoint.spec.paused


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no document in it"),
        ("# only a comment\n---\n", "no document in it"),
        ("a: [", "neither YAML nor JSON"),
        ('{"a": 1,}}', "neither YAML nor JSON"),
        ("a: 1\nb: 2\na: 3\n", "key 'a' is there twice\n  remedy: mend line 3, column 1"),
        ('{"a": {"b": 1, "b": 2}}', "key 'b' is there twice"),
        ("? [a, b]\n: 1\n", "found unhashable key"),
        ("kind: List\nitems: 5\n", "items is no list"),
        ("kind: List\nitems: []\n", "an empty List"),
        ("a: !!python/object:os.system {}", "neither YAML nor JSON"),
        (b"\xff\xfe\x00", "not UTF-8"),
        ("a: " + "9" * 5000, "neither YAML nor JSON"),
        pytest.param("[" * 5000, f"{DEEP}mend line 1, column 501", id="brackets"),
        pytest.param("a:\n  b: " + "[" * 100_000, f"{DEEP}mend line 2, column 504", id="more brackets"),
        pytest.param("- " * 100_000, f"{DEEP}mend line 1, column 1001", id="lists"),
        pytest.param('{"a": ' * 100_000 + "1" + "}" * 100_000, f"{DEEP}mend line 1, column 3001", id="mappings"),
        ("a: !!timestamp x", "neither YAML nor JSON"),
        ("a: &a [*a]", "kind: must be SGLangEndpoint"),
    ],
)
def test_unreadable(write: Any, text: str | bytes, said: str) -> None:
    path = write("e.yaml", text)
    message = findings(path)
    assert said in message
    assert message.startswith(path)
    assert "remedy: " in message


def test_no_such_file(tmp_path: Path) -> None:
    message = findings(str(tmp_path / "nowhere.yaml"))
    assert "nowhere.yaml: file: No such file or directory" in message
    assert "remedy: name a file that exists" in message


def test_every_finding_names_its_document(write: Any) -> None:
    bad = manifest("b").replace("hf://org/model", "ftp://x")
    path = write("e.yaml", f"{manifest('a')}---\n{bad}---\nkind: ConfigMap\n")
    message = findings(path, "nowhere.yaml")
    assert f"{path}, document 1" not in message
    assert f"{path}, document 2: spec.model.uri: " in message
    assert '(found "ftp://x")' in message
    assert f'{path}, document 3: kind: must be SGLangEndpoint (found "ConfigMap")' in message
    assert "nowhere.yaml: file: " in message


def test_other_kinds_of_a_directory_are_passed_over(
    write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("a.yaml", manifest("a"))
    write("kustomization.yaml", "resources: [a.yaml]\n")
    write("config.yaml", "apiVersion: v1\nkind: ConfigMap\n")
    write("secret.yaml", "apiVersion: v1\nkind: Secret\n")
    assert [one.name for one in read_endpoints([str(tmp_path)])] == ["a"]
    said = capsys.readouterr().err
    assert said == f"note: {tmp_path}: 2 of 3 documents are of other kinds: ConfigMap, Secret\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("apiVersion: v1\nkind: Secret\n", "no SGLangEndpoint in it"),
        ("apiVersion: serve.sglang.io/v1alpha1\nkind: SGLangEndpont\n", "kind: must be SGLangEndpoint"),
        ("kind: SGLangEndpont\n", "kind: must be SGLangEndpoint"),
        ("- a list\n", "must be a mapping"),
    ],
)
def test_what_may_be_a_misspelt_endpoint_is_not_passed_over(write: Any, tmp_path: Path, text: str, said: str) -> None:
    write("a.yaml", text)
    assert said in findings(str(tmp_path))


def test_the_same_endpoint_twice(write: Any) -> None:
    first, second = write("a.yaml", manifest("a")), write("b.yaml", manifest("a"))
    assert f"{second}: metadata.name: this endpoint is also in {first}" in findings(first, second)


def test_findings_are_those_of_the_api(write: Any) -> None:
    with pytest.raises(InvalidEndpoint) as error:
        read_endpoints([write("a.yaml", manifest("a").replace("model:", "modle:"))])
    assert any("modle" in finding.path for finding in error.value.errors)
