"""Reads endpoints from files as kubectl does: YAML or JSON, many documents, directories, `-` is stdin."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from sglang_operator.api import Endpoint, FieldError, InvalidEndpoint, shallow_yaml
from sglang_operator.api.defaults import NONE, parse_with_defaults
from sglang_operator.api.spec import GROUP
from sglang_operator.api.yaml_loader import ODD, Loader

STDIN = "-"
SUFFIXES = (".yaml", ".yml", ".json")  # what is read of a directory, as kubectl does
KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml")  # kustomize's own, which need not say their kind


class InvalidManifest(InvalidEndpoint):
    """Findings of several documents; `str()` says for each finding in which file and document it is."""

    def __init__(self, findings: Sequence[tuple[str, FieldError]]) -> None:
        super().__init__(tuple(error for _, error in findings))
        self.findings = tuple(findings)

    def __str__(self) -> str:
        return "\n".join(f"{place}: {error}" for place, error in self.findings)


@dataclass(frozen=True)
class Document:
    """One object of a file: where it is, in words, and what it says."""

    place: str
    content: Any


def read_endpoints(
    files: Sequence[str],
    namespace: str = "default",
    defaults: Mapping[str, Any] = NONE,
    check: Callable[[Endpoint], object] = lambda _: None,
) -> list[Endpoint]:
    """Every endpoint in `files`, in order, over `defaults`; those without a namespace are in `namespace`.

    Raises InvalidManifest with every finding of every document, those of an InvalidEndpoint from `check` among them.
    """
    found: list[tuple[Document, Endpoint]] = []
    wrong: list[tuple[str, FieldError]] = []
    for document in _documents(files, wrong):
        try:
            endpoint = parse_with_defaults(_in_namespace(document.content, namespace), defaults)
            found.append((document, endpoint))
            check(endpoint)
        except InvalidEndpoint as error:
            wrong += [(document.place, finding) for finding in error.errors]
    wrong += _twice(found)
    if wrong:
        raise InvalidManifest(wrong)
    return [endpoint for _, endpoint in found]


def warn(endpoints: Sequence[Endpoint]) -> None:
    """Show on stderr what is doubtful and yet accepted: arguments under `argsCheck: Warn`, defaults left out."""
    for endpoint in endpoints:
        for warning in endpoint.warnings:
            click.echo(f"warning: {endpoint.name}: {warning}", err=True)


def _documents(files: Sequence[str], wrong: list[tuple[str, FieldError]]) -> Iterator[Document]:
    """Every document of every file; what cannot be read is added to `wrong`."""
    for name in files:
        try:
            yield from _endpoints_among([one for path in _expand(name) for one in _read(path)], name)
        except Unreadable as error:
            wrong.append((error.place, error.finding))


def _endpoints_among(documents: Sequence[Document], name: str) -> Sequence[Document]:
    """Without what belongs to others: beside endpoints, a directory or another command's output may have any kind."""
    if name != STDIN and not Path(name).is_dir():
        return documents
    others = [document for document in documents if _is_of_another(document.content)]
    if len(others) == len(documents):
        raise Unreadable(name, "no SGLangEndpoint in it", "write one; examples/ has some")
    if others:
        kinds = ", ".join(sorted({str(document.content["kind"]) for document in others}))
        click.echo(f"note: {name}: {len(others)} of {len(documents)} documents are of other kinds: {kinds}", err=True)
    return [document for document in documents if document not in others]


def _is_of_another(content: Any) -> bool:
    """Whether it is a whole object of another API; a misspelt kind of ours is not."""
    if not isinstance(content, Mapping) or not content.get("kind"):
        return False
    return ("/" in (api := str(content.get("apiVersion") or "")) and not api.startswith(f"{GROUP}/")) or api == "v1"


def _expand(name: str) -> Sequence[str]:
    """The files of a directory in alphabetical order, or the file itself."""
    if name == STDIN or not Path(name).is_dir():
        return [name]
    paths = (path for path in Path(name).iterdir() if path.suffix in SUFFIXES and path.name not in KUSTOMIZATIONS)
    files = sorted(map(str, paths))
    if not files:
        raise Unreadable(name, "no .yaml, .yml or .json file in this directory", "name another one, or a file")
    return files


def _read(name: str) -> Iterator[Document]:
    documents = [document for document in _parse(name, text_of(name)) if document is not None]
    if not documents:
        raise Unreadable(name, "no document in it", "write an SGLangEndpoint; examples/ has some")
    for position, content in enumerate(documents, start=1):
        place = f"{name}, document {position}" if len(documents) > 1 else name
        if isinstance(content, Mapping) and content.get("kind") == "List":
            if not isinstance(items := content.get("items") or [], list):
                raise Unreadable(place, "items is no list", "write a list of SGLangEndpoints")
            if not items:
                raise Unreadable(place, "an empty List", "write an SGLangEndpoint, or ask for one that is there")
            yield from (Document(f"{place}, item {number}", item) for number, item in enumerate(items, start=1))
        else:
            yield Document(place, content)


def text_of(name: str) -> str:
    """What is in a file, or on stdin. Raises Unreadable."""
    try:
        raw = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        message = error.strerror or str(error)
        raise Unreadable(name, message, "name a file that exists, a directory, or - for stdin") from None
    except UnicodeDecodeError as error:
        raise Unreadable(name, f"not UTF-8: {error.reason}", "save it as UTF-8") from None


def _parse(name: str, text: str) -> list[Any]:
    try:
        return _parse_json(text) or shallow_yaml.load_all(text, Loader)
    except yaml.YAMLError as error:
        raise Unreadable(name, *_explain(error)) from None
    except ODD as error:
        raise Unreadable(name, f"neither YAML nor JSON: {error}", "mend it") from None


def _parse_json(text: str) -> list[Any]:
    """The document if it is JSON, whose escapes for rare characters are no YAML; nothing if it is not, or so deep that
    it is none for YAML, which says where."""
    try:
        return [json.loads(text, object_pairs_hook=_object)]
    except (json.JSONDecodeError, RecursionError):
        return []


def _explain(error: yaml.YAMLError) -> tuple[str, str]:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        what = ", ".join(filter(None, (error.context, error.problem)))
        return f"neither YAML nor JSON: {what}", f"mend line {mark.line + 1}, column {mark.column + 1}"
    return f"neither YAML nor JSON: {error}", "mend it"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise yaml.YAMLError(f"key {twice!r} is there twice")
    return dict(pairs)


def _in_namespace(content: Any, namespace: str) -> Any:
    """The document with `namespace` where it has none of its own."""
    metadata = content.get("metadata") if isinstance(content, Mapping) else None
    if not isinstance(metadata, Mapping) or metadata.get("namespace"):
        return content
    return {**content, "metadata": {**metadata, "namespace": namespace}}


def _twice(found: Sequence[tuple[Document, Endpoint]]) -> Iterator[tuple[str, FieldError]]:
    first: dict[tuple[str, str], str] = {}
    for document, endpoint in found:
        key = (endpoint.namespace, endpoint.name)
        if key in first:
            message = f"this endpoint is also in {first[key]}"
            yield document.place, FieldError("metadata.name", endpoint.name, message, "rename or remove one of them")
        first.setdefault(key, document.place)


class Unreadable(Exception):  # noqa: N818 - what the file is
    """A file that cannot be read, where, and what to do."""

    def __init__(self, place: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.place = place
        self.finding = FieldError("file", None, message, remedy)
