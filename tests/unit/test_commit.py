"""All replicas of a Ray cluster serve the commit that the first of them found."""

from __future__ import annotations

from collections.abc import Callable

from sglang_serve.args import ModelArgs, ServeArgs
from sglang_serve.commit import Alone, agreed

OLD, NEW = "1" * 40, "2" * 40


def serve_args(revision: str = "e-1", branch: str = "main") -> ServeArgs:
    return ServeArgs(endpoint="e", model=ModelArgs("hf://org/name", branch), revision=revision)


def says(commit: str) -> Callable[[], str]:
    return lambda: commit


def test_the_first_answer_counts_for_all() -> None:
    store = Alone()
    assert agreed(store, serve_args(), says(OLD)) == OLD
    assert agreed(store, serve_args(), says(NEW)) == OLD


def test_of_two_at_once_the_first_counts() -> None:
    store = Alone()

    def slow() -> str:
        agreed(store, serve_args(), says(OLD))
        return NEW

    assert agreed(store, serve_args(), slow) == OLD


def test_another_revision_or_branch_is_asked_for_itself() -> None:
    store = Alone()
    agreed(store, serve_args(), says(OLD))
    assert agreed(store, serve_args(revision="e-2"), says(NEW)) == NEW
    assert agreed(store, serve_args(branch="dev"), says(NEW)) == NEW


def test_what_has_no_commit_is_not_noted() -> None:
    store = Alone()
    assert agreed(store, serve_args(), says("")) == ""
    assert agreed(store, serve_args(), says(NEW)) == NEW
