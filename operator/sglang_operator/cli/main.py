"""`kubectl-sglang`: the command group. A command's module is imported when it is called, so that each starts fast."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = ("render", "run")  # module sglang_operator.cli.<name>, attribute <name>


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


@click.group(cls=LazyGroup)
def main() -> None:
    """Serve SGLang models: check and render SGLangEndpoint files, or run them on this machine."""
