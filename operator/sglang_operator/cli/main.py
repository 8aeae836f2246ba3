"""`kubectl-sglang`: the command group. A command's module is imported when it is called, so that each starts fast."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = ("args", "diff", "render", "run", "status", "version")  # module sglang_operator.cli.<name>, attribute <name>
PROGRAM = "kubectl sglang"
HELP = """Serve SGLang models on Kubernetes, or on this machine, from the same file.

\b
  kubectl apply -f endpoint.yaml                             serve it, in a cluster with the operator
  kubectl sglang status qwen3 --wait                         see it come up, or why it does not
  kubectl sglang render -f endpoint.yaml                     what that cluster would get
  kubectl sglang diff --from old.yaml -f endpoint.yaml        what an edit does: new pods, or none
  kubectl sglang run -f endpoint.yaml                        the same endpoint, here
  kubectl sglang args attention                              which engine arguments there are

An endpoint is an SGLangEndpoint (serve.sglang.io/v1alpha1); a model and an accelerator are enough:

\b
  apiVersion: serve.sglang.io/v1alpha1
  kind: SGLangEndpoint
  metadata: {name: qwen3}
  spec:
    model: {uri: hf://Qwen/Qwen3-8B}
    accelerator: {vendor: nvidia, count: 1}
"""


class LazyGroup(click.Group):
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Every command, for the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command of this name, None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"sglang_operator.cli.{cmd_name}"), cmd_name)
        return command


@click.group(cls=LazyGroup, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """See HELP."""


def main() -> None:
    """Entry point of `kubectl-sglang`; kubectl finds it by that name and users call it as its subcommand."""
    group(prog_name=PROGRAM)
