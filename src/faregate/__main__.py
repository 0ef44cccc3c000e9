"""`python -m faregate` is the `faregate` command."""

from faregate.entrypoints.cli import main

main()
