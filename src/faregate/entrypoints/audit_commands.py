"""`faregate audit`: what was decided and why, whether the record is whole, and whether it can be computed again."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from faregate.entrypoints.output import Json, echo_json
from faregate.entrypoints.servers import on_site, open_credit
from faregate.infra.chain.anchors import require_anchors
from faregate.infra.chain.check import require_links
from faregate.infra.eventlog import cloudevent, history

if TYPE_CHECKING:
    from faregate.entrypoints.bootstrap.site import Site

app = typer.Typer(
    no_args_is_help=True,
    help="The audit record: its chain, its traces, and the replay of decisions.",
    epilog="Example: faregate audit verify",
)
Anchors = Annotated[
    Path | None, typer.Option(help="File of anchors; unset: audit-anchors.jsonl in the home folder.")
]


@app.command("verify", epilog="Example: faregate audit verify --anchors /mnt/elsewhere/audit-anchors.jsonl")
def verify(anchors: Anchors = None, as_json: Json = False) -> None:
    """Walk along the audit chain; name the first row that is not as it was sealed, and exit 1 if there is one."""

    async def act(stack: AsyncExitStack, site: Site) -> dict[str, Any]:
        file = anchors and require_anchors(anchors)
        return asdict(await (await open_credit(stack, site)).audit.verify(anchor_file=file))

    report = on_site(act)
    broken = report["verification"]["broken"]
    if as_json:
        typer.echo(orjson.dumps(report).decode())
    else:
        typer.echo(
            f"{report['verification']['links']} links hold, {report['anchors']} anchors compared, "
            f"{report['unsealed']} rows not sealed yet (the oldest for {report['unsealed_s']:.1f} s)"
        )
        if broken:
            typer.echo(f"broken: {_line(broken)}")
    if broken:
        raise typer.Exit(1)


def _line(broken: dict[str, Any]) -> str:
    columns = f" ({', '.join(broken['columns'])})" if broken["columns"] else ""
    return f"{broken['table']} {broken['key']}{columns}: {broken['what']}"


@app.command("anchor", epilog="Example: faregate audit anchor --anchors /mnt/elsewhere/audit-anchors.jsonl")
def anchor(anchors: Anchors = None, as_json: Json = False) -> None:
    """Note the end of the audit chain in a file outside of the database, and print it."""

    async def act(stack: AsyncExitStack, site: Site) -> dict[str, Any]:
        noted = await (await open_credit(stack, site)).audit.anchor(anchor_file=anchors)
        return asdict(require_links(noted))

    noted = on_site(act)
    if as_json:
        typer.echo(orjson.dumps(noted).decode())
    else:
        typer.echo(
            f"link {noted['seq']}  {noted['sha256']}  {noted['anchored_at'].isoformat(timespec='seconds')}"
        )


@app.command("status", epilog="Example: faregate audit status --json")
def status(as_json: Json = False) -> None:
    """Show where the audit chain ends, what waits to be sealed, and what the last verification found."""

    async def act(stack: AsyncExitStack, site: Site) -> dict[str, Any]:
        return asdict(await (await open_credit(stack, site)).audit.status())

    found = on_site(act)
    if as_json:
        typer.echo(orjson.dumps(found).decode())
        return
    typer.echo(f"{found['links']} links, the last one {found['sha256']}")
    typer.echo(f"{found['unsealed']} rows not sealed yet, the oldest for {found['unsealed_s']:.1f} s")
    last = found["last_verification"]
    outcome = (
        "never"
        if last is None
        else _line(last["broken"])
        if last["broken"]
        else f"{last['links']} links held"
    )
    typer.echo(
        f"last verified: {outcome}{'' if last is None else last['at'].strftime(' at %Y-%m-%d %H:%M:%S UTC')}"
    )


@app.command("show", epilog="Example: faregate audit show app_01J3R2J7F1TQ0K6W6N8A4X9V7R")
def show(
    application_id: Annotated[str, typer.Argument(help="The id from the answer to the submission.")],
    as_json: Json = False,
) -> None:
    """Show all that is recorded of an application: inputs, rules, scores and versions of each decision, and its events.

    Events that were moved to cold storage are read there.
    """

    from faregate.entrypoints.bootstrap.archive import cold_events

    async def act(stack: AsyncExitStack, site: Site) -> dict[str, Any]:
        found = asdict(await (await open_credit(stack, site)).audit.trace(application_id=application_id))
        log, cold = await site.database(stack, "eventlog", connections_max=1), cold_events(site.settings)
        events = [cloudevent(event) async for event in history(log, cold, key=application_id)]
        return {**found, "events": events}

    found = on_site(act)
    if as_json:
        echo_json(found)
    else:
        _print(found, console=Console())


@app.command("replay", epilog="Example: faregate audit replay --json")
def replay(
    application_id: Annotated[str | None, typer.Argument(help="Only this application.")] = None,
    as_json: Json = False,
) -> None:
    """Recompute decisions from their recorded inputs and versions; exit 1 if one comes out differently."""

    async def act(stack: AsyncExitStack, site: Site) -> dict[str, Any]:
        credit = await open_credit(stack, site)
        if application_id is not None:
            await credit.status(application_id=application_id, client_id=None)  # raises where there is none
        return asdict(await credit.replay(application_id=application_id))

    report = on_site(act)
    if as_json:
        typer.echo(orjson.dumps(report).decode())
    else:
        typer.echo(
            f"{report['replayed']} decisions replayed, {len(report['different'])} came out differently"
        )
        for name in report["different"]:
            typer.echo(f"  {name}")
    if report["different"]:
        raise typer.Exit(1)


def _print(found: dict[str, Any], *, console: Console) -> None:
    application = found["application"]
    console.print(f"[bold]{application['application_id']}[/bold]  {application['status']}")
    entries = Table("link", "at", "who", "what", title="What happened")
    for entry in found["entries"]:
        entries.add_row(_seq(entry), f"{entry['at']:%Y-%m-%d %H:%M:%S}", entry["actor"], entry["action"])
    console.print(entries)
    events = Table("seq", "at", "event", title="What was published")
    for event in found["events"]:
        events.add_row(str(int(event["sequence"])), event["time"][:19].replace("T", " "), event["type"])
    console.print(events)
    requests = Table("request", "state", "sends", "look-ups", "why", title="What providers were asked")
    for asked in found["requests"]:
        counts = str(asked["sends"]), str(asked["looks"])
        requests.add_row(asked["provider_request_id"], asked["state"], *counts, asked["reason"] or "")
    console.print(requests)
    for decision in found["decisions"]:
        _print_decision(decision, console=console)
    for notice in found["notices"]:
        sent = (
            f"sent {notice['sent_at']:%Y-%m-%d} by {notice['sent_by']}" if notice["sent_at"] else "not sent"
        )
        console.print(
            f"Notice for version {notice['decision_version']}: due {notice['due_at']:%Y-%m-%d}, {sent}"
        )


def _print_decision(decision: dict[str, Any], *, console: Console) -> None:
    trace = decision["result"]["trace"]
    card, rules = trace["scorecard"], trace["ruleset"]
    console.print(
        f"\n[bold]Version {decision['version']}: {decision['outcome']}[/bold]  risk score {decision['risk_score']}  "
        f"{', '.join(decision['reason_codes'])}  (link {_seq(decision)})"
    )
    console.print(
        f"  rules {rules['version']}, SHA-256 {rules['sha256']}, codes {decision['code_set_version']}"
    )
    console.print(f"  card {card['version']}, SHA-256 {card['sha256']}, {card['points']} points")
    console.print(f"  inputs SHA-256 {decision['inputs_sha256']}")
    if (revision := decision["inputs"].get("revision")) is not None:
        console.print(f"  revises what was {revision['status_before']}, by {revision['by']}")
    facts = {**decision["inputs"]["application"], **decision["inputs"]["facts"]}
    inputs = Table("fact", "value", "points")
    for name, value in facts.items():
        inputs.add_row(name, str(value), str(card["contributions"].get(name, "")))
    console.print(inputs)
    for node in rules["nodes"]:
        if "rules" in node:
            console.print(f"  {node['node']}: {', '.join(node['rules']) or 'no rule'}")
    for reason in decision["adverse_action_reasons"]:
        console.print(f"  against it: {reason['wording']}")


def _seq(row: dict[str, Any]) -> str:
    return "not sealed" if row["seq"] is None else str(row["seq"])
