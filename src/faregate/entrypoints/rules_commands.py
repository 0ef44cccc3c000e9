"""`faregate rules`: rulesets from the file to the roll-back. What is tried beside them is in `rules_trial_commands`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faregate.credit.contracts import TouchedDecision
from faregate.entrypoints.arguments import Reason, words
from faregate.entrypoints.output import Json, echo_json, print_rows
from faregate.entrypoints.rules_files import document_in, on_desk, ruleset_document, who
from faregate.entrypoints.rules_view import print_findings
from faregate.infra.settings import Settings

if TYPE_CHECKING:
    from faregate.credit.api import RulesetDesk
    from faregate.infra.database import Connection
    from faregate.rules.contracts import AuditEntry, ListedVersion, RolledBack

app = typer.Typer(
    no_args_is_help=True,
    help="Rulesets: publish, compare, activate, roll back, decide again, try beside the active one.",
    epilog="Example: faregate rules check my-rules.json",
)

Label = Annotated[str, typer.Argument(help="A published version, such as card-eligibility-2.")]
Name = Annotated[str, typer.Argument(help="The ruleset's name, such as card-eligibility.")]
Since = Annotated[datetime | None, typer.Option(help="Only from this instant on, in UTC.")]
By = Annotated[
    str | None, typer.Option(help="Who does it; unset: the user of this machine.", callback=words(100))
]

PAGE = 1_000
SHOWN = 20
"""How many decisions are printed for people; --json and --csv give all."""


@app.command("list", epilog="Example: faregate rules list --json")
def list_versions(
    name: Annotated[str | None, typer.Argument(help="Only this ruleset.")] = None, as_json: Json = False
) -> None:
    """List published versions, newest first, and which one decides."""
    found = on_desk(lambda desk, conn: _versions(desk, conn, name))
    rows = [{"ruleset": version.label, **asdict(version)} for version in found]
    shown = ("ruleset", "active_since", "published_at", "published_by")
    print_rows([{key: row[key] for key in shown} for row in rows], as_json=as_json)


@app.command("show", epilog="Example: faregate rules show card-eligibility-1 > rules.json")
def show(label: Label, as_json: Json = False) -> None:
    """Print a published ruleset as it was published; with --json on one line."""
    echo_json(on_desk(lambda desk, conn: desk.document(conn, label)), pretty=not as_json)


@app.command("check", epilog="Example: faregate rules check my-rules.json")
def check(
    file: Annotated[Path, typer.Argument(help="A ruleset as JSON.", exists=True, dir_okay=False)],
    as_json: Json = False,
) -> None:
    """Say all that can be said against a ruleset, without publishing it; exit 1 if it would be refused."""
    from faregate.entrypoints.bootstrap import rulesets

    findings = rulesets.check(document_in(file), Settings())
    is_refused = any(finding.severity == "error" for finding in findings)
    if as_json:
        documents = [finding.document() for finding in findings]
        echo_json({"may_be_published": not is_refused, "findings": documents})
    else:
        print_findings(findings)
        typer.echo("it would be refused" if is_refused else "it may be published")
    if is_refused:
        raise typer.Exit(1)


@app.command("publish", epilog="Example: faregate rules publish my-rules.json --reason 'income limit raised'")
def publish(
    file: Annotated[Path, typer.Argument(help="A ruleset as JSON.", exists=True, dir_okay=False)],
    reason: Reason,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Publish a ruleset under its name and version; it does not decide before it is activated."""
    document = document_in(file)
    published = on_desk(
        lambda desk, conn: desk.publish(conn, document, actor=who(by), reason=reason), is_act=True
    )
    if as_json:
        findings = [finding.document() for finding in published.findings]
        echo_json({"ruleset": published.version.label, **asdict(published.version), "findings": findings})
    else:
        print_findings(published.findings)
        typer.echo(f"published {published.version.label}")


@app.command("diff", epilog="Example: faregate rules diff card-eligibility-1 my-rules.json")
def diff(
    before: Annotated[str, typer.Argument(help="A published version, or a file.")],
    after: Annotated[str, typer.Argument(help="A published version, or a file.")],
    as_json: Json = False,
) -> None:
    """Show what differs between two rulesets: nodes, rows, cells, schemas and codes."""
    from faregate.rules.checks import check_document
    from faregate.rules.diff import RulesetDiff, diff_documents

    async def act(desk: RulesetDesk, conn: Connection) -> RulesetDiff:
        documents = [await ruleset_document(desk, conn, named) for named in (before, after)]
        for document in documents:
            check_document(document)
        return diff_documents(*documents)

    found = on_desk(act)
    if as_json:
        echo_json(found.document())
        return
    for difference in found.differences:
        typer.echo(difference.text)
    typer.echo(f"{len(found.differences)} differences from {found.before} to {found.after}")


@app.command(
    "activate", epilog="Example: faregate rules activate card-eligibility-2 --reason 'approved by risk'"
)
def activate(label: Label, reason: Reason, by: By = None, as_json: Json = False) -> None:
    """Let a published version decide, from now on."""
    act_and_show(lambda desk, conn: desk.activate(conn, label, actor=who(by), reason=reason), as_json=as_json)


