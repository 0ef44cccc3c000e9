"""`faregate credit`: look at applications, train the scorecard."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from faregate.entrypoints.fairness_command import fairness
from faregate.entrypoints.notice_commands import notice, notices
from faregate.entrypoints.output import Json, echo_json, print_rows
from faregate.entrypoints.servers import on_site, open_credit
from faregate.infra.settings import Settings

if TYPE_CHECKING:
    from faregate.entrypoints.bootstrap.site import Site

app = typer.Typer(
    no_args_is_help=True,
    help="Credit applications and their decisions.",
    epilog="Example: faregate credit counts",
)
app.command(epilog="Example: faregate credit fairness --by age --plot ratios.png")(fairness)
app.command(epilog="Example: faregate credit notices --due-within 7d")(notices)
app.command(epilog="Example: faregate credit notice app_01J3R2J7F1TQ0K6W6N8A4X9V7R")(notice)


@app.command("show", epilog="Example: faregate credit show app_01J3R2J7F1TQ0K6W6N8A4X9V7R")
def show(
    application_id: Annotated[str, typer.Argument(help="The id from the answer to the submission.")],
    as_json: Json = False,
) -> None:
    """Show where an application stands, what its checks found, and what was decided and why."""

    async def act(stack: AsyncExitStack, site: Site) -> dict[str, Any]:
        credit = await open_credit(stack, site)
        status = await credit.status(application_id=application_id, client_id=None)
        decision = await credit.newest_decision(application_id=application_id)
        return {
            "status": asdict(status),
            "signals": [asdict(s) for s in await credit.signals(application_id=application_id)],
            "decision": asdict(decision) if decision else None,
            "audit_trail": await credit.audit_trail(application_id=application_id),
        }

    found = on_site(act)
    if as_json:
        echo_json(found)
    else:
        _print(found, console=Console())


@app.command("counts", epilog="Example: faregate credit counts --json")
def counts(as_json: Json = False) -> None:
    """Show how many applications stand in each state."""

    async def act(stack: AsyncExitStack, site: Site) -> dict[str, int]:
        return dict(await (await open_credit(stack, site)).counts_by_status())

    found = on_site(act)
    if as_json:
        typer.echo(orjson.dumps(found).decode())
    else:
        for status, number in found.items():
            typer.echo(f"{status:15} {number:>10,}")


@app.command("checks", epilog="Example: faregate credit checks --json")
def checks(as_json: Json = False) -> None:
    """Show which checks each product needs; new runs follow it, those that have begun keep theirs."""
    from faregate.credit.store.artefacts import load_check_plans

    plans = load_check_plans(Settings().check_plans)
    rows: list[dict[str, object]] = [
        {"product": product, "check": check, "mandatory": planned.mandatory, "budget_s": planned.budget_s}
        for product, plan in {"(default)": plans.default, **plans.products}.items()
        for check, planned in plan.checks.items()
    ]
    print_rows(rows, as_json=as_json)


@app.command("train-scorecard", epilog="Example: faregate credit train-scorecard --out-dir /tmp/cards")
def train(
    csv: Annotated[
        Path | None, typer.Option(help="Rows like german_credit.csv; unset: the sample data.")
    ] = None,
    out_dir: Annotated[
        Path | None, typer.Option(help="Where to write; unset: the package's artefacts.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train the scorecards and print their cross-validated metrics and the outcomes on the sample."""
    from faregate.credit.store.scorecards import ARTEFACTS, SAMPLE
    from faregate.entrypoints.scorecard_command import train_scorecard

    if csv:
        _refuse_without_columns(csv)
    train_scorecard(csv or SAMPLE, out_dir=out_dir or ARTEFACTS, as_json=as_json)


def _refuse_without_columns(csv: Path) -> None:
    """Raise TableUnreadable for a file without rows, or without a column that the sample data has."""
    from faregate.credit.store.scorecards import SAMPLE, TableUnreadable, read_table

    rows = read_table(csv)
    if not rows:
        raise TableUnreadable(f"{csv} has no rows")
    if missing := [column for column in read_table(SAMPLE)[0] if column not in rows[0]]:
        raise TableUnreadable(f"{csv} lacks the columns {', '.join(missing)}")


def _print(found: dict[str, Any], *, console: Console) -> None:
    status, decision = found["status"], found["decision"]
    console.print(
        f"[bold]{status['application_id']}[/bold]  {status['status']}  last step: {status['latest_step']}"
    )
    signals = Table("check", "status", "provider", "request id", "facts", title="Signals")
    for signal in found["signals"]:
        facts = ", ".join(f"{name} {value}" for name, value in signal["facts"].items())
        request_id = signal["provider_request_id"]
        signals.add_row(signal["check"], signal["status"], signal["provider"], request_id, facts)
    console.print(signals)
    if decision is None:
        console.print("No decision yet.")
        return
    console.print(
        f"[bold]{decision['outcome']}[/bold]  risk score {decision['risk_score']}  "
        f"{', '.join(decision['reason_codes'])}  ({decision['ruleset_version']}, {decision['scorecard_version']})"
    )
    for reason in decision["adverse_action_reasons"]:
        console.print(f"  against it: {reason}")
