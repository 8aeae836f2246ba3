"""Reads endpoints from files as kubectl does: YAML or JSON, many documents, `-` is stdin."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sglang_operator.api import Endpoint, InvalidEndpoint, parse_endpoint
from sglang_operator.api.errors import FieldError

STDIN = "-"


def read_endpoints(files: Sequence[str]) -> list[Endpoint]:
    """Every endpoint in `files`, in order. Raises InvalidEndpoint with the findings of the first bad file."""
    return [endpoint for name in files for endpoint in _endpoints(name)]


def _endpoints(name: str) -> list[Endpoint]:
    documents = list(_documents(name))
    if not documents:
        raise _unreadable(name, "no document in it", "write an SGLangEndpoint; examples/ has some")
    return [parse_endpoint(document) for document in documents]


def _documents(name: str) -> Iterator[Mapping[str, Any]]:
    try:
        text = sys.stdin.read() if name == STDIN else Path(name).read_text(encoding="utf-8")
        documents = list(yaml.load_all(text, Loader=yaml.CSafeLoader))
    except OSError as error:
        raise _unreadable(name, error.strerror or str(error), "name a file that exists, or - for stdin") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _unreadable(name, f"neither YAML nor JSON: {error}", "mend the line it names") from None
    for document in filter(None, documents):
        if not isinstance(document, Mapping):
            raise _unreadable(name, "a document is no object", "start it with apiVersion, kind, metadata and spec")
        yield from document["items"] if document.get("kind") == "List" else [document]


def _unreadable(name: str, message: str, remedy: str) -> InvalidEndpoint:
    return InvalidEndpoint((FieldError("file", name, message, remedy),))
