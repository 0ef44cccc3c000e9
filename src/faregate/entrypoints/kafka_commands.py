"""`faregate kafka`: the broker of one's own that `faregate up --kafka` and the tests run."""

from __future__ import annotations

from typing import Annotated

import typer

from faregate.infra.embedded.kafka import ensure_installed, why_no_kafka
from faregate.infra.embedded.kafka.artifacts import VERSION

app = typer.Typer(
    no_args_is_help=True,
    help="A Kafka broker of one node for development and tests, on this machine's Java.",
    epilog="Example: faregate kafka install",
)


@app.callback()
def group() -> None:
    """Keep `install` a command of its own, though it is the only one."""


@app.command("install", epilog="Example: faregate kafka install")
def install(
    if_possible: Annotated[
        bool,
        typer.Option(
            "--if-possible", help="Where Java or Maven is missing, say so and end well all the same."
        ),
    ] = False,
) -> None:
    """Fetch Kafka by Maven, hold its jars to the committed hashes, and prepare quick starts; once a machine.

    `faregate up --kafka` does so by itself. Nothing is fetched a second time; what is there is verified again.
    """
    missing = why_no_kafka()
    if missing and if_possible:
        typer.echo(f"no embedded Kafka: {missing}")
        return
    installed = ensure_installed(say=typer.echo)
    typer.echo(f"Kafka {VERSION} is in {installed.checkpoint.parent}, for {installed.java}")
