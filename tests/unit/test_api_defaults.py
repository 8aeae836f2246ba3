"""Platform defaults: the user wins, nothing valid becomes invalid, and no default names a revision."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.api_objects import endpoint, well_formed_specs

from sglang_operator.api import InvalidEndpoint, parse_endpoint
from sglang_operator.api.defaults import NONE, merge, parse_with_defaults
from sglang_operator.render import revision_name
from sglang_operator.render.defaults import read_defaults

Json = dict[str, Any]

_scalars = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["a", "b"])
_json = st.recursive(
    _scalars | st.lists(_scalars, max_size=2),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=12,
)
_specs = st.dictionaries(st.sampled_from(["a", "b", "c"]), _json, max_size=3)
# Defaults whose fields have the right types; any rule may be broken together with what a user writes.
_defaults = well_formed_specs.map(lambda spec: {name: part for name, part in spec.items() if name != "model"})


def parsed(spec: Json, defaults: Json) -> Any:
    return parse_with_defaults(endpoint(**spec), defaults).spec


def contains(whole: Any, part: Any) -> bool:
    """Everything that `part` says is in `whole`, unchanged."""
    if isinstance(part, Mapping) and isinstance(whole, Mapping):
        return all(name in whole and contains(whole[name], value) for name, value in part.items())
    return bool(whole == part)


@given(_specs, _specs)
def test_the_user_always_wins(defaults: Json, spec: Json) -> None:
    assert contains(merge(defaults, {"spec": spec})["spec"], spec)


@given(_specs, _specs)
def test_whatever_the_user_left_open_is_the_platforms(defaults: Json, spec: Json) -> None:
    merged = merge(defaults, {"spec": spec})["spec"]
    assert set(merged) == set(defaults) | set(spec)
    for name in set(defaults) - set(spec):
        assert merged[name] == defaults[name]


@given(_specs, _specs)
def test_merging_twice_changes_nothing_and_neither_side_is_touched(defaults: Json, spec: Json) -> None:
    before = copy.deepcopy((defaults, spec))
    once = merge(defaults, {"spec": spec})
    assert merge(defaults, once) == once
    assert (defaults, spec) == before


@given(_specs)
def test_no_defaults_change_nothing(spec: Json) -> None:
    assert merge(NONE, {"kind": "A", "spec": spec}) == {"kind": "A", "spec": spec}


def test_lists_are_replaced_and_null_leaves_out() -> None:
    defaults = {
        "scheduling": {"tolerations": [{"key": "a", "operator": "Exists"}], "nodeSelector": {"x": "1", "y": "1"}},
        "api": {"keysSecret": {"name": "platform"}},
    }
    spec = parsed(
        {
            "scheduling": {"tolerations": [], "nodeSelector": {"y": "2", "z": "2"}},
            "api": {"keysSecret": None},
        },
        defaults,
    )
    assert spec.scheduling.tolerations == ()
    assert spec.scheduling.node_selector == {"x": "1", "y": "2", "z": "2"}
    assert spec.api.keys_secret is None
    assert parsed({}, defaults).api.keys_secret.name == "platform"


def test_a_null_of_the_platform_is_nothing() -> None:
    assert read_defaults("api:\nupgrade: {drainSeconds: null}\n") == {"api": None, "upgrade": {"drainSeconds": None}}
    assert parsed({}, {"api": None, "upgrade": {"drainSeconds": None}}).upgrade.drain_seconds == 900


def test_a_revision_is_not_named_by_defaults() -> None:
    plain = endpoint(engine={"args": {"mem_fraction_static": 0.8}})
    defaults = {"upgrade": {"drainSeconds": 5}, "engine": {"image": "mirror/image"}}
    with_defaults = parse_with_defaults(plain, defaults)
    assert with_defaults.spec.engine.image == "mirror/image"
    assert revision_name(with_defaults) == revision_name(parse_endpoint(plain))


def test_a_default_that_breaks_a_rule_is_left_out_and_named() -> None:
    defaults = {"accelerator": {"products": ["H100"], "count": 2}, "upgrade": {"drainSeconds": 60}}
    found = parse_with_defaults(endpoint(accelerator={"vendor": "cpu"}), defaults)
    assert found.spec.accelerator.products == ()
    assert found.spec.accelerator.count == 2
    assert found.spec.upgrade.drain_seconds == 60
    (warning,) = found.warnings
    assert warning.path == "spec.accelerator.products"
    assert "left out: vendor cpu has no accelerator products" in warning.message


def test_defaults_that_fit_only_together_are_both_taken() -> None:
    """argsCheck: Warn needs an image of one's own, and comes before it; the products do not fit in any order."""
    engine = {"argsCheck": "Warn", "image": "mirror/image"}
    defaults = {"accelerator": {"products": ["H100"]}, "engine": engine}
    found = parse_with_defaults(endpoint(accelerator={"vendor": "cpu"}), defaults)
    assert (found.spec.engine.args_check, found.spec.engine.image) == ("Warn", "mirror/image")
    assert [warning.path for warning in found.warnings] == ["spec.accelerator.products"]