@app.command(
    "rollback",
    epilog="Example: faregate rules rollback card-eligibility --reason 'denies everything' --csv decisions.csv",
)
def rollback(
    name: Name,
    reason: Reason,
    expected: Annotated[
        str | None, typer.Option(help="Do nothing unless this version is the active one.")
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write what it decided into this file.")
    ] = None,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Let the version before the active one decide again, in one step, and list what the bad one decided.

    A second roll-back goes on backwards: what was rolled back is never returned to.
    """

    async def act(desk: RulesetDesk, conn: Connection) -> tuple[RolledBack, Sequence[TouchedDecision]]:
        async with conn.transaction():  # committed before the list is read: it decides no more meanwhile
            rolled_back = await desk.roll_back(conn, name, expected=expected, actor=who(by), reason=reason)
        bad = f"{name}-{rolled_back.from_version}"
        return rolled_back, await _all_decisions(desk, conn, bad, since=rolled_back.since)

    if csv_file is not None:
        csv_file.touch()  # a file that cannot be written is said before anything is done
    done, decisions = on_desk(act)
    bad = f"{name}-{done.from_version}"
    if csv_file is not None:
        with csv_file.open("w", newline="", encoding="utf-8") as file:
            _write_csv(decisions, file)
    if as_json:
        echo_json({**asdict(done), "decisions": [asdict(decision) for decision in decisions]})
        return
    typer.echo(f"{bad} was active since {done.since.isoformat()}; {name}-{done.to_version} decides again")
    _print_decisions(decisions, label=bad)
    if decisions:
        typer.echo(f"decide them again: faregate rules redecide --ruleset {bad} --reason '…'")


@app.command("decisions", epilog="Example: faregate rules decisions card-eligibility-2 --csv > decisions.csv")
def decisions(
    label: Label,
    since: Since = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print all as CSV.")] = False,
    as_json: Json = False,
) -> None:
    """List the decisions that a version made; those of people are not among them."""

    async def act(desk: RulesetDesk, conn: Connection) -> Sequence[TouchedDecision]:
        await desk.document(conn, label)  # raises for a version that was never published
        return await _all_decisions(desk, conn, label, since=utc(since))

    found = on_desk(act)
    if as_csv:
        _write_csv(found, sys.stdout)
    elif as_json:
        echo_json([asdict(decision) for decision in found])
    else:
        _print_decisions(found, label=label)


@app.command("history", epilog="Example: faregate rules history card-eligibility --json")
def history(
    name: Name,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=10_000)] = 50,
    before: Annotated[int | None, typer.Option(help="Continue before this entry.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Show what was done under a name, by whom and why, newest first."""

    async def act(desk: RulesetDesk, conn: Connection) -> Sequence[AuditEntry]:
        await _versions(desk, conn, name)
        return await desk.history(conn, name, before_id=before, limit=limit)

    found = on_desk(act)
    if as_json:
        echo_json([asdict(entry) for entry in found])
        return
    for entry in found:
        version = f"{name}-{entry.version}" if entry.version else name
        details = ", ".join(f"{key} {value}" for key, value in entry.details.items())
        at = entry.at.isoformat(timespec="seconds")
        typer.echo(f"{at}  {entry.action}  {version}  by {entry.actor}: {entry.reason or '-'}  ({details})")


def act_and_show(act: Callable[[RulesetDesk, Connection], Awaitable[Any]], *, as_json: bool) -> None:
    """Do something in a transaction, then show what decides, watches and challenges."""
    print_rows([asdict(on_desk(act, is_act=True))], as_json=as_json)


def utc(instant: datetime | None) -> datetime | None:
    """Return an instant of the command line, which is in UTC unless it says otherwise."""
    return instant.replace(tzinfo=UTC) if instant is not None and instant.tzinfo is None else instant


async def _versions(desk: RulesetDesk, conn: Connection, name: str | None) -> Sequence[ListedVersion]:
    """Return the versions of a ruleset, or of all. Raises RulesetVersionNotFound for a name that has none."""
    from faregate.rules.store import RulesetVersionNotFound

    found = await desk.versions(conn, name=name)
    if name is not None and not found:
        raise RulesetVersionNotFound(f"nothing has been published as {name!r}: see `faregate rules list`")
    return found


async def _all_decisions(
    desk: RulesetDesk, conn: Connection, label: str, *, since: datetime | None
) -> Sequence[TouchedDecision]:
    found: list[TouchedDecision] = []
    after = ("", 0)
    while page := await desk.touched(conn, label, since=since, after=after, limit=PAGE):
        found += page
        after = (page[-1].application_id, page[-1].version)
    return found


def _print_decisions(found: Sequence[TouchedDecision], *, label: str) -> None:
    stands = sum(decision.version == decision.newest_version for decision in found)
    typer.echo(f"{label} made {len(found):,} decisions, {stands:,} of which still stand")
    for decision in found[:SHOWN]:
        now = f"now {decision.status.value}, version {decision.newest_version}"
        codes = ", ".join(decision.reason_codes)
        typer.echo(f"{decision.application_id}  {decision.outcome.value}  {codes}  ({now})")
    if len(found) > SHOWN:
        typer.echo(f"and {len(found) - SHOWN:,} more: faregate rules decisions {label} --csv")


def _row(decision: TouchedDecision) -> dict[str, Any]:
    return {
        **asdict(decision),
        "outcome": decision.outcome.value,
        "reason_codes": " ".join(decision.reason_codes),
        "decided_at": decision.decided_at.isoformat(),
        "status": decision.status.value,
    }


def _write_csv(found: Sequence[TouchedDecision], file: Any) -> None:
    columns = list(TouchedDecision.__dataclass_fields__)
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    writer.writerows(_row(decision) for decision in found)
