"""`faregate rules redecide|shadow|split|backtest`: put decisions right, and try a ruleset before it decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faregate.entrypoints.arguments import Reason
from faregate.entrypoints.output import Json, echo_json, print_rows
from faregate.entrypoints.rules_commands import (
    By,
    Label,
    Name,
    Since,
    act_and_show,
    app,
    utc,
)
from faregate.entrypoints.rules_files import on_desk, ruleset_document, who
from faregate.entrypoints.rules_view import print_comparison, print_matrix

if TYPE_CHECKING:
    from faregate.credit.api import RulesetDesk
    from faregate.infra.database import Connection

shadow = typer.Typer(
    no_args_is_help=True,
    help="A version that watches: evaluated beside the active one, deciding nothing.",
    epilog="Example: faregate rules shadow report card-eligibility",
)
split = typer.Typer(
    no_args_is_help=True,
    help="A version that challenges: it decides a share of the applications, always the same ones.",
    epilog="Example: faregate rules split report card-eligibility",
)
app.add_typer(shadow, name="shadow")
app.add_typer(split, name="split")

ITEMS_SHOWN = 20
ITEMS_PAGE = 1_000
PERCENT_BASIS_POINTS = 100


@app.command(
    "redecide",
    epilog="Example: faregate rules redecide --ruleset card-eligibility-2 --reason 'cents' --apply",
)
def redecide(
    ruleset: Annotated[str, typer.Option(help="The version whose decisions are decided again.")],
    reason: Reason,
    apply: Annotated[
        bool, typer.Option("--apply", help="Apply the newest report instead of making one.")
    ] = False,
    report: Annotated[str | None, typer.Option(help="Apply, or go on with, this report.")] = None,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Report what the active version makes of another version's decisions; with --apply, do what was reported.

    No provider is asked: the inputs are those that each decision recorded. Better answers, other reasons, denials of
    what was not approved, and whatever goes to review are applied. An approval is never taken back: the application
    goes to review. What was decided by somebody else since the report is skipped. Interrupted, it goes on.
    """

    async def act(desk: RulesetDesk, conn: Connection) -> dict[str, Any]:
        if apply:
            chosen = await _report_to_apply(desk, conn, ruleset, report)
            return await _applied(desk, conn, chosen, actor=who(by), reason=reason)
        made = await _complete_report(desk, conn, ruleset, report, actor=who(by), reason=reason)
        return await _reported(desk, conn, made)

    found = on_desk(act)
    if as_json:
        echo_json(found)
    elif apply:
        typer.echo(f"{found['id']}: {found['applied']} applied, {found['skipped']} skipped")
    else:
        _print_report(found)


@shadow.command(
    "start", epilog="Example: faregate rules shadow start card-eligibility-3 --reason 'next month'"
)
def start_shadow(label: Label, reason: Reason, by: By = None, as_json: Json = False) -> None:
    """Let a published version watch."""
    act_and_show(
        lambda desk, conn: desk.start_shadow(conn, label, actor=who(by), reason=reason), as_json=as_json
    )


@shadow.command("stop", epilog="Example: faregate rules shadow stop card-eligibility --reason 'seen enough'")
def stop_shadow(name: Name, reason: Reason, by: By = None, as_json: Json = False) -> None:
    """Let nothing watch any more; what was recorded stays."""
    act_and_show(
        lambda desk, conn: desk.stop_shadow(conn, name, actor=who(by), reason=reason), as_json=as_json
    )


@shadow.command("report", epilog="Example: faregate rules shadow report card-eligibility --json")
def shadow_report(
    name: Name,
    version: Annotated[
        str | None, typer.Option(help="A version that watched; unset: the one that does.")
    ] = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(help="Differing applications at most.", min=0, max=10_000)] = 20,
    as_json: Json = False,
) -> None:
    """Show how far the shadow agrees with what was decided: rates, matrix, and where it differs."""
    found = on_desk(
        lambda desk, conn: desk.shadow_report(conn, name, label=version, since=utc(since), limit=limit)
    )
    if as_json:
        echo_json({"ruleset_version": found.about, **found.document})
        return
    typer.echo(f"{found.about} watched {found.document['watched']:,} decisions")
    if found.document["watched"]:
        typer.echo(
            f"same answer {found.document['agreement_rate']:.1%}, "
            f"same outcome {found.document['same_outcome_rate']:.1%}, errors {found.document['errors']:,}"
        )
        print_matrix(found.document["matrix"])
    for line in found.document["differing"]:
        answer = line["error"] or f"{line['outcome']} {', '.join(line['reason_codes'])}"
        decided = f"{line['decided']} {', '.join(line['decided_reason_codes'])}"
        typer.echo(f"{line['application_id']}  {decided} → {answer}")


