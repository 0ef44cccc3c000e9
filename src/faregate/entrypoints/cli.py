"""The `faregate` command. Each command reads its options and calls one function; errors end in one clear line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from faregate import __version__
from faregate.entrypoints.arguments import ArgumentRefused, guarded
from faregate.entrypoints.output import Json
from faregate.entrypoints.processes import CONTEXTS, ROLES, described
from faregate.infra.failures import line_of
from faregate.infra.lifetime import end_with_parent_if_asked
from faregate.infra.settings import Settings

if TYPE_CHECKING:
    from typer._click.core import Command, Context

PARTS: Mapping[str, str] = {
    "up": "system_commands:up",
    "demo": "system_commands:demo",
    "keys": "operator_commands:keys",
    "database": "database_commands:app",
    "credit": "credit_commands:app",
    "review": "review_commands:app",
    "rules": "rules_trial_commands:app",
    "audit": "audit_commands:app",
    "gateway": "gateway_commands:app",
    "webhooks": "webhook_commands:app",
    "points": "points_commands:app",
    "members": "member_commands:app",
    "travel": "travel_commands:app",
    "fraud": "fraud_rule_commands:app",
    "payments": "payment_commands:app",
    "features": "feature_commands:app",
    "traffic": "traffic_commands:app",
    "events": "event_commands:app",
    "archive": "archive_commands:app",
    "kafka": "kafka_commands:app",
    "pii": "operator_commands:pii",
    "bench": "bench_commands:app",
    "chaos": "chaos_commands:app",
}
"""Where the commands of each part are, in the order of the help."""


class PartsWhenAsked(TyperGroup):
    """Imports the commands of a part only when one of them is asked for, so that every command begins at once."""

    def list_commands(self, ctx: Context) -> list[str]:
        """Return all names, those of the parts last."""
        return [*super().list_commands(ctx), *PARTS]

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Return the command or group of this name."""
        if cmd_name not in PARTS:
            own = super().get_command(ctx, cmd_name)
            return guarded(own) if own else None
        module, _, attribute = PARTS[cmd_name].partition(":")
        found = typer.main.get_command(getattr(import_module(f"faregate.entrypoints.{module}"), attribute))
        found.name = cmd_name
        return guarded(found)


app = typer.Typer(
    name="faregate",
    cls=PartsWhenAsked,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="The open-source backbone of a card issuer: credit decisions, fraud scoring, travel loyalty.",
    epilog="Begin with [bold]faregate demo[/bold]; settings are shown by [bold]faregate config[/bold].",
)


def main() -> None:
    """Run the command line; an expected error is one line on standard error and exit status 1.

    What nobody expects keeps its traceback. Usage errors have exit status 2; most of them are typer's own.
    """
    end_with_parent_if_asked()
    try:
        app()
    except Exception as error:
        line = line_of(error)
        if line is None:
            raise
        sys.stderr.write(f"faregate: {line}\n")
        raise SystemExit(2 if isinstance(error, ArgumentRefused) else 1) from None


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Print the version where asked for."""
    if show:
        typer.echo(__version__)
        raise typer.Exit


@app.command(epilog="Example: faregate config --json | jq .FAREGATE_API_PORT")
def config(as_json: Json = False) -> None:
    """Show every setting, where its value comes from and what it is for; secrets are masked."""
    from faregate.entrypoints.config_command import config as show

    show(as_json=as_json)


@app.command(epilog="Example: FAREGATE_API_PORT=8080 faregate serve credit review")
def serve(
    contexts: Annotated[
        list[str] | None, typer.Argument(help=f"All if none is named. {described(CONTEXTS)}.")
    ] = None,
) -> None:
    """Run an API process, with the routes of all contexts or of these."""
    from faregate.entrypoints.http import run_api

    run_api(Settings(), contexts or ())


@app.command(epilog="Example: faregate work sequencer audit")
def work(
    roles: Annotated[
        list[str] | None, typer.Argument(help=f"All if none is named. {described(ROLES)}.")
    ] = None,
) -> None:
    """Run a worker process, in all roles or in these."""
    from faregate.entrypoints.worker import run_worker

    run_worker(Settings(), roles or ())


@app.command(epilog="Example: faregate relay")
def relay() -> None:
    """Run the relay of events to another bus as a process of its own: `faregate work relay`."""
    work(["relay"])


@app.command(epilog="Example: faregate sandbox --faults faults.json")
def sandbox(
    faults: Annotated[
        Path | None, typer.Option(help="JSON file with what goes wrong, and how often.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where executed calls are kept.")] = None,
) -> None:
    """Run the sandbox: the outside world's providers over real HTTP, with personas and faults."""
    from faregate.entrypoints.sandbox import read_faults, run_sandbox_process

    run_sandbox_process(Settings(), plan=read_faults(faults), data_dir=data_dir)
