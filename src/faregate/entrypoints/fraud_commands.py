"""`faregate fraud`: what decides payments."""

from __future__ import annotations

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Fraud: what decides payments.",
    epilog="Example: faregate fraud lists show",
)