@split.command(
    "set", epilog="Example: faregate rules split set card-eligibility-3 --percent 5 --reason 'trial'"
)
def set_split(
    label: Label,
    percent: Annotated[float, typer.Option(help="Share that it decides.", min=0.01, max=100.0)],
    reason: Reason,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Let a published version decide a share of the applications; the share may be changed at any time."""
    basis_points = round(percent * PERCENT_BASIS_POINTS)
    act_and_show(
        lambda desk, conn: desk.set_split(
            conn, label, basis_points=basis_points, actor=who(by), reason=reason
        ),
        as_json=as_json,
    )


@split.command("stop", epilog="Example: faregate rules split stop card-eligibility --reason 'seen enough'")
def stop_split(name: Name, reason: Reason, by: By = None, as_json: Json = False) -> None:
    """Let the active version decide alone again; what the challenger decided stays."""
    act_and_show(
        lambda desk, conn: desk.stop_split(conn, name, actor=who(by), reason=reason), as_json=as_json
    )


@split.command("report", epilog="Example: faregate rules split report card-eligibility --json")
def split_report(
    name: Name,
    version: Annotated[
        str | None, typer.Option(help="A version that challenged; unset: the one that does.")
    ] = None,
    since: Since = None,
    as_json: Json = False,
) -> None:
    """Show what champion and challenger decided."""
    found = on_desk(lambda desk, conn: desk.split_report(conn, name, label=version, since=utc(since)))
    if as_json:
        echo_json({"challenger_version": found.about, **found.document})
        return
    typer.echo(f"challenger {found.about}")
    print_rows(found.document["arms"], as_json=False)


@app.command(
    "backtest", epilog="Example: faregate rules backtest my-rules.json --since 2026-10-01 --percent 10"
)
def backtest(
    candidate: Annotated[str, typer.Argument(help="A published version, or a file.")],
    since: Since = None,
    until: Annotated[datetime | None, typer.Option(help="Only before this instant, in UTC.")] = None,
    percent: Annotated[
        float, typer.Option(help="Share of the applications, always the same ones.", min=0.01, max=100.0)
    ] = 100.0,
    as_json: Json = False,
) -> None:
    """Show what a ruleset would have decided: each application's first decision, on its recorded inputs."""
    from faregate.credit.api import Period

    period = Period.of(since=utc(since), until=utc(until), basis_points=round(percent * PERCENT_BASIS_POINTS))

    async def act(desk: RulesetDesk, conn: Connection) -> dict[str, Any]:
        ruleset = desk.compiled_document(await ruleset_document(desk, conn, candidate))
        found = await desk.backtest(
            ruleset, period=period, on_progress=lambda n: typer.echo(f"{n:,} decisions", err=True)
        )
        return found.document()

    found = on_desk(act)
    if as_json:
        echo_json(found)
    else:
        typer.echo(f"candidate {found['candidate']}")
        print_comparison(found)


async def _complete_report(
    desk: RulesetDesk, conn: Connection, ruleset: str, report: str | None, *, actor: str, reason: str
) -> str:
    """Make a report, or finish the named one, page by page; return its id."""
    if report is not None:
        made = await desk.redecider.report(conn, report)
    else:
        async with conn.transaction():
            made = await desk.redecider.begin(conn, ruleset_version=ruleset, actor=actor, reason=reason)
    while not made.is_complete:
        async with conn.transaction():
            made = await desk.redecider.report_page(conn, made.id)
        typer.echo(f"{made.id}: reported up to {made.reported_to or 'the end'}", err=True)
    return made.id


async def _reported(desk: RulesetDesk, conn: Connection, redecision_id: str) -> dict[str, Any]:
    report, items, after = await desk.redecider.report(conn, redecision_id), [], ""
    while page := await desk.redecider.items(
        conn, report.id, only_changed=True, after_id=after, limit=ITEMS_PAGE
    ):
        items += [asdict(item) for item in page]
        after = page[-1].application_id
    counts = list(await desk.redecider.counts(conn, report.id))
    return {**asdict(report), "counts": counts, "changes": items}


def _print_report(found: Mapping[str, Any]) -> None:
    typer.echo(f"{found['id']}: {found['ruleset_version']} held against {found['target_version']}")
    print_rows(found["counts"], as_json=False)
    for item in found["changes"][:ITEMS_SHOWN]:
        before, after = item["before"], item["after"]
        typer.echo(
            f"{item['application_id']}  {before['outcome']} → {after['outcome']}  "
            f"score {before['risk_score']} → {after['risk_score']}  "
            f"{', '.join(before['reason_codes'])} → {', '.join(after['reason_codes'])}"
        )
    if len(found["changes"]) > ITEMS_SHOWN:
        typer.echo(f"and {len(found['changes']) - ITEMS_SHOWN:,} more: --json shows all")
    command = f"faregate rules redecide --ruleset {found['ruleset_version']} --reason '…' --apply"
    typer.echo(f"nothing was changed; apply it: {command}")


async def _report_to_apply(desk: RulesetDesk, conn: Connection, ruleset: str, report: str | None) -> str:
    """Return the named report, or the newest one on the version. Raises RedecisionNotFound."""
    from faregate.credit.api import RedecisionNotFound

    if report is not None:
        return report
    found = await desk.redecider.reports(conn, ruleset_version=ruleset, limit=1)
    if not found:
        raise RedecisionNotFound(f"there is no report on {ruleset}: make one without --apply and read it")
    return found[0].id


async def _applied(
    desk: RulesetDesk, conn: Connection, redecision_id: str, *, actor: str, reason: str
) -> dict[str, Any]:
    """Apply a report in batches, each in its own transaction; return what they did together."""
    applied = skipped = 0
    pending = 1
    while pending:
        async with conn.transaction():
            done = await desk.redecider.apply_batch(conn, redecision_id, actor=actor, reason=reason)
        applied, skipped, pending = applied + done.applied, skipped + done.skipped, done.pending
        typer.echo(f"{done.applied} applied, {done.skipped} skipped, {pending} to come", err=True)
    return {"id": redecision_id, "applied": applied, "skipped": skipped}


__all__ = ["app"]
