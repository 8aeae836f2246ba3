"""`python -m sglang_serve.conformance`: see the package's text."""

from sglang_serve.conformance.main import main

main()
