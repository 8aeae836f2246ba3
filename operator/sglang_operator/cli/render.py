"""`kubectl sglang render`: the Kubernetes objects of endpoints, offline."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from sglang_operator.api import InvalidEndpoint
from sglang_operator.cli.installed import read_installed
from sglang_operator.cli.manifests import read_endpoints, warn
from sglang_operator.render import render_endpoint, to_yaml

EXIT_INVALID = 1
KINDS = (
    *("PersistentVolumeClaim", "NetworkPolicy", "RayService"),
    *("Service", "PodDisruptionBudget", "Ingress", "HTTPRoute"),
)
HELP = """Print the Kubernetes objects that endpoints become.

Works offline, without a cluster or kubeconfig. The same file always gives the same bytes, so a review can
compare what a change of an endpoint makes of its pods.

\b
  kubectl sglang render -f endpoint.yaml
  kubectl sglang render -f endpoints/ -n team-a -o json
  kubectl sglang render -f endpoint.yaml --kind RayService
  kubectl sglang render -f endpoint.yaml --defaults values.yaml --image cpu=registry.example.com/sglang-serve-cpu:1
  helm template my-chart | kubectl sglang render -f -

To serve, apply the endpoint itself and let the operator work. Without one, `render … | kubectl apply -f -` is for a
first look only: applied again after a change that needs new pods, the Service moves to pods that are not there yet,
and the old RayService stays.

FILE may hold many documents, as YAML or JSON; a directory stands for its .yaml, .yml and .json files, and there, as on
stdin, objects of other kinds are passed over. --defaults takes the values of the platform's chart, or what they have
under `defaults:`, to show what its operator would render; --image is what the chart has under `images:`. Every finding
is printed on stderr with its file, field, value and what to do.

\b
Exit codes: 0 rendered, 1 an endpoint is invalid, 2 wrong usage.
"""


@click.command(help=HELP, short_help="Print the Kubernetes objects of endpoints.")
@click.option(
    "files", "-f", "--file", multiple=True, required=True, metavar="FILE", help="File, directory or - (stdin)."
)
@click.option("namespace", "-n", "--namespace", default="default", show_default=True, help="For documents without one.")
@click.option("form", "-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@click.option("kinds", "--kind", multiple=True, type=click.Choice(KINDS, case_sensitive=False), help="Only this kind.")
@click.option("defaults", "--defaults", default="", metavar="FILE", help="The chart's values, or their `defaults:`.")
@click.option("images", "--image", multiple=True, metavar="VENDOR=IMAGE", help="For endpoints that name none; repeat.")
def render(
    files: Sequence[str], namespace: str, form: str, kinds: Sequence[str], *, defaults: str, images: Sequence[str]
) -> None:
    """See HELP."""
    try:
        installed = read_installed(defaults, images)
        objects: list[dict[str, Any]] = []
        endpoints = read_endpoints(
            files, namespace, installed.defaults, lambda one: objects.extend(render_endpoint(one, installed.platform))
        )
    except InvalidEndpoint as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_INVALID)
    warn(endpoints)
    chosen = [one for one in objects if not kinds or one["kind"] in kinds]
    click.echo(to_yaml(*chosen) if form == "yaml" else _json(chosen), nl=False)


def _json(objects: Sequence[dict[str, Any]]) -> str:
    """The object itself if it is one, else a List, as kubectl prints and takes it."""
    whole = objects[0] if len(objects) == 1 else {"apiVersion": "v1", "kind": "List", "items": objects}
    return json.dumps(whole, indent=2) + "\n"
