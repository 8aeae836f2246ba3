"""What a storage signed an address with is in no text: not of errors, nor of those that they came of, nor in logs."""

from __future__ import annotations

import io
import logging

import pytest

from sglang_serve import hub_texts
from sglang_serve.adapters import _text
from sglang_serve.errors import without_queries

SIGNED = "https://cdn.example/blob?X-Amz-Expires=3600&X-Amz-Signature=SECRET"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"403 for url '{SIGNED}' (no)", "403 for url 'https://cdn.example/blob' (no)"),
        (f"({SIGNED}), {SIGNED}\nmore?", "(https://cdn.example/blob), https://cdn.example/blob\nmore?"),
        ("https://cdn.example/blob?name=(a)'b'&Signature=SECRET: away", "https://cdn.example/blob: away"),
        ("is it https://hub.example/org/name?", "is it https://hub.example/org/name"),
        ("what? nothing", "what? nothing"),
    ],
)
def test_an_address_ends_where_its_query_begins(text: str, expected: str) -> None:
    assert without_queries(text) == expected


def fail() -> None:
    with hub_texts.unsigned():
        try:
            raise ValueError(SIGNED, 403)
        except ValueError as error:
            raise OSError(f"cannot get {SIGNED}") from error


def test_errors_and_what_they_came_of() -> None:
    with pytest.raises(OSError, match="cannot") as caught:
        fail()
    assert str(caught.value) == "cannot get https://cdn.example/blob"
    assert caught.value.__cause__
    assert caught.value.__cause__.args == ("https://cdn.example/blob", 403)


def test_a_row_of_an_adapter() -> None:
    assert _text(OSError(f"cannot get {SIGNED}")) == "cannot get https://cdn.example/blob"


def test_what_the_client_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "handlers", [handler])
    monkeypatch.setattr(logging.getLogger("httpx"), "handlers", [handler])
    hub_texts.install()
    logging.getLogger("huggingface_hub.file_download").warning("Error while downloading from %s: %s", SIGNED, "x")
    logging.getLogger("httpx").warning("GET %s", SIGNED)
    assert out.getvalue() == "Error while downloading from https://cdn.example/blob: x\nGET https://cdn.example/blob\n"
