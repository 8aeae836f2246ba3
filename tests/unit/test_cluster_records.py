"""Records: what was written comes back, and only the user's own fields ask for a rollout."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from unit.api_objects import endpoint, well_formed_specs

from sglang_operator.api import InvalidEndpoint, parse_endpoint
from sglang_operator.api.defaults import NONE, Json, parse_with_defaults
from sglang_operator.cluster.metadata import Owner
from sglang_operator.cluster.records import (
    DRAINING_SINCE,
    FAILURE,
    FORMAT,
    NewerRecordError,
    StoredRevision,
    changes,
    find_record,
    new_record,
    note_failure,
    read_record,
)
from sglang_operator.cluster.selection import PREVIOUS, SERVING, SWITCHED_AT, notes_for, read_selection
from sglang_operator.cluster.types import Key
from sglang_operator.lifecycle.observed import Failure, Record
from sglang_operator.render import render_endpoint, revision_name
from sglang_operator.render.revision import changed_fields, recorded_fields, written_fields

OWNER = Owner(Key("default", "qwen3"), "uid-1")


def stored(
    number: int = 1, notes: dict[str, str | None] | None = None, defaults: Json = NONE, **spec: Any
) -> StoredRevision:
    parsed = parse_with_defaults(endpoint(**spec), defaults)
    ray_service = next(item for item in render_endpoint(parsed) if item["kind"] == "RayService")
    written = json.loads(json.dumps(new_record(OWNER, number, parsed, ray_service)))  # as through the cluster
    written["metadata"]["annotations"] = {name: text for name, text in (notes or {}).items() if text is not None}
    return read_record(written)


def changed(record: StoredRevision, defaults: Json = NONE, **spec: Any) -> tuple[str, ...]:
    return changes(parse_with_defaults(endpoint(**spec), defaults), record)


def test_what_was_recorded_is_found_again() -> None:
    record = stored(3, task="embed")
    user = parse_endpoint(endpoint(task="embed", replicas=4))
    assert find_record(user, [record, stored(1)]) == record
    assert record.name == record.ray_service["metadata"]["name"]


def test_another_task_needs_another_revision() -> None:
    assert find_record(parse_endpoint(endpoint(task="embed")), [stored()]) is None
    assert changed(stored(), task="embed") == ("task",)


def test_a_field_that_a_record_does_not_know_counts_only_if_it_is_used() -> None:
    """A later version adds a field: records of this one must not roll."""
    old = copy.deepcopy(dict(stored().fields))
    del old["restartToken"]
    user = parse_endpoint(endpoint())
    assert changed_fields(user, old, ()) == ()
    assert changed_fields(parse_endpoint(endpoint(restartToken="x")), old, ()) == ("restartToken",)


def test_a_default_that_changes_later_asks_for_no_rollout() -> None:
    """The record was written when the default was another one, and the user wrote nothing then or now."""
    then = {**stored().fields, "head.memory": "2Gi"}
    assert changed_fields(parse_endpoint(endpoint()), then, ()) == ()
    assert changed_fields(parse_endpoint(endpoint(head={"memory": "2Gi"})), then, ()) == ()
    assert changed_fields(parse_endpoint(endpoint(head={"memory": "4Gi"})), then, ()) == ("head.memory",)


def test_a_field_that_is_not_written_any_more_takes_the_default() -> None:
    assert changed(stored(head={"memory": "2Gi"})) == ("head.memory",)
    assert changed(stored(head={"memory": "4Gi"})) == ()


@pytest.mark.parametrize(
    ("defaults", "spec", "path"),
    [
        ({"accelerator": {"vendor": "amd"}}, {"accelerator": {"vendor": "nvidia"}}, "accelerator.vendor"),
        ({"head": {"memory": "8Gi"}}, {"head": {"memory": "4Gi"}}, "head.memory"),
        (
            {"scheduling": {"tolerations": [{"operator": "Exists"}]}},
            {"scheduling": {"tolerations": []}},
            "scheduling.tolerations",
        ),
        ({"engine": {"args": {"log_level": "info"}}}, {"engine": {"args": {"log_level": "debug"}}}, "engine.args"),
    ],
)
def test_what_is_written_over_a_default_of_the_platform_is_a_change_both_ways(
    defaults: Json, spec: dict[str, Any], path: str
) -> None:
    """Also where it is what the operator itself would take: the platform's was in effect."""
    open_, explicit = stored(defaults=defaults), stored(defaults=defaults, **spec)
    assert changed(open_, defaults, **spec) == (path,)
    assert changed(explicit, defaults) == (path,)
    assert open_.name != explicit.name, "else the old record would be taken for the new revision"


