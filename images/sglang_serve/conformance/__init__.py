"""About ten minutes of checks that a serving image does on this machine's accelerators what its documentation says.

    python -m sglang_serve.conformance

For whoever has hardware that the project's own tests have not: it serves a model through Ray Serve exactly as a pod
would, compares its answers to those of `sglang.launch_server`, and checks disconnects, keys, engines that are lost,
draining, adapters and parallelism. The result is printed, and written as `report.json` and `report.md` with
versions and hardware, without anything secret: send them back with an issue. Without `--model` it makes a small random
model, so no hub is needed.

Exit codes: 0 all checks passed, 1 some failed, 2 wrong usage.
"""
