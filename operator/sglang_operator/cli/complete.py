"""`kubectl_complete-sglang`: kubectl runs it for a tab behind `kubectl sglang`, with the words so far.

The last word is what is being typed, or empty. It answers as kubectl's own completion does (cobra): a candidate a line,
a tab before what explains it, and last a directive.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Final

import click
from click.shell_completion import ShellComplete

from sglang_operator.cli.main import PROGRAM, group

FILES: Final = ":0"  # what cobra calls Default: without candidates the shell has names of files
NO_FILES: Final = ":4"


def complete(words: Sequence[str]) -> Iterator[str]:
    """The lines of the answer."""
    *before, typed = words or [""]
    found = ShellComplete(group, {}, PROGRAM, "").get_completions(before, typed)
    candidates = [one for one in found if one.type == "plain"]  # others say that it is a file or a directory
    for one in candidates:
        yield "\t".join(filter(None, (one.value, " ".join((one.help or "").split()))))
    yield NO_FILES if candidates else FILES


def main() -> None:
    """Entry point of `kubectl_complete-sglang`; kubectl finds it by that name."""
    click.echo("\n".join(complete(sys.argv[1:])))
