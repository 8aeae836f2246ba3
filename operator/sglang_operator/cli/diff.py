"""`kubectl sglang diff`: what an edit of endpoints does to what serves, offline."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import click

from sglang_operator.api import Endpoint, InvalidEndpoint
from sglang_operator.api.secrets import without_variables
from sglang_operator.cli.installed import read_installed
from sglang_operator.cli.manifests import STDIN, read_endpoints, warn
from sglang_operator.render import render_endpoint, to_yaml
from sglang_operator.render.change import Effect, FieldChange, field_changes
from sglang_operator.render.platform import Platform

EXIT_DIFFERS = 1
EXIT_INVALID = 3
WIDTH: Final = 60  # of a value that is shown
HELP = """Print what an edit of endpoints does: which changes need new pods, and which reach those that run.

Works offline, without a cluster or kubeconfig: OLD is a file, or what another command prints.

\b
  git show main:endpoint.yaml | kubectl sglang diff --from - -f endpoint.yaml
  kubectl get sgl qwen3 -n team-a -o yaml | kubectl sglang diff --from - -f endpoint.yaml -n team-a
  kubectl sglang diff --from old/ -f new/ -o json

The operator compares with the revision that serves. That is another than OLD while an earlier edit has failed or is
still on its way: status.revisions lists them.

Both may hold many documents, as for `render`; endpoints are told apart by namespace and name. One that only OLD has is
not mentioned, as in `kubectl diff`: whoever applies a file deletes nothing.

\b
Exit codes: 0 nothing changes, 1 something does, 2 wrong usage, 3 an endpoint is invalid.
"""
EFFECTS: Final = {
    Effect.NEW_REVISION: "new pods",
    Effect.IN_PLACE: "in place",
    Effect.NONE: "nothing: it was so already",
}
ROLLOUTS: Final = {
    "BlueGreen": "a new revision starts beside the one that serves, with as many pods; traffic moves once it answers",
    "Recreate": "the revision that serves ends first, then the new one starts: requests are refused meanwhile",
}
PAUSED: Final = "spec.paused: nothing of it happens before that is false"
CLAIM: Final = "spec.model.cache: of a claim that exists Kubernetes changes the size alone, and to a larger one alone"
_OF_CLAIM: Final = {"model.cache.accessMode", "model.cache.size", "model.cache.storageClassName"}
TITLES: Final = {"New": "a new endpoint", "NewRevision": "new pods", "InPlace": "in place", "None": "nothing changes"}


@dataclass(frozen=True)
class Edit:
    """What becomes of one endpoint. `before` is None if it is new."""

    before: Endpoint | None
    after: Endpoint

    @cached_property
    def fields(self) -> tuple[FieldChange, ...]:
        """What differs, without secrets."""
        return tuple(map(_shown, field_changes(self.before, self.after))) if self.before else ()

    @property
    def effect(self) -> str:
        """Of the whole: the greatest of its fields'."""
        if self.before is None:
            return "New"
        found = {field.effect for field in self.fields}
        return next((one for one in (Effect.NEW_REVISION, Effect.IN_PLACE) if one in found), Effect.NONE).value

    @property
    def is_of_claim(self) -> bool:
        """It asks for another claim than the one that is there and stays."""
        stays = all(one and one.spec.model.cache for one in (self.before, self.after))
        return stays and bool(_OF_CLAIM & {field.path for field in self.fields})


def _shown(change: FieldChange) -> FieldChange:
    """What is printed ends in the logs of pipelines, and in comments on pull requests."""
    return replace(change, before=without_variables(change.before), after=without_variables(change.after))


@click.command(help=HELP, short_help="Print what an edit of endpoints does to what serves.")
@click.option("olds", "--from", multiple=True, required=True, metavar="OLD", help="As it is: file, directory or -.")
@click.option("news", "-f", "--file", multiple=True, required=True, metavar="FILE", help="As it shall be: the same.")
@click.option("namespace", "-n", "--namespace", default="default", show_default=True, help="For documents without one.")
@click.option("form", "-o", "--output", type=click.Choice(["text", "yaml", "json"]), default="text", show_default=True)
@click.option("defaults", "--defaults", default="", metavar="FILE", help="The chart's values, or their `defaults:`.")
def diff(olds: Sequence[str], news: Sequence[str], namespace: str, form: str, defaults: str) -> None:
    """See HELP."""
    if [*olds, *news].count(STDIN) > 1:
        raise click.UsageError("stdin (-) can be read once: save one of the two in a file")
    try:
        installed = read_installed(defaults)
        before = {_key(one): one for one in read_endpoints(olds, namespace, installed.defaults)}
        after = read_endpoints(news, namespace, installed.defaults, check=_renders_on(installed.platform))
    except InvalidEndpoint as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_INVALID)
    edits = [Edit(before.get(_key(one)), one) for one in after]
    warn(after)
    _warn_of_namespaces(edits, before)
    _print(edits, form)
    sys.exit(EXIT_DIFFERS if any(edit.effect != Effect.NONE.value for edit in edits) else 0)


def _renders_on(platform: Platform) -> Callable[[Endpoint], object]:
    """A check that refuses what `render` does: whether a podTemplate fits shows when it is applied."""
    return lambda endpoint: render_endpoint(endpoint, platform)


def _warn_of_namespaces(edits: Sequence[Edit], before: Mapping[tuple[str, str], Endpoint]) -> None:
    """An endpoint is new, and OLD has its name elsewhere: most likely the file leaves its namespace to kubectl."""
    for edit in edits:
        elsewhere = [namespace for namespace, name in before if name == edit.after.name]
        if edit.before is None and elsewhere:
            where = f"OLD has it in namespace {', '.join(elsewhere)}, FILE in {edit.after.namespace}"
            remedy = f"if both are the same, give -n {elsewhere[0]}"
            click.echo(f"warning: {edit.after.name}: {where}\n  remedy: {remedy}", err=True)


def _key(endpoint: Endpoint) -> tuple[str, str]:
    return endpoint.namespace, endpoint.name


def _print(edits: Sequence[Edit], form: str) -> None:
    said = [_data(edit) for edit in edits]
    if form == "text":
        click.echo("\n".join(line for edit in edits for line in _lines(edit)))
    else:
        click.echo(json.dumps(said, indent=2) if form == "json" else to_yaml(*said), nl=form == "json")


def _data(edit: Edit) -> dict[str, Any]:
    return {
        "namespace": edit.after.namespace,
        "name": edit.after.name,
        "effect": edit.effect,
        "fields": [
            {"path": f"spec.{field.path}", "from": field.before, "to": field.after, "effect": field.effect.value}
            for field in edit.fields
        ],
    }


def _lines(edit: Edit) -> Iterator[str]:
    yield f"{edit.after.namespace}/{edit.after.name}: {TITLES[edit.effect]}"
    rows = [(f"spec.{one.path}", f"{_short(one.before)} -> {_short(one.after)}") for one in edit.fields]
    paths, values = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    for (path, value), field in zip(rows, edit.fields, strict=True):
        yield f"  {path:<{paths}}  {value:<{values}}  {EFFECTS[field.effect]}"
    if edit.effect == Effect.NEW_REVISION.value:
        yield f"  {edit.after.spec.upgrade.strategy}: {ROLLOUTS[edit.after.spec.upgrade.strategy]}"
    if edit.is_of_claim:
        yield f"  {CLAIM}"
    if edit.after.spec.paused and rows:
        yield f"  {PAUSED}"


def _short(value: Any) -> str:
    if value is None:
        return "(not set)"
    text = value if value and isinstance(value, str) else json.dumps(value)
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}…"