@pytest.mark.parametrize(
    "spec",
    [
        {"accelerator": {"vendor": "amd"}},
        {"engine": {"args": {"log_level": "info"}}},
        {"engine": {"args": {}}},
        {"resources": {"memory": "64Gi"}},
    ],
)
def test_writing_out_what_is_in_effect_is_no_change(spec: dict[str, Any]) -> None:
    defaults = {"accelerator": {"vendor": "amd"}, "engine": {"args": {"log_level": "info", "schedule_policy": "lpm"}}}
    assert changed(stored(defaults=defaults), defaults, **spec) == ()
    assert changed(stored(defaults=defaults, **spec), defaults) == ()


def test_other_defaults_of_the_platform_ask_for_no_rollout() -> None:
    then, now = {"engine": {"args": {"log_level": "info"}}}, {"engine": {"args": {"schedule_policy": "lpm"}}}
    mine: dict[str, Any] = {"engine": {"args": {"context_length": 4096}}}
    assert changed(stored(defaults=then), now) == ()
    assert changed(stored(defaults=then, **mine), now, **mine) == (), "entries of the platform beside mine"


def test_a_default_of_a_later_version_that_is_written_is_another_revision() -> None:
    old = {**stored().fields, "head.memory": "2Gi"}  # the default when nobody wrote it
    new = parse_endpoint(endpoint(head={"memory": "4Gi"}))  # the default of now
    assert changed_fields(new, old, stored().written) == ("head.memory",)
    assert revision_name(new) != stored().name


def test_an_optional_object_counts_by_being_there() -> None:
    assert changed(stored(), model={"uri": "hf://Qwen/Qwen3-8B", "cache": {}})[0] == "model.cache"
    with_cache = stored(model={"uri": "hf://Qwen/Qwen3-8B", "cache": {}})
    assert changed(with_cache) == ("model.cache",)


@given(well_formed_specs)
def test_no_valid_spec_differs_from_its_own_record(spec: dict[str, Any]) -> None:
    try:
        user = parse_endpoint({**endpoint(), "spec": spec})
    except InvalidEndpoint:
        return
    assert changed_fields(user, json.loads(json.dumps(recorded_fields(user))), written_fields(user)) == ()


def test_what_became_of_a_revision_is_read_back() -> None:
    failure = Failure("BadArgument", "no such thing", 12.5, ("last line",))
    notes = {**note_failure(failure), DRAINING_SINCE: "7.250"}
    assert stored(2, notes).record == Record(2, failure, 7.25)
    assert stored(2, note_failure(None)).record == Record(2)


@pytest.mark.parametrize("foreign", [[], [{"uid": "uid-2"}]])
def test_what_another_owns_is_not_ours(foreign: list[dict[str, str]]) -> None:
    assert not OWNER.owns({"metadata": {"ownerReferences": foreign}})
    assert OWNER.owns({"metadata": {"ownerReferences": [OWNER.reference]}})


HAND_MADE = ["soon", "", "nan", "inf", "-1", "1e300"]


ODD = ["{}", "[]", "7", '{"reason": "r", "message": "m", "at": 1e300}', pytest.param("[" * 100_000, id="deep")]


@pytest.mark.parametrize("text", [*HAND_MADE, *ODD])
def test_a_failure_that_nobody_can_read_is_none(text: str) -> None:
    assert stored(2, {FAILURE: text}).record == Record(2)


@pytest.mark.parametrize("text", HAND_MADE)
def test_a_time_that_is_none_counts_as_absent(text: str) -> None:
    assert stored(2, {DRAINING_SINCE: text}).record == Record(2)
    notes = {SERVING: "qwen3-a", SWITCHED_AT: text}
    found = read_selection({"metadata": {"annotations": notes, "resourceVersion": "5"}})
    assert (found.revision, found.switched_at) == ("qwen3-a", 0.0)
    assert notes_for(found)[SWITCHED_AT] == "0.000", "it is written anew, as it differs"


@pytest.mark.parametrize(
    "text",
    ["../../../../../../api/v1/pods?limit=0", "../rayservices?watch=true", "qwen3 a", "qwen3-a\n", "Q", "q" * 64],
)
def test_what_is_no_name_of_a_revision_is_not_looked_for(text: str) -> None:
    """Whoever may edit the Service may not make the operator read what it may read, nor write a selector in vain."""
    service = {"metadata": {"annotations": {SERVING: text, PREVIOUS: text}, "resourceVersion": "5"}}
    found = read_selection(service)
    assert (found.revision, found.previous, found.resource_version) == ("", "", "5")


def test_a_record_of_a_later_operator_is_not_misread() -> None:
    parsed = parse_endpoint(endpoint())
    ray_service = next(item for item in render_endpoint(parsed) if item["kind"] == "RayService")
    written = new_record(OWNER, 1, parsed, ray_service)
    written["data"]["format"] = FORMAT + 1
    with pytest.raises(NewerRecordError, match=r"has format 2, this operator reads 1.*Install that one again"):
        read_record(written)
