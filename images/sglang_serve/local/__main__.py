"""`python -m sglang_serve.local`: see the package's text."""

from sglang_serve.local.main import main

main()
