"""`kubectl sglang version`."""

from __future__ import annotations

from importlib.metadata import version as distribution_version

import click

from sglang_operator.api.versions import versions


@click.command(short_help="Print versions.")
def version() -> None:
    """Print the version of this program, and of what it renders for and is tested with."""
    known = versions()
    click.echo(f"kubectl-sglang {distribution_version('sglang-operator')}")
    click.echo(f"SGLang {known['sglang']}, Ray {known['ray']}, KubeRay {known['kuberay']}")
    click.echo(f"Kubernetes {', '.join(known['kubernetes'])}")
