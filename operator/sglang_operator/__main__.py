"""`python -m sglang_operator`: the same as `kubectl sglang`."""

from sglang_operator.cli.main import main

main()
