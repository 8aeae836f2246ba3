"""The processes of an engine, each in a real child process, and without an engine."""

from __future__ import annotations

import gc
import logging
import multiprocessing
from functools import partial
from pathlib import Path
from threading import Event, Thread

import pytest

from sglang_serve import children
from sglang_serve.collector import SELDOM, seldom

SECONDS = 30


def note_thresholds(path: Path) -> None:
    path.write_text(repr(gc.get_threshold()))


def fail_and_leave_a_thread(_: Path) -> None:
    Thread(target=Event().wait).start()
    logging.getLogger("sglang.srt.managers.scheduler").error("Scheduler hit an exception: Traceback\n\nKeyError: 'a'")


def refuse_a_schema_and_fail(_: Path) -> None:
    """As SGLang does; the text is a client's."""
    for text in ("{}", "Scheduler hit an exception: I am a client"):
        log = logging.getLogger("sglang.srt.constrained.xgrammar_backend")
        log.error("Hit invalid json_schema: key_string='%s', e=RuntimeError('unsupported')", text * 5000)
    logging.getLogger("sglang.srt.managers.detokenizer_manager").error("DetokenizerManager hit an exception: OSError")


def only_refuse_a_schema(_: Path) -> None:
    logging.getLogger("sglang").error("Hit invalid json_schema: key_string='{}', e=RuntimeError('unsupported')")


def spawn(target: partial[None], path: Path) -> int | None:
    """The exit code of a child that runs it; None: it did not end."""
    child = multiprocessing.get_context("spawn").Process(target=target, args=(path,))
    child.start()
    child.join(SECONDS)
    code = child.exitcode
    child.kill()
    return code


@pytest.mark.parametrize("run", [children.run_scheduler, children.run_detokenizer])
def test_the_work_finds_pythons_own_thresholds(
    run: partial[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(children.ENV_ERRORS, str(tmp_path))
    assert spawn(partial(run, note_thresholds), tmp_path / "thresholds") == 0
    assert (tmp_path / "thresholds").read_text() == "(700, 10, 10)"


def test_a_scheduler_that_failed_leaves_its_error_and_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(children.ENV_ERRORS, str(tmp_path))
    assert spawn(partial(children.run_scheduler, fail_and_leave_a_thread), tmp_path) is not None
    (errors,) = tmp_path.iterdir()
    assert errors.read_text() == "Scheduler hit an exception: Traceback\n\nKeyError: 'a'\n"


@pytest.mark.parametrize("run", [children.run_scheduler, children.run_detokenizer])
def test_of_requests_that_were_refused_nothing_is_kept(
    run: partial[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(children.ENV_ERRORS, str(tmp_path))
    assert spawn(partial(run, only_refuse_a_schema), tmp_path) is not None
    assert not list(tmp_path.iterdir())
    assert spawn(partial(run, refuse_a_schema_and_fail), tmp_path) is not None
    (errors,) = tmp_path.iterdir()
    assert errors.read_text() == "DetokenizerManager hit an exception: OSError\n"


def test_thresholds_are_as_before_after_the_imports() -> None:
    before = gc.get_threshold()
    with seldom():
        assert gc.get_threshold() == SELDOM
    assert gc.get_threshold() == before
