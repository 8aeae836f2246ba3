"""Log lines: one JSON object each, with a closed list of fields."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from sglang_operator.app import logs
from sglang_operator.cluster.types import Key
from sglang_operator.cluster.workers import Pass, current_pass

log = logging.getLogger("sglang_operator.some.module")


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    root, kopf = logging.getLogger(), logging.getLogger("kopf")
    handlers, level, kopf_level = root.handlers[:], root.level, kopf.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    kopf.setLevel(kopf_level)
    logging.captureWarnings(capture=False)


@pytest.fixture
def _in_a_pass() -> Iterator[None]:
    token = current_pass.set(Pass(Key("ns", "qwen3"), "1f2e3d4c"))
    yield
    current_pass.reset(token)


def written(level: str = "info", form: Any = "json") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(form, level, stream)
    return stream


@pytest.mark.usefixtures("_in_a_pass")
def test_a_line_names_its_endpoint_and_pass() -> None:
    stream = written()
    log.info("switched to %s", "qwen3-abc")
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "sglang_operator.some.module",
        "message": "switched to qwen3-abc",
        "endpoint": "ns/qwen3",
        "pass": "1f2e3d4c",
    }


def test_a_line_outside_of_a_pass_has_no_endpoint() -> None:
    stream = written()
    log.info("leading")
    assert set(json.loads(stream.getvalue())) == {"time", "level", "logger", "message"}


def test_an_error_is_one_line_with_its_traceback() -> None:
    stream = written()
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("the pass failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: two\nlines" in json.loads(line)["error"]


def test_attributes_of_a_record_never_get_out() -> None:
    stream = written()
    log.info("logged in", extra={"token": "s3cret", "headers": {"Authorization": "Bearer s3cret"}})
    assert "s3cret" not in stream.getvalue()


@pytest.mark.usefixtures("_in_a_pass")
def test_text_is_for_people() -> None:
    stream = written(form="text")
    log.warning("no node")
    assert stream.getvalue().endswith("WARNING no node [ns/qwen3 1f2e3d4c]\n")


def test_kopf_speaks_of_trouble_only() -> None:
    stream = written()
    logging.getLogger("kopf.objects").info("Handler 'pods' succeeded.")
    logging.getLogger("kopf._core.reactor.running").warning("OS signals are ignored: running not in the main thread.")
    assert stream.getvalue() == ""
    logging.getLogger("kopf._core.reactor.observation").warning("Unresolved resources cannot be served")
    assert "Unresolved" in stream.getvalue()


def test_kopf_says_no_more_than_was_asked_for() -> None:
    stream = written("error")
    logging.getLogger("kopf.objects").warning("Patching failed with inconsistencies")
    assert stream.getvalue() == ""
    logging.getLogger("kopf.objects").error("Watching failed")
    assert "Watching" in stream.getvalue()


def test_debug_lets_kopf_speak() -> None:
    stream = written("debug")
    logging.getLogger("kopf.objects").info("Handler 'pods' succeeded.")
    assert "succeeded" in stream.getvalue()


def test_warnings_of_python_are_lines_too() -> None:
    stream = written()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("soon gone", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    assert "soon gone" in json.loads(stream.getvalue())["message"]
