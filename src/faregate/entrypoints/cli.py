"""The `faregate` command. Each command reads its options and calls one function; errors end in one clear line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from faregate import __version__
from faregate.entrypoints import (
    archive_commands,
    audit_commands,
    bench_commands,
    chaos_commands,
    credit_commands,
    fairness_command,
    gateway_commands,
    notice_commands,
    operator_commands,
    review_commands,
    rules_trial_commands,
    system_commands,
    webhook_commands,
)
from faregate.infra.failures import line_of
from faregate.infra.lifetime import end_with_parent_if_asked
from faregate.infra.settings import Settings

app = typer.Typer(
    name="faregate",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="The open-source backbone of a card issuer: credit decisions, fraud scoring, travel loyalty.",
    epilog="Begin with [bold]faregate demo[/bold]; settings are shown by [bold]faregate config[/bold].",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


def main() -> None:
    """Run the command line; an expected error is one line on standard error and exit status 1.

    What nobody expects keeps its traceback. Usage errors are typer's own: exit status 2.
    """
    end_with_parent_if_asked()
    try:
        app()
    except Exception as error:
        line = line_of(error)
        if line is None:
            raise
        sys.stderr.write(f"faregate: {line}\n")
        raise SystemExit(1) from None


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


@app.command(epilog="Example: FAREGATE_API_PORT=8080 faregate serve")
def serve() -> None:
    """Run the API process."""
    from faregate.entrypoints.http import run_api

    run_api(Settings())


@app.command(epilog="Example: faregate work")
def work() -> None:
    """Run a worker process: events, workflows, provider calls, callbacks."""
    from faregate.entrypoints.worker import run_worker

    run_worker(Settings())


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


credit_commands.app.command(epilog="Example: faregate credit fairness --by age --plot ratios.png")(
    fairness_command.fairness
)
credit_commands.app.command(epilog="Example: faregate credit notices --due-within 7d")(
    notice_commands.notices
)
credit_commands.app.command(epilog="Example: faregate credit notice app_01J3R2J7F1TQ0K6W6N8A4X9V7R")(
    notice_commands.notice
)
app.add_typer(audit_commands.app, name="audit")
app.add_typer(credit_commands.app, name="credit")
app.add_typer(gateway_commands.app, name="gateway")
app.add_typer(rules_trial_commands.app, name="rules")
app.add_typer(review_commands.app, name="review")
app.add_typer(operator_commands.keys, name="keys")
app.add_typer(operator_commands.events, name="events")
app.add_typer(operator_commands.pii, name="pii")
app.add_typer(webhook_commands.app, name="webhooks")
app.add_typer(archive_commands.app, name="archive")
app.add_typer(bench_commands.app, name="bench", epilog="Example: faregate bench submit --json -")
app.add_typer(chaos_commands.app, name="chaos", epilog="Example: faregate chaos credit --minutes 5 --seed 7")
app.command(epilog="Example: faregate up --workers 1 --workers-max 4")(system_commands.up)
app.command(epilog="Example: faregate demo --applicants 200 --exit")(system_commands.demo)