def test_an_optional_object_is_taken_or_left_as_a_whole() -> None:
    defaults = {"model": {"cache": {"size": "1Gi", "storageClassName": "fast"}}}
    found = parse_with_defaults(endpoint(model={"uri": "pvc://claim/model"}), defaults)
    assert found.spec.model.cache is None
    assert [warning.path for warning in found.warnings] == ["spec.model.cache"]


@settings(max_examples=100, deadline=None)
@given(_defaults, well_formed_specs)
def test_no_default_makes_a_valid_endpoint_invalid(defaults: Json, spec: Json) -> None:
    manifest = endpoint(**spec)
    if mistakes := problems(manifest):
        with pytest.raises(InvalidEndpoint) as found:
            parse_with_defaults(manifest, defaults)
        assert str(found.value) == mistakes  # the user's, and nothing of the platform
    else:
        merged = parse_with_defaults(manifest, defaults)
        assert merged.written == parse_endpoint(manifest).written
        left_out = [warning for warning in merged.warnings if "is left out" in warning.message]
        assert bool(left_out) == bool(problems(merge(defaults, manifest)))


def problems(manifest: Json) -> str:
    try:
        parse_endpoint(manifest)
    except InvalidEndpoint as error:
        return str(error)
    return ""


def test_a_good_file_of_defaults() -> None:
    assert read_defaults("") == {}
    assert read_defaults("model: {cache: {size: 5Gi}}\napi: {adminKeySecret: {key: k}}\n") == {
        "model": {"cache": {"size": "5Gi"}},
        "api": {"adminKeySecret": {"key": "k"}},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "defaults: is no YAML"),
        ("- a", "defaults: must be a mapping"),
        ("spec: {replicas: 1}", "defaults.spec: "),
        ("upgrade: {drainSecond: 5}", "defaults.upgrade.drainSecond: "),
        ('upgrade: {drainSeconds: "5"}', "defaults.upgrade.drainSeconds: must be a whole number"),
        ("accelerator: {vendor: intel}", "defaults.accelerator.vendor: must be "),
        ("engine: {env: [{value: x}]}", "defaults.engine.env[0].name: "),
        ("engine: {args: {mem_fraction: 0.9}}", "defaults.engine.args.mem_fraction: SGLang "),
        ("engine: {args: {tp_size: 2}}", "defaults.engine.args.tp_size: is set by the platform"),
        ("engine: {args: {on: true, 8: 1}}", "defaults.engine.args[8]: must be text"),
        ("replicas: 2", "defaults.replicas: has no effect"),
        ("api: 5", "defaults.api: must be a mapping"),
        ("a: &a {b: *a}", "defaults"),
        pytest.param(f"a: {'9' * 5000}", "defaults: is no YAML: Exceeds the limit (4300 digits)", id="digits"),
        pytest.param("a: " + "{<<: " * 2000 + "{}" + "}" * 2000, "is no YAML: more than 500 levels", id="levels"),
        pytest.param("a: " + "[" * 100_000, "is no YAML: more than 500 levels", id="brackets"),
        ("a: !!int x", "defaults: is no YAML: invalid literal"),
        ("a: !!timestamp x", "defaults: is no YAML"),
    ],
)
def test_a_bad_file_of_defaults_names_the_field(text: str, said: str) -> None:
    with pytest.raises(InvalidEndpoint) as found:
        read_defaults(text)
    assert said in str(found.value)


def test_arguments_of_another_sglang_are_taken_where_they_are_not_checked() -> None:
    assert read_defaults("engine: {argsCheck: Warn, image: mine, args: {new_argument: 1}}")


def test_words_are_what_helm_takes_them_for() -> None:
    with pytest.raises(InvalidEndpoint, match="must be text"):
        read_defaults("scheduling: {nodeSelector: {gpu: y}}")
    assert read_defaults("scheduling: {nodeSelector: {slot: '1e3'}}") == {
        "scheduling": {"nodeSelector": {"slot": "1e3"}}
    }
